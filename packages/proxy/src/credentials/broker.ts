import type { Readable } from "node:stream";
import { GateError } from "../errors.ts";
import type { Recorder } from "../event.ts";
import { type FlatHeaders, withoutFields } from "../http/headers.ts";
import type { Destination } from "../http/request-target.ts";
import { innerCodingRequests, knownCodings } from "../http/content-coding.ts";
import {
  type Binding,
  type CredentialConfig,
  type CredentialPlace,
  boundTo,
  parseBinding,
} from "./credential.ts";
import type { MaskingStream } from "./masker.ts";
import { AccessTokens } from "./oauth2.ts";
import { guessShape, makeAwsPhantom, makePhantom } from "./phantom.ts";
import type { StreamReplacer } from "./pattern-set.ts";
import { type Phantom, PhantomSwap, phantomMisplaced, phantomMisused } from "./phantom-swap.ts";
import { applyScheme } from "./schemes.ts";
import { parseKeys, resign } from "./sigv4-resign.ts";
import { SecretVault } from "./vault.ts";

/** A request before credentials. */
export interface RequestDraft {
  readonly method: string;
  readonly path: string;
  readonly headers: FlatHeaders;
  readonly body: Readable | undefined;
  /** Whether the client waits with its body until it is told to send it (RFC 9110 section 10.1.1). */
  readonly expectsContinue?: boolean;
  /** Tells it. */
  sendBody?(): void;
}

/** A request with credentials, and what must be done to its answer. */
export interface Injection {
  readonly path: string;
  readonly headers: FlatHeaders;
  readonly body: Readable | undefined;
  /** Whether the server is to be asked before the client sends the body. */
  readonly expectsContinue: boolean;
  /** Builds the request again with values freshly read; undefined result: nothing new was found. */
  readonly refresh: (() => Promise<Injection | undefined>) | undefined;
  /** The request's trailers with values for phantoms. @throws GateError `ERR_NONO_PHANTOM_MISUSED` */
  editTrailers(trailers: FlatHeaders): FlatHeaders;
  /** Masks header fields, names and values alike, and whatever else is short. */
  scrubTexts(texts: string[]): string[];
  scrubTrailers(trailers: Record<string, string | string[] | undefined>): Record<string, string>;
  scrubber(): MaskingStream | undefined;
}

/**
 * Milliseconds: a program that collects 401s must not make a source (a command, a prompt, a token endpoint) work for each
 * of them, whether or not it gives something new every time.
 */
const refreshedFor = 30_000;

interface Bound {
  readonly binding: Binding;
  readonly phantom: Phantom;
}

/** Gives requests their credentials and takes them out of the answers. */
export class CredentialBroker {
  readonly #recorder: Recorder;
  readonly #bound: readonly Bound[];
  readonly #env: Record<string, string> = {};
  readonly #vault = new SecretVault();
  readonly #accessTokens: AccessTokens;
  readonly #swap: PhantomSwap;
  /** When a source was last asked again after a 401. */
  readonly #refreshed = new Map<string, number>();

