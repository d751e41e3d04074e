/** One find: which pattern, and where it starts. */
export interface Match {
  readonly at: number;
  readonly pattern: number;
}

const blockValues = 0x1_0000;

/**
 * Finds any of several byte strings in one pass (Wu and Manber, "A fast algorithm for multi-pattern searching",
 * 1994, with blocks of two bytes). Where nothing is similar it looks at one byte pair per pattern length, which is
 * why scrubbing costs little.
 */
export class PatternSet {
  readonly patterns: readonly Buffer[];
  /** Length of the longest pattern, in bytes. */
  readonly longest: number;
  readonly #shortest: number;
  readonly #shift: Uint8Array;
  readonly #candidates = new Map<number, number[]>();
  readonly #firstBytes = new Uint8Array(256);
  readonly #firstBlocks = new Uint8Array(blockValues);

  /** Patterns are at least two bytes long. */
  constructor(patterns: readonly Buffer[]) {
    if (patterns.some(({ length }) => length < 2)) throw new RangeError("a pattern is too short");
    this.patterns = patterns;
    this.longest = Math.max(0, ...patterns.map(({ length }) => length));
    this.#shortest = Math.min(...patterns.map(({ length }) => length), 255);
    this.#shift = new Uint8Array(blockValues).fill(Math.max(1, this.#shortest - 1));
    for (const [index, pattern] of patterns.entries()) {
      this.#firstBytes[pattern[0] ?? 0] = 1;
      this.#firstBlocks[blockAt(pattern, 1)] = 1;
      for (let end = 1; end < this.#shortest; end += 1) {
        const block = blockAt(pattern, end);
        const distance = this.#shortest - 1 - end;
        this.#shift[block] = Math.min(this.#shift[block] ?? 0, distance);
        if (distance === 0)
          this.#candidates.set(block, [...(this.#candidates.get(block) ?? []), index]);
      }
    }
  }

  /** The first match that starts at or after `from`; of several there, the longest. */
  find(bytes: Buffer, from = 0): Match | undefined {
    if (this.patterns.length === 0) return undefined;
    const shift = this.#shift;
    const { length } = bytes;
    for (let end = from + this.#shortest - 1; end < length;) {
      const block = ((bytes[end - 1] as number) << 8) | (bytes[end] as number);
      const step = shift[block] as number;
      if (step > 0) {
        end += step;
        continue;
      }
      const match = this.#compare(bytes, end - this.#shortest + 1, block);
      if (match) return match;
      end += 1;
    }
    return undefined;
  }

  #compare(bytes: Buffer, at: number, block: number): Match | undefined {
    let best: Match | undefined;
    let length = 0;
    for (const index of this.#candidates.get(block) ?? []) {
      const pattern = this.patterns[index];
      if (!pattern || pattern.length <= length || at + pattern.length > bytes.length) continue;
      if (pattern.equals(bytes.subarray(at, at + pattern.length))) {
        best = { at, pattern: index };
        ({ length } = pattern);
      }
    }
    return best;
  }

  /** How many bytes at the end of `bytes` could be the beginning of a pattern: what a stream must hold back. */
  openTail(bytes: Buffer, from = 0): number {
    for (let at = Math.max(from, bytes.length - this.longest + 1); at < bytes.length; at += 1) {
      const last = at === bytes.length - 1;
      if (last && this.#firstBytes[bytes[at] as number] === 0) continue;
      if (!last && this.#firstBlocks[blockAt(bytes, at + 1)] === 0) continue;
      const tail = bytes.subarray(at);
      const opens = (pattern: Buffer): boolean =>
        pattern.length > tail.length && pattern.subarray(0, tail.length).equals(tail);
      if (this.patterns.some(opens)) return tail.length;
    }
    return 0;
  }

  /** How many bytes at the end are the beginning of a pattern, and half of it at least; 0: they are of none. */
  halfOpen(bytes: Buffer): number {
    for (const pattern of this.patterns) {
      for (let n = Math.ceil(pattern.length / 2); n < pattern.length && n <= bytes.length; n += 1) {
        if (pattern.subarray(0, n).equals(bytes.subarray(bytes.length - n))) return n;
      }
    }
    return 0;
  }
}

function blockAt(bytes: Buffer, end: number): number {
  return ((bytes[end - 1] ?? 0) << 8) | (bytes[end] ?? 0);
}

const nothing: Buffer = Buffer.alloc(0);

/** Applies a function to every match in a stream of chunks, across their boundaries. */
export class StreamReplacer {
  readonly #set: PatternSet;
  readonly #replace: (match: Match) => Buffer;
  #held: Buffer = nothing;

  constructor(set: PatternSet, replace: (match: Match) => Buffer) {
    this.#set = set;
    this.#replace = replace;
  }

  /** Takes a chunk, returns what is decided. */
  push(chunk: Buffer): Buffer {
    const bytes = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const parts: Buffer[] = [];
    let from = 0;
    for (let match = this.#set.find(bytes); match; match = this.#set.find(bytes, from)) {
      parts.push(bytes.subarray(from, match.at), this.#replace(match));
      from = match.at + (this.#set.patterns[match.pattern]?.length ?? 1);
    }
    const tail = this.#set.openTail(bytes, from);
    const end = bytes.length - tail;
    this.#held = tail === 0 ? nothing : Buffer.from(bytes.subarray(end));
    if (parts.length === 0) return tail === 0 ? bytes : bytes.subarray(0, end);
    return Buffer.concat([...parts, bytes.subarray(from, end)]);
  }

  /** The bytes held back, when no more come. */
  flush(): Buffer {
    const rest = this.#held;
    this.#held = nothing;
    return rest;
  }
}
