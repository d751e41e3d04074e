import type { Transform } from "node:stream";
import zlib from "node:zlib";
import { type FlatHeaders, valuesOf } from "./headers.ts";

interface Coding {
  /** Decodes a stream, and gives out what it has at every flush of the sender. */
  decode(): Transform;
  /** A whole body decoded; throws when it is broken or would be longer than `limit` bytes. */
  decodeWhole(bytes: Buffer, limit: number): Buffer;
  encodeWhole(bytes: Buffer): Buffer;
}

const { Z_SYNC_FLUSH, BROTLI_OPERATION_FLUSH, ZSTD_e_flush } = zlib.constants;

const gzip: Coding = {
  decode: () => zlib.createGunzip({ flush: Z_SYNC_FLUSH }),
  decodeWhole: (bytes, maxOutputLength) => zlib.gunzipSync(bytes, { maxOutputLength }),
  encodeWhole: (bytes) => zlib.gzipSync(bytes),
};

/** The content codings (RFC 9110 section 8.4.1) that the gate can look into. */
const codings: Readonly<Record<string, Coding>> = {
  gzip,
  "x-gzip": gzip,
  deflate: {
    decode: () => zlib.createInflate({ flush: Z_SYNC_FLUSH }),
    decodeWhole: (bytes, maxOutputLength) => zlib.inflateSync(bytes, { maxOutputLength }),
    encodeWhole: (bytes) => zlib.deflateSync(bytes),
  },
  br: {
    decode: () => zlib.createBrotliDecompress({ flush: BROTLI_OPERATION_FLUSH }),
    decodeWhole: (bytes, maxOutputLength) => zlib.brotliDecompressSync(bytes, { maxOutputLength }),
    encodeWhole: (bytes) => zlib.brotliCompressSync(bytes),
  },
  zstd: {
    decode: () => zlib.createZstdDecompress({ flush: ZSTD_e_flush }),
    decodeWhole: (bytes, maxOutputLength) => zlib.zstdDecompressSync(bytes, { maxOutputLength }),
    encodeWhole: (bytes) => zlib.zstdCompressSync(bytes),
  },
};

/** What a request to a host with credentials may accept, so that the answer can be read. */
export const knownCodings: readonly string[] = ["gzip", "deflate", "br", "zstd"];

/**
 * Codings upon each other that are opened. Each costs a decoder, and what it decodes to is the next one's input: a header
 * has room for thousands.
 */
const maxCodings = 4;

/** The coding of that name; undefined: not one that the gate can open. */
function codingOf(name: string): Coding | undefined {
  return Object.hasOwn(codings, name) ? codings[name] : undefined;
}

/** The codings of those names; undefined when one is unknown, or when they are too many. */
export function openable(names: readonly string[]): Coding[] | undefined {
  if (names.length > maxCodings) return undefined;
  const known = names.map(codingOf).filter((coding) => coding !== undefined);
  return known.length === names.length ? known : undefined;
}

/** The codings of a body in the order they were applied; `identity` is none. */
export function codingsIn(headers: FlatHeaders): string[] {
  return valuesOf(headers, "content-encoding")
    .flatMap((value) => value.toLowerCase().split(","))
    .map((name) => name.trim())
    .filter((name) => name !== "" && name !== "identity");
}

/**
 * Fields by which a body can be compressed beside Content-Encoding: on this connection (RFC 9112 section 7), as a
 * manipulated instance (RFC 3229), in each message of gRPC and of Connect.
 */
const innerCodings = ["transfer-encoding", "im", "grpc-encoding", "connect-content-encoding"];

/** What asks for them; `TE` never goes further than the gate. */
export const innerCodingRequests: readonly string[] = [
  "a-im",
  "grpc-accept-encoding",
  "connect-accept-encoding",
];

/** The codings of a body that nothing here opens. */
export function innerCodingsIn(headers: FlatHeaders): string[] {
  return innerCodings
    .flatMap((name) => valuesOf(headers, name))
    .flatMap((value) => value.toLowerCase().split(","))
    .map((name) => name.trim())
    .filter((name) => !["", "identity", "chunked"].includes(name));
}

/** The stages that decode them, last coding first; undefined when they cannot be opened. */
export function decoderFor(names: readonly string[]): Transform[] | undefined {
  return openable(names)
    ?.toReversed()
    .map((coding) => coding.decode());
}
