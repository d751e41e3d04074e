const nothing: Buffer = Buffer.alloc(0);

/**
 * Bytes that come in pieces, in one piece. However small the pieces are, each byte is copied a few times at most, and
 * little more memory is taken than there are bytes: a parser that joins what it holds with every next piece costs the
 * square of what a sender splits finely.
 */
export class ByteQueue {
  #memory: Buffer = nothing;
  #start = 0;
  #end = 0;

  get length(): number {
    return this.#end - this.#start;
  }

  /** All that is held. It is never written over, so that parts of it may be given away. */
  get bytes(): Buffer {
    return this.#memory.subarray(this.#start, this.#end);
  }

  append(piece: Buffer): void {
    if (this.length === 0) {
      this.#memory = piece;
      this.#start = 0;
      this.#end = piece.length;
      return;
    }
    if (this.#memory.length - this.#end < piece.length) {
      const larger = Buffer.allocUnsafe(Math.max(2 * this.length, this.length + piece.length));
      this.#end = this.#memory.copy(larger, 0, this.#start, this.#end);
      this.#start = 0;
      this.#memory = larger;
    }
    this.#end += piece.copy(this.#memory, this.#end);
  }

  /** Takes so many bytes from the front. */
  drop(count: number): void {
    this.#start += count;
    if (this.length === 0) this.clear();
  }

  clear(): void {
    this.#memory = nothing;
    this.#start = 0;
    this.#end = 0;
  }
}

/** All of a body; rejects with what `tooLong` makes when it is longer than `limit` bytes. */
export async function gather(
  body: AsyncIterable<unknown>,
  limit: number,
  tooLong: () => Error,
): Promise<Buffer> {
  const queue = new ByteQueue();
  for await (const piece of body) {
    queue.append(piece as Buffer);
    if (queue.length > limit) throw tooLong();
  }
  return queue.bytes;
}
