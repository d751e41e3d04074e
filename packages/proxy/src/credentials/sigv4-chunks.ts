import { Transform } from "node:stream";
import { GateError } from "../errors.ts";
import {
  type AwsKeys,
  type Signature,
  algorithm,
  emptyHash,
  hmac,
  maxHeld,
  sha256,
  signingKey,
  tooLarge,
} from "./sigv4.ts";

/** Bytes of trailing fields, which are checksums. */
const maxTrailers = 16_384;

const streamed = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";

/** Whether a body whose declared hash is this one is signed chunk by chunk. */
export function isSignedInChunks(payloadHash: string): boolean {
  return payloadHash === streamed || payloadHash === `${streamed}-TRAILER`;
}

/**
 * Signs the chunks of an `aws-chunked` body again: `size;chunk-signature=...`, each signature over the one before, and
 * at the end `x-amz-trailer-signature` over the trailing checksums, if there are any.
 */
export class ChunkSigner extends Transform {
  readonly #signature: Signature;
  readonly #key: Buffer;
  #previous: string;
  #held: Buffer = Buffer.alloc(0);
  #state: "chunks" | "trailers" | "ended" = "chunks";
  /** The trailing fields as they are signed. */
  #trailers = "";

  /** `seed`: the signature in the request's header. */
  constructor(signature: Signature, seed: string, keys: AwsKeys) {
    super();
    this.#signature = signature;
    this.#key = signingKey(keys, signature.scope);
    this.#previous = seed;
  }

  override _transform(
    chunk: Buffer,
    _encoding: string,
    done: (error?: Error | null) => void,
  ): void {
    this.#held = Buffer.concat([this.#held, chunk]);
    try {
      while (this.#state === "chunks" ? this.#takeChunk() : this.#takeTrailer());
      if (this.#held.length > maxHeld) throw tooLarge();
      done();
    } catch (error) {
      done(error as Error);
    }
  }

  override _flush(done: (error?: Error | null) => void): void {
    if (this.#held.length > 0 || this.#state !== "ended") return done(malformed());
    done();
  }

  #takeChunk(): boolean {
    const line = this.#peekLine();
    if (line === undefined) return false;
    const size = /^([0-9a-f]{1,8});chunk-signature=[0-9a-f]{64}$/i.exec(line)?.[1];
    if (size === undefined) throw malformed();
    const length = Number.parseInt(size, 16);
    const start = line.length + 2;
    // The last chunk is empty; what follows it are trailers, or the end.
    if (length > 0 && this.#held.length < start + length + 2) return false;
    const data = this.#held.subarray(start, start + length);
    this.#previous = this.#sign("PAYLOAD", [emptyHash, sha256(data)]);
    this.push(`${size};chunk-signature=${this.#previous}\r\n`);
    if (length > 0) {
      this.push(data);
      this.push("\r\n");
    } else this.#state = "trailers";
    this.#held = this.#held.subarray(length > 0 ? start + length + 2 : start);
    return true;
  }

  #takeTrailer(): boolean {
    const line = this.#peekLine();
    if (line === undefined) return false;
    if (this.#state === "ended") throw malformed();
    this.#held = this.#held.subarray(line.length + 2);
    if (line === "") this.#state = "ended";
    const [name, value] = splitField(line);
    if (value === undefined) {
      if (line !== "") throw malformed();
      this.push("\r\n");
    } else if (name === "x-amz-trailer-signature") {
      const signature = this.#sign("TRAILER", [sha256(this.#trailers)]);
      this.push(`x-amz-trailer-signature:${signature}\r\n`);
    } else {
      this.#trailers += `${name}:${value}\n`;
      if (this.#trailers.length > maxTrailers) throw malformed();
      this.push(`${line}\r\n`);
    }
    return true;
  }

  #sign(what: string, hashes: string[]): string {
    const { date, scope } = this.#signature;
    const text = [`${algorithm}-${what}`, date, scope, this.#previous, ...hashes].join("\n");
    return hmac(this.#key, text).toString("hex");
  }

  #peekLine(): string | undefined {
    const end = this.#held.indexOf("\r\n");
    return end < 0 ? undefined : this.#held.toString("latin1", 0, end);
  }
}

function splitField(line: string): [string, string?] {
  const colon = line.indexOf(":");
  return colon < 1 ? [line] : [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
}

function malformed(): GateError {
  return new GateError("ERR_NONO_PROTOCOL", "A chunk of the signed upload is malformed.");
}
