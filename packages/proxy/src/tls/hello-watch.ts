import { GateError } from "../errors.ts";
import { ByteQueue } from "../net/byte-queue.ts";
import {
  type ClientHello,
  contentType,
  readClientHello,
  recordHeaderLength,
} from "./client-hello.ts";

/** Plaintext records of a client's handshake: hellos, certificate chain, key exchange, CCS. */
const maxPlainRecords = 64;
/** A handshake record that ends before its type and length can be seen. */
const smallestHandshake = 4;
/** Of the session id's length in a ClientHello: type, length, version and random stand before it. */
const sessionIdOffset = 1 + 3 + 2 + 32;

/**
 * Checks every ClientHello of a tunnel that is otherwise opaque: the first, and the one that follows a
 * HelloRetryRequest. RFC 8446 section 4.1.2 says that the second repeats the first; a dishonest client could name
 * another server in it, and some servers take that name. Ends at the first encrypted data, or at once when
 * the stream is not TLS. Early data is no end: a server that asks for a second hello skips it.
 */
export class HelloWatch {
  readonly #check: (hello: ClientHello) => void;
  readonly #held = new ByteQueue();
  #records = 0;
  /** Whether a first ClientHello has been read: what comes first must be one. */
  #greeted = false;
  #early = false;
  #done = false;

  /** `check` throws to refuse a hello. */
  constructor(check: (hello: ClientHello) => void) {
    this.#check = check;
  }

  get done(): boolean {
    return this.#done;
  }

  /**
   * Takes the next bytes from the client and returns those that may go on. Bytes of an unfinished record are
   * held back.
   *
   * @throws what `check` throws, and GateError `ERR_NONO_PROTOCOL` for a handshake that hides
   */
  push(chunk: Buffer): Buffer {
    this.#held.append(chunk);
    const { bytes } = this.#held;
    let judged = 0;
    for (let length = 1; length > 0 && !this.#done; judged += length) {
      length = this.#judgeRecord(bytes.subarray(judged));
    }
    const passed = this.#done ? bytes : bytes.subarray(0, judged);
    this.#held.drop(passed.length);
    return passed;
  }

  /** Length of the record at the start of `bytes` once it may pass; 0: wait for more. */
  #judgeRecord(bytes: Buffer): number {
    const type = bytes[0];
    if (type === undefined) return 0;
    const data = type >= contentType.data;
    if (type < contentType.changeCipherSpec || (data && !this.#early)) {
      this.#done = true; // encrypted data, or no TLS
      return 0;
    }
    if (bytes.length < recordHeaderLength) return 0;
    const length = recordHeaderLength + bytes.readUInt16BE(3);
    if (bytes.length < length) return 0;
    if (data) return length;
    if (type === contentType.handshake && !this.#judgeHandshake(bytes, length)) return 0;
    this.#records += 1;
    if (this.#records > maxPlainRecords)
      throw hidden("more plaintext records than a handshake has");
    return length;
  }

  #judgeHandshake(bytes: Buffer, recordLength: number): boolean {
    const body = bytes.subarray(recordHeaderLength, recordLength);
    if (body.length < smallestHandshake) throw hidden("a handshake record too short to judge");
    if (this.#greeted && !couldBeHello(body)) return true;
    const hello = readClientHello(bytes);
    if (hello === "incomplete") return false;
    if (hello === "invalid") throw hidden("a ClientHello that cannot be read");
    this.#check(hello);
    this.#greeted = true;
    this.#early = hello.earlyData;
    return true;
  }
}

/**
 * Whether a handshake record after the first hello may begin another: in TLS 1.2 the encrypted Finished is a handshake
 * record too. The version is no mark, since servers ignore it where there are supported_versions (RFC 8446 section
 * 4.2.1), and OpenSSL takes hellos of 131 396 bytes; so of Finished messages that begin with random bytes one in 2^14 to
 * 2^17 is refused.
 */
function couldBeHello(body: Buffer): boolean {
  const sessionId = body[sessionIdOffset];
  return body[0] === 1 && (body[1] ?? 0) <= 2 && (sessionId === undefined || sessionId <= 32);
}

function hidden(what: string): GateError {
  return new GateError("ERR_NONO_PROTOCOL", `The TLS handshake was refused: ${what}.`);
}
