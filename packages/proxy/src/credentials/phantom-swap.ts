import { Readable, Transform } from "node:stream";
import { GateError } from "../errors.ts";
import { codingsIn, decoderFor, openable } from "../http/content-coding.ts";
import { type FlatHeaders, valuesOf, withField } from "../http/headers.ts";
import { gather } from "../net/byte-queue.ts";
import { type Match, PatternSet, StreamReplacer } from "./pattern-set.ts";

/** A phantom and the credential it stands for. */
export interface Phantom {
  readonly name: string;
  readonly text: string;
}

/** A body up to this length with a known length is replaced whole, so that its new length can be announced. */
const bufferedBody = 1024 * 1024;
/** What such a body may decode to: it is done at once, and nothing else meanwhile. */
const maxDecoded = 16 * 1024 * 1024;
/**
 * How many times its length a longer one may decode to, beyond that. gzip alone comes to 1032; Brotli, Zstandard and
 * codings upon each other know no end.
 */
const maxGrowth = 1_100;

/** Finds phantoms in requests and puts the values in their place. */
export class PhantomSwap {
  readonly #phantoms: readonly Phantom[];
  readonly #set: PatternSet;

  constructor(phantoms: readonly Phantom[]) {
    this.#phantoms = phantoms;
    this.#set = new PatternSet(phantoms.map(({ text }) => Buffer.from(text)));
  }

  /** The names of the credentials whose phantoms stand in the path or the headers. */
  find(path: string, headers: FlatHeaders): string[] {
    const texts = [path, decodedPath(path), ...headers];
    for (const value of headers) texts.push(basicPayload(value) ?? "");
    const haystack = texts.join("\n");
    return this.#phantoms.filter(({ text }) => haystack.includes(text)).map(({ name }) => name);
  }

  /** The path and headers with values for phantoms, each encoded as its place needs. */
  replace(
    path: string,
    headers: FlatHeaders,
    values: ReadonlyMap<string, string>,
  ): { path: string; headers: FlatHeaders } {
    let newPath = path;
    let newHeaders = headers;
    for (const { name, text } of this.#phantoms) {
      const value = values.get(name);
      if (value === undefined) continue;
      newPath = newPath.replaceAll(text, () => encodeURIComponent(value));
      newHeaders = newHeaders.map((field, i) => {
        if (i % 2 === 0) return field;
        const payload = basicPayload(field);
        if (payload?.includes(text) !== true) return field.replaceAll(text, () => value);
        const pair = payload.replaceAll(text, () => value);
        return `Basic ${Buffer.from(pair).toString("base64")}`;
      });
    }
    return { path: newPath, headers: newHeaders };
  }

  /** A body for a host that no credential is for: a phantom in it breaks the request off. */
  guardBody(body: Readable, headers: FlatHeaders, host: string): Readable {
    const misused = (name: string): never => {
      throw phantomMisused(name, host);
    };
    return this.#looksInto(body, headers, misused) ?? this.#transformed(body, misused);
  }

