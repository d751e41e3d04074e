import { encodedForms, wrappedForms } from "./encoded-forms.ts";
import { LineFolding } from "./line-folding.ts";
import { PatternSet } from "./pattern-set.ts";

/** Shorter values would be found where they are not. */
export const shortestSecret = 8;

const asterisk = 0x2a;
const nothing: Buffer = Buffer.alloc(0);

/** What tokens and their forms are written in: printable characters, and the zeroes of UTF-16. */
const isTokenByte = (byte: number): boolean => (byte > 0x20 && byte < 0x7f) || byte === 0;

/** Takes a response's bytes and returns them with every secret masked. */
export interface MaskingStream {
  /** Either a part of the chunk, or in memory that nothing else is in. */
  push(chunk: Buffer): Buffer;
  /** What is held back though nothing has come for a while: all but the greater part of a secret. */
  pause(): Buffer;
  flush(): Buffer;
}

/** Replaces secrets by asterisks of the same length, so that lengths announced elsewhere stay true. */
export class Masker {
  readonly #set: PatternSet;
  readonly #folding: LineFolding;

  constructor(secrets: readonly Buffer[]) {
    this.#set = new PatternSet(distinct(secrets.flatMap(encodedForms)));
    this.#folding = new LineFolding(distinct(secrets.flatMap(wrappedForms)));
  }

  stream(): MaskingStream {
    return new TailHolder(this.#set, this.#folding);
  }

  /** Overwrites all forms of the secrets with zeroes. Nothing may be masked after that. */
  wipe(): void {
    for (const form of this.#set.patterns) form.fill(0);
    this.#folding.wipe();
  }

  /** Masks header fields or other short texts, each of the length it had. */
  texts(values: string[]): string[] {
    // One look over all of them: nearly always there is nothing to mask.
    const all = Buffer.from(values.join("\n"), "latin1");
    if (this.#set.find(all) === undefined) return values;
    return values.map((value) => {
      const stream = this.stream();
      return Buffer.concat([stream.push(Buffer.from(value, "latin1")), stream.flush()]).toString(
        "latin1",
      );
    });
  }
}

function distinct(forms: readonly Buffer[]): Buffer[] {
  return [...new Map(forms.map((form) => [form.toString("latin1"), form])).values()];
}

function inMemoryOfItsOwn(...parts: Buffer[]): Buffer {
  const whole = Buffer.allocUnsafeSlow(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) at += part.copy(whole, at);
  return whole;
}

/**
 * Masks across the borders of chunks. What it holds back at the end of one says nothing of the secrets but their length:
 * if only their beginnings were held, whoever can have a server say a guess at the end of a chunk would see in what
 * arrives whether it is right, and find a secret out character by character.
 */
class TailHolder implements MaskingStream {
  readonly #set: PatternSet;
  readonly #folding: LineFolding;
  #held: Buffer = nothing;
  /** Bytes of `#held` that are remembered only: of a secret that began in them the rest can be masked. */
  #sent = 0;

  constructor(set: PatternSet, folding: LineFolding) {
    this.#set = set;
    this.#folding = folding;
  }

  push(chunk: Buffer): Buffer {
    const bytes = this.#held.length === 0 ? chunk : inMemoryOfItsOwn(this.#held, chunk);
    let masked = bytes;
    let from = 0;
    for (let match = this.#set.find(bytes); match; match = this.#set.find(bytes, from)) {
      from = match.at + (this.#set.patterns[match.pattern]?.length ?? 1);
      if (masked === bytes) masked = inMemoryOfItsOwn(bytes);
      masked.fill(asterisk, match.at, from);
    }
    const { ranges, context, open } = this.#folding.search(bytes);
    if (ranges.length > 0 && masked === bytes) masked = inMemoryOfItsOwn(bytes);
    for (const [first, last] of ranges) masked.fill(asterisk, first, last);
    const tail = Math.max(this.#set.openTail(bytes, from), this.#tokens(bytes, from));
    const end = Math.min(bytes.length - tail, open);
    const kept = Math.min(end, context);
    const start = Math.min(this.#sent, end);
    this.#held = kept === bytes.length ? nothing : Buffer.from(masked.subarray(kept));
    this.#sent = Math.max(this.#sent, end) - kept;
    return masked.subarray(start, end);
  }

  pause(): Buffer {
    // Of what is split by a pause no more than half may get through.
    return this.#set.halfOpen(this.#held) > 0 ? nothing : this.#rest(this.#held.length);
  }

  flush(): Buffer {
    const rest = this.#rest(0);
    this.#held = nothing;
    return rest;
  }

  #rest(sent: number): Buffer {
    const rest = this.#held.subarray(this.#sent);
    this.#sent = sent;
    return rest;
  }

  /** How many bytes at the end could be the beginning of any token as long as these. */
  #tokens(bytes: Buffer, from: number): number {
    const first = Math.max(from, bytes.length - this.#set.longest + 1);
    let at = bytes.length;
    while (at > first && isTokenByte(bytes[at - 1] as number)) at -= 1;
    return bytes.length - at;
  }
}
