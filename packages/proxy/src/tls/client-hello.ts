/** What a TLS ClientHello (RFC 8446 section 4.1.2) says that the gate must know. */
export interface ClientHello {
  /** The server name as sent, undefined when there is none (a client that dials an address). */
  readonly serverName: string | undefined;
  readonly alpn: readonly string[];
  /** Whether Encrypted Client Hello (or its GREASE twin, which looks the same) is offered. */
  readonly encrypted: boolean;
  /** Whether data may follow at once, before the server has said anything (RFC 8446 section 4.2.10). */
  readonly earlyData: boolean;
}

/** The result of looking at the first bytes: a hello, not enough bytes yet, or not TLS. */
export type HelloResult = ClientHello | "incomplete" | "invalid";

export const recordHeaderLength = 5;
export const contentType = { changeCipherSpec: 20, alert: 21, handshake: 22, data: 23 } as const;

const clientHelloType = 1;
const extension = {
  serverName: 0,
  alpn: 16,
  earlyData: 42,
  encryptedClientHello: 0xfe0d,
} as const;
/** RFC 8446 section 5.1: 2^14 bytes a record. */
const maxRecord = 16_384;
/** No client sends more; OpenSSL's own limit for a ClientHello is 131 396 bytes. */
const maxHello = 65_536;

/** Records that a hello may be spread over; the sixteen of its greatest length would do. */
const maxRecords = 64;

/** Reads a ClientHello that may be spread over several records from the start of a byte stream. */
export function readClientHello(bytes: Buffer): HelloResult {
  const fragments: Buffer[] = [];
  let collected = 0;
  let at = 0;
  while (fragments.length < maxRecords) {
    if (bytes.length - at < recordHeaderLength) {
      return plausiblePrefix(bytes.subarray(at)) ? "incomplete" : "invalid";
    }
    const length = bytes.readUInt16BE(at + 3);
    const isHandshake = bytes[at] === contentType.handshake && bytes[at + 1] === 3;
    if (!isHandshake || length === 0 || length > maxRecord) return "invalid";
    const record = bytes.subarray(at + recordHeaderLength, at + recordHeaderLength + length);
    fragments.push(record);
    collected += record.length;
    if (collected > maxHello) return "invalid";
    const total = helloLength(fragments);
    if (total === "invalid") return "invalid";
    if (total !== undefined && collected >= total) {
      return parseBody(Buffer.concat(fragments).subarray(4, total));
    }
    if (record.length < length) return "incomplete";
    at += recordHeaderLength + length;
  }
  return "invalid";
}

function plausiblePrefix(bytes: Buffer): boolean {
  return (
    (bytes.length < 1 || bytes[0] === contentType.handshake) && (bytes.length < 2 || bytes[1] === 3)
  );
}

/** Length of the handshake message with its header; undefined: not yet known. */
function helloLength(fragments: readonly Buffer[]): number | "invalid" | undefined {
  const header: number[] = [];
  for (const fragment of fragments) {
    header.push(...fragment.subarray(0, 4 - header.length));
    if (header.length === 4) break;
  }
  const [type = clientHelloType, high, middle = 0, low] = header;
  if (type !== clientHelloType) return "invalid";
  if (high === undefined || low === undefined) return undefined;
  const total = 4 + ((high << 16) | (middle << 8) | low);
  return total > maxHello ? "invalid" : total;
}

function parseBody(body: Buffer): ClientHello | "invalid" {
  try {
    const reader = new Reader(body);
    reader.skip(2 + 32); // legacy_version, random
    reader.vector(1); // legacy_session_id
    reader.vector(2); // cipher_suites
    reader.vector(1); // legacy_compression_methods
    const hello = {
      serverName: undefined as string | undefined,
      alpn: [] as string[],
      encrypted: false,
      earlyData: false,
    };
    if (reader.atEnd) return hello;
    const extensions = new Reader(reader.vector(2));
    if (!reader.atEnd) return "invalid";
    const seen = new Set<number>();
    while (!extensions.atEnd) {
      const type = extensions.uint(2);
      const data = extensions.vector(2);
      // RFC 8446 section 4.2 forbids repeats; two server names could be read either way.
      if (seen.has(type)) return "invalid";
      seen.add(type);
      if (type === extension.serverName) hello.serverName = parseServerName(data);
      else if (type === extension.alpn) hello.alpn = parseAlpn(data);
      else if (type === extension.encryptedClientHello) hello.encrypted = true;
      else if (type === extension.earlyData) hello.earlyData = true;
    }
    return hello;
  } catch (error) {
    if (error instanceof RangeError) return "invalid";
    throw error;
  }
}

/** RFC 6066 section 3: exactly one name of type host_name. */
function parseServerName(data: Buffer): string {
  const outer = new Reader(data);
  const list = new Reader(outer.vector(2));
  if (list.uint(1) !== 0) throw new RangeError("a server name that is no host name");
  const name = list.vector(2).toString("latin1");
  if (!list.atEnd || !outer.atEnd) throw new RangeError("more than one server name");
  return name;
}

function parseAlpn(data: Buffer): string[] {
  const list = new Reader(new Reader(data).vector(2));
  const protocols: string[] = [];
  while (!list.atEnd) protocols.push(list.vector(1).toString("latin1"));
  return protocols;
}

/** Reads TLS presentation-language vectors; leaving the buffer is a RangeError. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  skip(count: number): void {
    this.#at += count;
    if (this.#at > this.#bytes.length) throw new RangeError("truncated");
  }

  uint(size: number): number {
    this.skip(size);
    return this.#bytes.readUIntBE(this.#at - size, size);
  }

  vector(lengthSize: number): Buffer {
    const length = this.uint(lengthSize);
    this.skip(length);
    return this.#bytes.subarray(this.#at - length, this.#at);
  }
}