  /**
   * The body with values for phantoms. A short one of known length is replaced whole, compressed ones too; a stream is
   * replaced as it passes, where its length is not announced or does not change.
   */
  async replaceBody(
    body: Readable,
    headers: FlatHeaders,
    values: ReadonlyMap<string, string>,
    { refuse, awaitBody }: { refuse: (name: string) => GateError; awaitBody: () => void },
  ): Promise<{ body: Readable; headers: FlatHeaders }> {
    const encode = encoderFor(valuesOf(headers, "content-type")[0] ?? "");
    const length = valuesOf(headers, "content-length")[0];
    const replacement = (name: string): Buffer => {
      const value = values.get(name);
      if (value === undefined) throw refuse(name);
      return Buffer.from(encode(value));
    };
    if (length !== undefined && Number(length) <= bufferedBody) {
      awaitBody();
      const bytes = await gather(body, bufferedBody, () => new RangeError("longer than announced"));
      const whole = this.#replaceWhole(bytes, headers, replacement);
      const withLength = withField(headers, "content-length", String(whole.length));
      return { body: Readable.from([whole]), headers: withLength };
    }
    const inspected = this.#looksInto(body, headers, (name) => {
      throw compressed(name);
    });
    if (inspected) return { body: inspected, headers };
    const streamed = this.#transformed(body, (name, found) => {
      const bytes = replacement(name);
      if (length !== undefined && bytes.length !== found) throw lengthChanges(name);
      return bytes;
    });
    return { body: streamed, headers };
  }

  /** A replacer for one direction of a WebSocket: `values` for phantoms, a refusal for the others. */
  messageReplacer(
    values: ReadonlyMap<string, string>,
    refuse: (name: string) => GateError,
  ): StreamReplacer {
    return this.#replacer((name) => {
      const value = values.get(name);
      if (value === undefined) throw refuse(name);
      return Buffer.from(JSON.stringify(value).slice(1, -1));
    });
  }

  #replaceWhole(bytes: Buffer, headers: FlatHeaders, replace: (name: string) => Buffer): Buffer {
    const replaced = (plain: Buffer): Buffer => {
      const replacer = this.#replacer(replace);
      return Buffer.concat([replacer.push(plain), replacer.flush()]);
    };
    const codings = codingsIn(headers);
    if (codings.length === 0) return replaced(bytes);
    const known = openable(codings);
    if (!known) return bytes;
    let plain = bytes;
    try {
      for (const coding of known.toReversed()) plain = coding.decodeWhole(plain, maxDecoded);
    } catch {
      return bytes; // what does not decode here carries nothing that decodes there
    }
    if (this.#set.find(plain) === undefined) return bytes;
    return known.reduce((body, coding) => coding.encodeWhole(body), replaced(plain));
  }

  /** A compressed body that passes unchanged once it has been looked into; undefined: it is not compressed. */
  #looksInto(
    body: Readable,
    headers: FlatHeaders,
    onFound: (name: string) => never,
  ): Readable | undefined {
    const stages = decoderFor(codingsIn(headers));
    const [first] = stages ?? [];
    if (!stages || !first) return undefined;
    const search = this.#replacer(onFound);
    let failure: unknown;
    let taken = 0;
    let decoded = 0;
    for (const [i, stage] of stages.entries()) {
      stage.on("error", () => undefined); // as in #replaceWhole
      stage.on("data", (chunk: Buffer) => {
        decoded += chunk.length;
        if (decoded <= maxDecoded + maxGrowth * taken) return;
        for (const each of stages) each.destroy();
        passed.destroy(growsTooMuch());
      });
      const next = stages[i + 1];
      if (next) stage.pipe(next);
      else {
        stage.on("data", (chunk: Buffer) => {
          try {
            search.push(chunk);
          } catch (error) {
            failure ??= error;
          }
        });
      }
    }
    const passed = new Transform({
      // A chunk goes on when all that it decodes to has been seen.
      transform: (chunk: Buffer, _encoding, done) => {
        if (over(first)) return done(null, chunk);
        taken += chunk.length;
        const look = (): void => {
          if (passed.destroyed) return;
          const busy = stages.some((stage) => stage.writableLength + stage.readableLength > 0);
          if (busy && !failure && !stages.some(over)) setImmediate(look);
          else done((failure as Error | undefined) ?? null, chunk);
        };
        let isTaken = false;
        const onTaken = (): void => {
          first.off("end", onTaken).off("close", onTaken);
          if (!isTaken) setImmediate(look);
          isTaken = true;
        };
        // A decoder that meets its end, or breaks, never calls back.
        first.once("end", onTaken).once("close", onTaken);
        first.write(chunk, onTaken);
      },
    });
    return this.#joined(body, passed);
  }

  #replacer(replace: (name: string, found: number) => Buffer): StreamReplacer {
    return new StreamReplacer(this.#set, ({ pattern }: Match) => {
      const { name = "", text = "" } = this.#phantoms[pattern] ?? {};
      return replace(name, text.length);
    });
  }

  #transformed(body: Readable, replace: (name: string, found: number) => Buffer): Readable {
    const replacer = this.#replacer(replace);
    const transform = new Transform({
      transform: (chunk: Buffer, _encoding, done) => edit(() => replacer.push(chunk), done),
      flush: (done) => edit(() => replacer.flush(), done),
    });
    return this.#joined(body, transform);
  }

  #joined(body: Readable, transform: Transform): Readable {
    body.once("error", (error) => transform.destroy(error));
    body.once("aborted", () => transform.destroy(new Error("the client went away")));
    // The exchange looks at `errored` when it takes the body over; until then nobody listens.
    transform.on("error", () => undefined);
    return body.pipe(transform);
  }
}

