/**
 * Bytes that one direction of a connection may hold before its sender is held up. Node's own 64 KiB are about one read:
 * with every read the writer fills, the reader stops, and both start again, which costs a tenth of a large body's speed.
 */
export const streamBuffer: number = 256 * 1024;

/** The option of Node's sockets and TLS sockets for that, which @types/node lacks in TLS. */
export const buffered: object = { highWaterMark: streamBuffer };
