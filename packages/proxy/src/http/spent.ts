import type { Readable } from "node:stream";

/**
 * Gives the memory of a chunk back at once, if nothing else can be in it. V8 counts what lies outside its heap, and marks
 * the whole heap after every few dozen MiB: with one allocation for each TLS record that was two fifths of what a large
 * body cost. The chunk is empty afterwards.
 */
export function release(chunk: Buffer): void {
  const memory = chunk.buffer;
  // A slice of a pool, or of a record that holds more than this, has neighbours; an empty one is given back already.
  const alone = chunk.length > 0 && chunk.length === memory.byteLength;
  if (alone && memory instanceof ArrayBuffer) memory.transfer(0);
}

/** The same for a part of memory of which nobody needs the rest. */
export function releaseAround(part: Buffer): void {
  if (part.buffer instanceof ArrayBuffer) part.buffer.transfer(0);
}

/** Bytes before each frame of HTTP/2 (RFC 9113 section 4.1). */
const frameHeader = 9;

/**
 * The same for chunks of one HTTP/2 stream, in the order they came: they are slices of what the session has read, and one
 * read holds several. A read is given back only when nothing but these chunks and their frames' headers is in it, and the
 * last of them ends where it ends: then no other stream has a part of it, and the session has no byte of it left to read,
 * even where it has paused.
 */
export function releaseReads(chunks: readonly Buffer[]): void {
  for (let first = 0, next = 0; first < chunks.length; first = next) {
    const { buffer: memory, byteOffset } = chunks[first] as Buffer;
    let alone = byteOffset <= frameHeader;
    let end = 0;
    for (; chunks[next]?.buffer === memory; next += 1) {
      const { byteOffset: at, length } = chunks[next] as Buffer;
      alone &&= next === first || at === end + frameHeader;
      end = at + length;
    }
    if (alone && end === memory.byteLength && memory instanceof ArrayBuffer) memory.transfer(0);
  }
}

/** RFC 8446 section 5.1. */
const largestRecord = 16_384;

/**
 * Makes `read()` of a TLS connection give one record at a time, in the memory it came in, instead of a copy of all that
 * has come: {@link release} can then give it back.
 */
export function readByRecord<T extends Readable>(connection: T): T {
  const read = connection.read.bind(connection);
  connection.read = (size?: number) => {
    // When the connection has broken, undici takes what is left by one read.
    const single = connection.readableLength > largestRecord && !connection.destroyed;
    return read(size ?? (single ? largestRecord : undefined));
  };
  return connection;
}