/** A decoder that has met its end takes no more, and what stands behind it is no business of its coding. */
function over(stage: Transform): boolean {
  return stage.destroyed || stage.readableEnded;
}

/** Gives a transform's callback what `work` returns or throws. */
function edit(work: () => Buffer, done: (error: Error | null, bytes?: Buffer) => void): void {
  let bytes: Buffer;
  try {
    bytes = work();
  } catch (error) {
    done(error as Error);
    return;
  }
  done(null, bytes);
}

/** In JSON a quote is escaped, in a form a plus sign; elsewhere the value stands as it is. */
function encoderFor(contentType: string): (value: string) => string {
  if (/\bjson\b/i.test(contentType)) return (value) => JSON.stringify(value).slice(1, -1);
  if (/x-www-form-urlencoded/i.test(contentType)) return encodeURIComponent;
  return (value) => value;
}

function basicPayload(field: string): string | undefined {
  const encoded = /^Basic ([A-Za-z0-9+/=_-]+)$/i.exec(field)?.[1];
  return encoded === undefined ? undefined : Buffer.from(encoded, "base64").toString("utf8");
}

/** Byte by byte: one broken escape must not hide the others. */
function decodedPath(path: string): string {
  return path.replace(/%([0-9a-f]{2})/gi, (_, hex: string) =>
    String.fromCharCode(Number.parseInt(hex, 16)),
  );
}

function compressed(name: string): GateError {
  return new GateError(
    "ERR_NONO_PROTOCOL",
    `The token of ${name} stands in a compressed body too large to be rewritten.`,
    { value: name, remedy: "Send the token in a header, or the body uncompressed." },
  );
}

function growsTooMuch(): GateError {
  return new GateError(
    "ERR_NONO_LIMIT",
    `A compressed body decodes to more than ${maxGrowth} times its length.`,
    { remedy: "Send it uncompressed, or compressed once, by gzip." },
  );
}

function lengthChanges(name: string): GateError {
  return new GateError(
    "ERR_NONO_PROTOCOL",
    `The token of ${name} stands in a body too large to be rewritten under its announced length.`,
    { value: name, remedy: "Send the token in a header, or the body in chunks." },
  );
}

/** The refusal of a phantom outside its hosts. */
export function phantomMisused(name: string, host: string): GateError {
  return new GateError(
    "ERR_NONO_PHANTOM_MISUSED",
    `The token of ${name} was sent to ${host}, which it is not for.`,
    { value: host, rule: name, remedy: `If ${host} should receive ${name}, add it to proxyTo.` },
  );
}

/** The refusal of a phantom at its host, in a place where it is not replaced. */
export function phantomMisplaced(name: string, host: string, place: string): GateError {
  return new GateError(
    "ERR_NONO_PHANTOM_MISUSED",
    `The token of ${name} stands in the ${place} of a request to ${host}, where it is not replaced.`,
    { value: host, rule: name, remedy: `If it belongs there, add ${place} to its places.` },
  );
}
