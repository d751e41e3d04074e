import type { Binding } from "./credential.ts";
import { Masker, shortestSecret } from "./masker.ts";
import { SingleFlight } from "./single-flight.ts";
import { type CredentialSource, sourceError } from "./source.ts";

interface Kept {
  readonly value: Buffer;
  readonly expires: number;
}

/**
 * Secrets of one credential that are masked, the latest: a server may echo what a request carried before it was refreshed.
 * OAuth has three at a time. However often one credential changes, the others stay masked.
 */
const maskedOfOne = 48;

/** The values of one gate's credentials while it lives. */
export class SecretVault {
  readonly #kept = new Map<string, Kept>();
  readonly #reading = new SingleFlight<Buffer>();
  readonly #masked = new Map<string, Buffer[]>();
  #masker: Masker = new Masker([]);

  /**
   * The value of a credential, from its source when it is not kept or has expired.
   *
   * @throws GateError of the source, or `ERR_NONO_CREDENTIAL_INVALID` for a value too short to be scrubbed
   */
  async value({ name, source }: Pick<Binding, "name" | "source">): Promise<Buffer> {
    const kept = this.#kept.get(name);
    if (kept && kept.expires > Date.now()) return kept.value;
    return this.#reading.run(name, () => this.#read(name, source));
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

  /** Values of a credential that must not come back: those read, and those derived from them (access tokens). */
  mask(name: string, secret: Buffer): void {
    const masked = this.#masked.get(name) ?? [];
    const known = masked.findIndex((other) => other.equals(secret));
    // What is in use is the last to go.
    masked.push(known < 0 ? Buffer.from(secret) : (masked.splice(known, 1)[0] as Buffer));
    this.#masked.set(name, masked);
    if (known >= 0) return;
    if (masked.length > maskedOfOne) masked.shift();
    this.#masker = new Masker([...this.#masked.values()].flat());
  }

  get masker(): Masker {
    return this.#masker;
  }

  /** Overwrites every value with zeroes. */
  wipe(): void {
    for (const { value } of this.#kept.values()) value.fill(0);
    for (const value of [...this.#masked.values()].flat()) value.fill(0);
    this.#masker.wipe();
    this.#kept.clear();
    this.#masked.clear();
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
