import type { Binding } from "./credential.ts";
import { Masker, shortestSecret } from "./masker.ts";
import { type CredentialSource, sourceError } from "./source.ts";

interface Kept {
  readonly value: Buffer;
  readonly expires: number;
}

/** Every earlier value is still masked: a server may echo what a request carried before it was refreshed. */
const maskedGenerations = 16;

/** The values of one gate's credentials while it lives. */
export class SecretVault {
  readonly #kept = new Map<string, Kept>();
  readonly #reading = new Map<string, Promise<Buffer>>();
  readonly #masked: Buffer[] = [];
  #masker: Masker = new Masker([]);

  /**
   * The value of a credential, from its source when it is not kept or has expired.
   *
   * @throws GateError of the source, or `ERR_NONO_CREDENTIAL_INVALID` for a value too short to be scrubbed
   */
  async value({ name, source }: Pick<Binding, "name" | "source">): Promise<Buffer> {
    const kept = this.#kept.get(name);
    if (kept && kept.expires > Date.now()) return kept.value;
    let reading = this.#reading.get(name);
    if (!reading) {
      reading = this.#read(name, source).finally(() => this.#reading.delete(name));
      this.#reading.set(name, reading);
    }
    return reading;
  }

  /** Forgets the kept value, so that the next use asks the source. */
  expire(name: string): void {
    const kept = this.#kept.get(name);
    this.#kept.delete(name);
    // Not at once: somebody may have been given it in this very turn, and use it in the next microtask. A source may
    // give the same bytes again.
    setImmediate(() => {
      if (kept && this.#kept.get(name)?.value !== kept.value) kept.value.fill(0);
    });
  }

  /** Values that must not come back: those read, and those derived from them (access tokens). */
  mask(secret: Buffer): void {
    if (this.#masked.some((known) => known.equals(secret))) return;
    this.#masked.push(Buffer.from(secret));
    if (this.#masked.length > maskedGenerations * Math.max(1, this.#kept.size)) {
      this.#masked.shift()?.fill(0);
    }
    this.#masker = new Masker(this.#masked);
  }

  get masker(): Masker {
    return this.#masker;
  }

  /** Overwrites every value with zeroes. */
  wipe(): void {
    for (const { value } of this.#kept.values()) value.fill(0);
    for (const value of this.#masked) value.fill(0);
    this.#masker.wipe();
    this.#kept.clear();
    this.#masked.length = 0;
    this.#masker = new Masker([]);
  }

  async #read(name: string, source: CredentialSource): Promise<Buffer> {
    const value = await source.read();
    if (value.length < shortestSecret) {
      value.fill(0);
      throw sourceError(
        "ERR_NONO_CREDENTIAL_INVALID",
        `The value of ${name} (${source.description}) is shorter than ${shortestSecret} bytes and cannot be scrubbed.`,
        "Use a longer secret.",
      );
    }
    this.expire(name);
    this.#kept.set(name, { value, expires: Date.now() + (source.ttl ?? Number.POSITIVE_INFINITY) });
    return value;
  }
}