  /** @throws GateError `ERR_NONO_INVALID_OPTION` */
  constructor(
    configs: readonly CredentialConfig[],
    recorder: Recorder,
    fetchToken: ConstructorParameters<typeof AccessTokens>[0],
  ) {
    this.#recorder = recorder;
    this.#accessTokens = new AccessTokens(fetchToken);
    this.#bound = configs.map((config) => {
      const binding = parseBinding(config);
      return { binding, phantom: this.#newPhantom(config, binding) };
    });
    const names = this.#bound.map(({ binding }) => binding.name);
    const repeated = names.find((name, i) => names.indexOf(name) !== i);
    if (repeated !== undefined) {
      throw new GateError("ERR_NONO_INVALID_OPTION", `Two credentials are named ${repeated}.`, {
        value: repeated,
      });
    }
    this.#swap = new PhantomSwap(this.#bound.map(({ phantom }) => phantom));
  }

  #newPhantom(config: CredentialConfig, binding: Binding): Phantom {
    if (binding.scheme.type === "aws-sigv4") {
      const { accessKeyId, secretAccessKey } = makeAwsPhantom();
      this.#env["AWS_ACCESS_KEY_ID"] = accessKeyId;
      this.#env["AWS_SECRET_ACCESS_KEY"] = secretAccessKey;
      return { name: binding.name, text: accessKeyId };
    }
    const shape = config.shape ?? guessShape(config.name, [config.proxyTo].flat());
    const text = makePhantom(shape);
    this.#env[binding.name] = text;
    return { name: binding.name, text };
  }

  /** The phantoms, under the names that tools look for. */
  env(): Record<string, string> {
    return { ...this.#env };
  }

  get isEmpty(): boolean {
    return this.#bound.length === 0;
  }

  /** Whether requests to this server may carry a credential. */
  covers({ endpoint }: Pick<Destination, "endpoint">): boolean {
    return this.#bound.some(
      ({ binding }) => boundTo(binding, endpoint, true) || boundTo(binding, endpoint, false),
    );
  }

  /**
   * @throws GateError `ERR_NONO_PHANTOM_MISUSED` when a phantom goes where its credential does not,
   *   or the source's error
   */
  async prepare(destination: Destination, draft: RequestDraft): Promise<Injection> {
    const { endpoint, secure } = destination;
    const here = this.#bound.filter(({ binding }) => boundTo(binding, endpoint, secure));
    if (this.isEmpty) return passing(draft);
    const used = new Set([
      ...this.#found(this.#swap.find(draft.path, []), "target", here, endpoint.host.text),
      ...this.#found(this.#swap.find("", draft.headers), "header", here, endpoint.host.text),
    ]);
    if (here.length === 0) {
      const body =
        draft.body && this.#swap.guardBody(draft.body, draft.headers, endpoint.host.text);
      const editTrailers = (trailers: FlatHeaders): FlatHeaders => {
        const [found] = this.#swap.find("", trailers);
        if (found !== undefined) throw phantomMisused(found, endpoint.host.text);
        return trailers;
      };
      return { ...passing(draft), body, editTrailers };
    }
    const [first] = here;
    // The phantoms that the client sent say which credentials it means; sending none means the first.
    const meant = here.filter(({ binding }) => used.has(binding.name));
    const chosen = meant.length > 0 || !first ? meant : [first];
    return this.#inject(destination, draft, here, chosen);
  }

  /**
   * The credentials whose phantoms were found in a place.
   *
   * @throws GateError `ERR_NONO_PHANTOM_MISUSED` unless each belongs there
   */
  #found(names: string[], place: CredentialPlace, here: readonly Bound[], host: string): string[] {
    const stray = names.find((name) => !this.#belongs(name, place, here));
    if (stray !== undefined) throw this.#misuse(stray, place, here, host);
    return names;
  }

  #belongs(name: string, place: CredentialPlace, here: readonly Bound[]): boolean {
    return here.some(({ binding }) => binding.name === name && binding.places.includes(place));
  }

  #misuse(name: string, place: CredentialPlace, here: readonly Bound[], host: string): GateError {
    const bound = here.some(({ binding }) => binding.name === name);
    return bound ? phantomMisplaced(name, host, place) : phantomMisused(name, host);
  }

  async #inject(
    destination: Destination,
    draft: RequestDraft,
    here: readonly Bound[],
    chosen: readonly Bound[],
  ): Promise<Injection> {
    const { host } = destination.endpoint;
    const values = new Map<string, string>();
    // Every credential of this host may stand in the body, which is not known yet.
    for (const { binding } of draft.body ? here : chosen) {
      values.set(binding.name, await this.#valueOf(binding));
    }
    let { path, headers } = draft;
    // What AWS signs is left alone; its secret key never travels, so it cannot be fetched in halves either.
    if (!chosen.some(({ binding }) => binding.scheme.type === "aws-sigv4")) {
      const unasked = ["range", "if-range", "accept-encoding", ...innerCodingRequests];
      headers = withoutFields(headers, unasked);
      headers = [...headers, "accept-encoding", acceptable(draft.headers)];
    }
    const swapped = replacing(here, values);
    ({ path, headers } = this.#swap.replace(path, headers, swapped));
    let { body, expectsContinue = false } = draft;
    /** Where the whole body must be here before a word can be sent on, the client is told to send it. */
    const awaitBody = (): void => {
      if (expectsContinue) draft.sendBody?.();
      expectsContinue = false;
    };
    for (const { binding } of chosen) {
      const value = values.get(binding.name) ?? "";
      ({ path, headers, body } =
        binding.scheme.type === "aws-sigv4"
          ? await resign(
              { ...draft, path, headers, body, sendBody: awaitBody },
              destination.endpoint,
              value,
            )
          : { ...applyScheme(binding.scheme, value, { path, headers }), body });
      await this.#recorder.intent({
        type: "credential.inject",
        phase: "intent",
        decision: "allow",
        object: { name: binding.name, host: host.text, scheme: binding.scheme.type },
      });
    }
    if (body && body === draft.body) {
      const allowed = [...swapped].filter(([name]) => this.#belongs(name, "body", here));
      const refuse = (name: string): GateError => this.#misuse(name, "body", here, host.text);
      const how = { refuse, awaitBody };
      ({ body, headers } = await this.#swap.replaceBody(body, headers, new Map(allowed), how));
    }
    const refresh = async (): Promise<Injection | undefined> => {
      const before = [...values.values()].join("\n");
      for (const { binding } of chosen) this.#expire(binding.name);
      const again = await Promise.all(chosen.map(({ binding }) => this.#valueOf(binding)));
      return again.join("\n") === before
        ? undefined
        : this.#inject(destination, draft, here, chosen);
    };
    const due = chosen.every(({ binding }) => this.#mayRefresh(binding.name));
    const editTrailers = (trailers: FlatHeaders): FlatHeaders => {
      this.#found(this.#swap.find("", trailers), "header", here, host.text);
      return this.#swap.replace("", trailers, swapped).headers;
    };
    return {
      path,
      headers,
      body,
      expectsContinue,
      refresh: due ? refresh : undefined,
      editTrailers,
      ...this.#scrubbing(),
    };
  }

  #mayRefresh(name: string): boolean {
    return Date.now() - (this.#refreshed.get(name) ?? -Infinity) > refreshedFor;
  }

  /** The next use asks the source, unless another request has just had it asked. */
  #expire(name: string): void {
    if (!this.#mayRefresh(name)) return;
    this.#refreshed.set(name, Date.now());
    this.#vault.expire(name);
    this.#accessTokens.expire(name);
  }

  async #valueOf(binding: Binding): Promise<string> {
    const stored = (await this.#vault.value(binding)).toString("utf8");
    if (binding.scheme.type === "oauth2") {
      const { token, secrets } = await this.#accessTokens.obtain(
        binding.name,
        binding.scheme,
        stored,
      );
      for (const secret of [token, ...secrets]) this.#vault.mask(binding.name, Buffer.from(secret));
      return token;
    }
    for (const secret of secretsIn(binding, stored)) {
      this.#vault.mask(binding.name, Buffer.from(secret));
    }
    return stored;
  }

  #scrubbing(): Pick<Injection, "scrubTexts" | "scrubTrailers" | "scrubber"> {
    const { masker } = this.#vault;
    return {
      scrubTexts: (texts) => masker.texts(texts),
      scrubTrailers: (trailers) => plainTrailers(trailers, (texts) => masker.texts(texts)),
      scrubber: () => masker.stream(),
    };
  }

  /** What edits the messages of a WebSocket to this server, on their way there. */
  async messages({ endpoint, secure }: Destination): Promise<() => StreamReplacer> {
    const here = this.#bound.filter(({ binding }) => boundTo(binding, endpoint, secure));
    const values = new Map<string, string>();
    for (const { binding } of here) {
      if (binding.places.includes("body")) values.set(binding.name, await this.#valueOf(binding));
    }
    const swapped = replacing(here, values);
    const refuse = (name: string): GateError =>
      this.#misuse(name, "body", here, endpoint.host.text);
    return () => this.#swap.messageReplacer(swapped, refuse);
  }

  /** The masking of everything that has been injected so far. */
  masking(): MaskingStream {
    return this.#vault.masker.stream();
  }

  /** Zeroes every value. */
  close(): void {
    this.#vault.wipe();
    this.#accessTokens.clear();
  }
}

/** The values that may stand where phantoms stood: of a key pair of AWS nothing ever travels but signatures. */
function replacing(
  here: readonly Bound[],
  values: ReadonlyMap<string, string>,
): ReadonlyMap<string, string> {
  const signing = new Set(
    here.filter(({ binding: { scheme } }) => scheme.type === "aws-sigv4").map(nameOf),
  );
  return new Map([...values].filter(([name]) => !signing.has(name)));
}

function nameOf({ binding }: Bound): string {
  return binding.name;
}

function passing(draft: RequestDraft): Injection {
  return {
    path: draft.path,
    headers: draft.headers,
    body: draft.body,
    expectsContinue: draft.expectsContinue ?? false,
    refresh: undefined,
    editTrailers: (trailers) => trailers,
    scrubTexts: (texts) => texts,
    scrubTrailers: (trailers) => plainTrailers(trailers, (texts) => texts),
    scrubber: () => undefined,
  };
}

function plainTrailers(
  trailers: Record<string, string | string[] | undefined>,
  edit: (texts: string[]) => string[],
): Record<string, string> {
  const entries = Object.entries(trailers).filter(([name]) => !name.startsWith(":"));
  if (entries.length === 0) return {};
  const texts = edit(entries.flatMap(([name, value]) => [name, [value ?? ""].flat().join(", ")]));
  return Object.fromEntries(entries.map((_, i) => [texts[2 * i], texts[2 * i + 1]]));
}

/** Only codings that the gate can open; asked for none, none is asked for. */
function acceptable(headers: FlatHeaders): string {
  const asked = headers.find(
    (_, i) => i % 2 === 1 && headers[i - 1]?.toLowerCase() === "accept-encoding",
  );
  const kept = (asked ?? "").split(",").filter((item) => {
    return knownCodings.includes((item.split(";")[0] ?? "").trim().toLowerCase());
  });
  return kept.length > 0 ? kept.join(",").trim() : "identity";
}

function secretsIn({ scheme }: Binding, stored: string): string[] {
  if (scheme.type === "aws-sigv4") {
    const { secretAccessKey, sessionToken } = parseKeys(stored);
    return [secretAccessKey, sessionToken].filter((text) => text !== undefined);
  }
  if (scheme.type === "basic" && scheme.username === undefined) {
    return [stored, stored.slice(stored.indexOf(":") + 1)].filter(({ length }) => length >= 8);
  }
  return [stored];
}
