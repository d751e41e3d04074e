import { type Hash, createHash } from "node:crypto";
import { Transform } from "node:stream";
import { GateError } from "../errors.ts";
import { ByteQueue } from "../net/byte-queue.ts";
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
/** Bytes of a line: a chunk's size and signature, or a trailing field. */
const maxLine = 1_024;

const streamed = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";

/** Whether a body whose declared hash is this one is signed chunk by chunk. */
export function isSignedInChunks(payloadHash: string): boolean {
  return payloadHash === streamed || payloadHash === `${streamed}-TRAILER`;
}

interface Chunk {
  /** As the client wrote it. */
  readonly size: string;
  readonly length: number;
  readonly hash: Hash;
}

/**
 * Signs the chunks of an `aws-chunked` body again: `size;chunk-signature=...`, each signature over the one before, and
 * at the end `x-amz-trailer-signature` over the trailing checksums, if there are any.
 */
export class ChunkSigner extends Transform {
  readonly #signature: Signature;
  readonly #key: Buffer;
  #previous: string;
  /** A line that is not complete, or the chunk that is to be signed. */
  readonly #held = new ByteQueue();
  #chunk: Chunk | undefined;
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
    try {
      let rest = chunk;
      while (rest.length > 0)
        rest = this.#chunk ? this.#takeData(rest, this.#chunk) : this.#takeLine(rest);
      done();
    } catch (error) {
      done(error as Error);
    }
  }

  override _flush(done: (error?: Error | null) => void): void {
    if (this.#held.length > 0 || this.#state !== "ended") return done(malformed());
    done();
  }

  /** Takes what belongs to the line, and returns the rest. */
  #takeLine(bytes: Buffer): Buffer {
    const end = bytes.indexOf("\n") + 1;
    const part = end > 0 ? bytes.subarray(0, end) : bytes;
    this.#held.append(part);
    if (this.#held.length > maxLine) throw malformed();
    if (end > 0) {
      const line = this.#held.bytes.toString("latin1");
      this.#held.clear();
      if (!line.endsWith("\r\n")) throw malformed();
      if (this.#state === "chunks") this.#beginChunk(line.slice(0, -2));
      else this.#takeTrailer(line.slice(0, -2));
    }
    return bytes.subarray(part.length);
  }

  #beginChunk(line: string): void {
    const size = /^([0-9a-f]{1,8});chunk-signature=[0-9a-f]{64}$/i.exec(line)?.[1];
    if (size === undefined) throw malformed();
    const length = Number.parseInt(size, 16);
    if (length > maxHeld) throw tooLarge();
    const hash = createHash("sha256");
    // The last chunk is empty; what follows it are trailers, or the end.
    if (length > 0) this.#chunk = { size, length, hash };
    else {
      this.#state = "trailers";
      this.#pushSigned(size, hash);
    }
  }

  /** The signature stands before what it signs: the chunk goes on when all of it is here. */
  #takeData(bytes: Buffer, { size, length, hash }: Chunk): Buffer {
    const part = bytes.subarray(0, length + 2 - this.#held.length);
    hash.update(part.subarray(0, Math.max(0, length - this.#held.length)));
    this.#held.append(part);
    if (this.#held.length === length + 2) {
      const data = this.#held.bytes;
      if (data.toString("latin1", length) !== "\r\n") throw malformed();
      this.#pushSigned(size, hash);
      this.push(data);
      this.#held.clear();
      this.#chunk = undefined;
    }
    return bytes.subarray(part.length);
  }

  #pushSigned(size: string, hash: Hash): void {
    this.#previous = this.#sign("PAYLOAD", [emptyHash, hash.digest("hex")]);
    this.push(`${size};chunk-signature=${this.#previous}\r\n`);
  }

  #takeTrailer(line: string): void {
    if (this.#state === "ended") throw malformed();
    const [name, value] = splitField(line);
    if (value === undefined) {
      if (line !== "") throw malformed();
      this.#state = "ended";
      this.push("\r\n");
    } else if (name === "x-amz-trailer-signature") {
      const signature = this.#sign("TRAILER", [sha256(this.#trailers)]);
      this.push(`x-amz-trailer-signature:${signature}\r\n`);
    } else {
      this.#trailers += `${name}:${value}\n`;
      if (this.#trailers.length > maxTrailers) throw malformed();
      this.push(`${line}\r\n`);
    }
  }

  #sign(what: string, hashes: string[]): string {
    const { date, scope } = this.#signature;
    const text = [`${algorithm}-${what}`, date, scope, this.#previous, ...hashes].join("\n");
    return hmac(this.#key, text).toString("hex");
  }
}

function splitField(line: string): [string, string?] {
  const colon = line.indexOf(":");
  return colon < 1 ? [line] : [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
}

function malformed(): GateError {
  return new GateError("ERR_NONO_PROTOCOL", "A chunk of the signed upload is malformed.");
}
