import { PatternSet } from "./pattern-set.ts";

/** Line ends as they are and as JSON writes them, with what may stand before the next line's first character. */
const lineEnds = /(?:[\r\n]|\\[rn])(?:[\r\n\t ]|\\[rn])*/g;
const tab = 0x09;
const newline = 0x0a;
const carriageReturn = 0x0d;
const space = 0x20;
const backslash = 0x5c;
const letterN = 0x6e;
const letterR = 0x72;
/** What base64, base64url and hex are written in. */
const isEncoded = new Uint8Array(256);
for (const byte of Buffer.from(
  "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_=",
)) {
  isEncoded[byte] = 1;
}
/** Of this length or half a form, a piece at least is whole: between two line ends, or on one side of a single one. */
const pieceLength = 28;

/** What a search of some bytes found. */
export interface Folded {
  /** From where to where, without the line ends between. */
  readonly ranges: readonly (readonly [number, number])[];
  /** Where what must be remembered begins: the next line may end what has begun in it. */
  readonly context: number;
  /** Where the greater part of a form begins that is not yet whole; else the end. */
  readonly open: number;
}

/**
 * Finds forms that are broken over lines: encoders of base64 and hex begin a new one after 60, 64 or 76 characters (RFC
 * 2045 section 6.8, RFC 7468), wherever that is in a value.
 */
export class LineFolding {
  readonly #set: PatternSet;
  readonly #pieces: PatternSet;
  readonly #shortestPiece: number;

  constructor(forms: readonly Buffer[]) {
    this.#set = new PatternSet(forms);
    this.#pieces = new PatternSet(forms.flatMap(piecesOf));
    this.#shortestPiece = Math.min(...this.#pieces.patterns.map(({ length }) => length));
  }

  search(bytes: Buffer): Folded {
    const end = bytes.length;
    const nothing = { ranges: [], context: end, open: end };
    const last = Math.max(bytes.lastIndexOf(newline), bytes.lastIndexOf(backslash));
    if (last < 0 || this.#set.patterns.length === 0) return nothing;
    // With as much again for the line ends.
    const context = Math.max(0, end - 2 * this.#set.longest);
    if (!this.#hasPiece(bytes)) {
      return last < context ? nothing : { ...nothing, context };
    }
    const text = bytes.toString("latin1");
    /** Of each line: where it is, and where it is without the line ends before it. */
    const lines: { readonly at: number; readonly folded: number; readonly length: number }[] = [];
    let at = 0;
    let folded = 0;
    const take = (end: number): void => {
      lines.push({ at, folded, length: end - at });
      folded += end - at;
    };
    for (const { index, 0: end } of text.matchAll(lineEnds)) {
      take(index);
      at = index + end.length;
    }
    take(bytes.length);
    const whole = Buffer.concat(
      lines.map((line) => bytes.subarray(line.at, line.at + line.length)),
    );
    const placeOf = (index: number): number => {
      const line = lines.findLast((each) => each.folded <= index);
      return line ? line.at + index - line.folded : 0;
    };
    const ranges: [number, number][] = [];
    for (let match = this.#set.find(whole); match;) {
      const end = match.at + (this.#set.patterns[match.pattern]?.length ?? 1);
      for (const line of lines) {
        const first = Math.max(match.at, line.folded);
        const last = Math.min(end, line.folded + line.length);
        const start = line.at - line.folded;
        if (first < last) ranges.push([start + first, start + last]);
      }
      match = this.#set.find(whole, end);
    }
    const half = this.#set.halfOpen(whole);
    return { ranges, context, open: half === 0 ? end : placeOf(whole.length - half) };
  }

  /**
   * Whether a piece of a form is at either end of a line. Of what encoders write no run as long as a piece is between
   * two bytes that far apart: so few are looked at, of bytes that nothing has encoded.
   */
  #hasPiece(bytes: Buffer): boolean {
    const step = this.#shortestPiece;
    for (let at = step - 1; at < bytes.length; at += step) {
      if (isEncoded[bytes[at] as number] === 0) continue;
      let start = at;
      while (start > 0 && isEncoded[bytes[start - 1] as number] === 1) start -= 1;
      at += 1;
      while (at < bytes.length && isEncoded[bytes[at] as number] === 1) at += 1;
      const isLong = at - start >= step;
      if (isLong && (beginsLine(bytes, start) || endsLine(bytes, at))) {
        if (this.#pieces.find(bytes.subarray(start, at))) return true;
      }
    }
    return false;
  }

  /** Overwrites the forms with zeroes, and what is known of them. */
  wipe(): void {
    for (const form of this.#set.patterns) form.fill(0);
    for (const piece of this.#pieces.patterns) piece.fill(0);
  }
}

function endsLine(bytes: Buffer, at: number): boolean {
  const byte = bytes[at];
  return byte === newline || byte === carriageReturn || (byte === backslash && isLetter(bytes, at));
}

/** What JSON writes for a line end looks like the first letter of what follows. */
function beginsLine(bytes: Buffer, at: number): boolean {
  let before = at - 1;
  while (bytes[before] === space || bytes[before] === tab) before -= 1;
  if (bytes[before] === newline || bytes[before] === carriageReturn) return true;
  return bytes[before] === backslash ? isLetter(bytes, before) : isLetter(bytes, before - 1);
}

/** Whether the byte behind a place is the letter of a line end as JSON writes it. */
function isLetter(bytes: Buffer, at: number): boolean {
  return bytes[at] === backslash && (bytes[at + 1] === letterN || bytes[at + 1] === letterR);
}

function piecesOf(form: Buffer): Buffer[] {
  const length = Math.min(pieceLength, Math.floor(form.length / 2));
  return Array.from({ length: Math.floor(form.length / length) }, (_, i) =>
    form.subarray(i * length, (i + 1) * length),
  );
}
