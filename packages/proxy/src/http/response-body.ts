import type { Transform } from "node:stream";
import { GateError } from "../errors.ts";
import type { MaskingStream } from "../credentials/masker.ts";
import { codingsIn, decoderFor, innerCodingsIn, knownCodings } from "./content-coding.ts";
import { type FlatHeaders, withoutFields } from "./headers.ts";
import { type GateResponse, breakOff } from "./refusal.ts";
import { release, releaseAround } from "./spent.ts";

/** Takes a response's body as it comes and gives it to the client. */
export interface BodyWriter {
  /** The response headers that fit what is written. */
  readonly headers: FlatHeaders;
  /** Whether anything has been given to the response, its end included. */
  readonly begun: boolean;
  /** false: wait for {@link onceDrained}. */
  write(chunk: Buffer): boolean;
  onceDrained(callback: () => void): void;
  end(trailers: Record<string, string>, callback: (error?: Error) => void): void;
  /** The server broke off: so does the answer. */
  destroy(): void;
}

/**
 * The writer for a response: straight through, masked, or decoded and masked.
 *
 * @throws GateError `ERR_NONO_UNSCRUBBABLE`
 */
export function bodyWriterFor(
  response: GateResponse,
  headers: FlatHeaders,
  masker: MaskingStream | undefined,
): BodyWriter {
  if (!masker) return new PlainWriter(response, headers, undefined);
  const inner = innerCodingsIn(headers);
  if (inner.length > 0) throw unscrubbable(inner, "Switch this compression off in the client.");
  const codings = codingsIn(headers);
  if (codings.length === 0) return new PlainWriter(response, headers, masker);
  const stages = decoderFor(codings);
  if (!stages) throw unscrubbable(codings, `Ask for one of: ${knownCodings.join(", ")}.`);
  const plain = withoutFields(headers, ["content-encoding", "content-length", "content-md5"]);
  return new DecodingWriter(response, plain, masker, stages);
}

function unscrubbable(codings: string[], remedy: string): GateError {
  const coding = codings.join(", ");
  return new GateError(
    "ERR_NONO_UNSCRUBBABLE",
    `The response is coded as ${JSON.stringify(coding)}, in which an injected credential could hide.`,
    { value: coding, remedy },
  );
}

/**
 * Milliseconds without a byte from the server after which what is held back goes on: longer than a round trip, so that a
 * client that stops reading does not make a pause where it likes.
 */
const pauseAfter = 1_000;

/** Masks keep their length, so a content-length stays true. */
class PlainWriter implements BodyWriter {
  readonly headers: FlatHeaders;
  begun = false;
  readonly #response: GateResponse;
  readonly #masker: MaskingStream | undefined;
  #quiet: NodeJS.Timeout | undefined;

  constructor(response: GateResponse, headers: FlatHeaders, masker: MaskingStream | undefined) {
    this.headers = headers;
    this.#response = response;
    this.#masker = masker;
    if (masker) response.once("close", () => clearTimeout(this.#quiet));
  }

  write(chunk: Buffer): boolean {
    if (!this.#masker) return this.#pass(chunk, chunk);
    if (this.#quiet) this.#quiet.refresh();
    else this.#quiet = setTimeout(() => this.#pause(), pauseAfter).unref();
    return this.#pass(this.#masker.push(chunk), chunk);
  }

  /** The server says nothing; where the client does not read, it may have said more than was taken from it. */
  #pause(): void {
    if (this.#response.destroyed || !this.#response.writable || !this.#masker) return;
    if (this.#response.writableLength > 0) return void this.#quiet?.refresh();
    // The masker goes on remembering it.
    const passed = Buffer.from(this.#masker.pause());
    this.#pass(passed, passed);
  }

  #pass(passed: Buffer, chunk: Buffer): boolean {
    if (passed.length === 0) return true;
    this.begun = true;
    return this.#response.write(passed, (error?: Error | null) => {
      if (error) return; // the kernel may still be reading from it
      if (passed.buffer !== chunk.buffer) releaseAround(passed);
      release(chunk);
    });
  }

  onceDrained(callback: () => void): void {
    this.#response.once("drain", () => {
      this.#quiet?.refresh();
      callback();
    });
  }

  end(trailers: Record<string, string>): void {
    this.begun = true;
    clearTimeout(this.#quiet);
    const rest = this.#masker?.flush();
    if (rest && rest.length > 0) this.#response.write(rest);
    if (Object.keys(trailers).length > 0) this.#response.addTrailers(trailers);
    this.#response.end();
  }

  destroy(): void {
    breakOff(this.#response);
  }
}

class DecodingWriter implements BodyWriter {
  readonly headers: FlatHeaders;
  readonly #response: GateResponse;
  readonly #output: PlainWriter;
  readonly #stages: readonly Transform[];
  #trailers: Record<string, string> = {};
  #done: (error?: Error) => void;

  constructor(
    response: GateResponse,
    headers: FlatHeaders,
    masker: MaskingStream,
    stages: readonly Transform[],
  ) {
    this.headers = headers;
    this.#response = response;
    this.#stages = stages;
    this.#done = () => breakOff(response);
    const output = new PlainWriter(response, headers, masker);
    this.#output = output;
    let last = stages[0];
    for (const stage of stages.slice(1)) last = last?.pipe(stage);
    for (const stage of stages) stage.on("error", (error) => this.#done(error));
    last?.on("data", (chunk: Buffer) => {
      if (output.write(chunk)) return;
      last.pause();
      output.onceDrained(() => last.resume());
    });
    last?.once("end", () => {
      output.end(this.#trailers);
      this.#done();
    });
  }

  get begun(): boolean {
    return this.#output.begun;
  }

  write(chunk: Buffer): boolean {
    return this.#stages[0]?.write(chunk) ?? true;
  }

  onceDrained(callback: () => void): void {
    this.#stages[0]?.once("drain", callback);
  }

  end(trailers: Record<string, string>, callback: (error?: Error) => void): void {
    this.#trailers = trailers;
    this.#done = callback;
    this.#stages[0]?.end();
  }

  destroy(): void {
    for (const stage of this.#stages) stage.destroy();
    breakOff(this.#response);
  }
}
