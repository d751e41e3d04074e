import { Socket } from "node:net";
import type { Duplex, Readable, Writable } from "node:stream";

/** A stream that reads the owner's end of a pipe and closes it at the end of the data. */
export function openReadable(fd: number): Readable {
  return new Socket({ fd, readable: true, writable: false });
}

/** A stream that writes into the owner's end of a pipe; `end()` closes it. */
export function openWritable(fd: number): Writable {
  return new Socket({ fd, readable: false, writable: true });
}

/** A stream in both directions over the owner's end of a socket; it ends when the other end does. */
export function openDuplex(fd: number): Duplex {
  return new Socket({ fd, readable: true, writable: true });
}

/** Closes a stream that nobody has begun to read; one with a reader goes on to its end. */
export function discardIfUnread(stream: Readable): void {
  if (stream.readableFlowing === null && stream.listenerCount("readable") === 0) stream.destroy();
}

/** What a write ends with whose reader went away, before it or meanwhile. */
const closed: ReadonlySet<string | undefined> = new Set([
  "EPIPE",
  "ECONNRESET",
  "ECANCELED", // libuv's, of one that was under way when its end was closed
  "ERR_STREAM_PREMATURE_CLOSE",
]);

/** Whether an error says that the reader of a pipe went away: no failure for whoever fed it. */
export function isClosedPipe(error: unknown): boolean {
  return closed.has((error as NodeJS.ErrnoException | null)?.code);
}
