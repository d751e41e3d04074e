import { encodedForms } from "./encoded-forms.ts";
import { PatternSet, StreamReplacer } from "./pattern-set.ts";

/** Shorter values would be found where they are not. */
export const shortestSecret = 8;

const asterisk = 0x2a;

/** Takes a response's bytes and returns them with every secret masked. */
export interface MaskingStream {
  push(chunk: Buffer): Buffer;
  flush(): Buffer;
}

/** Replaces secrets by asterisks of the same length, so that lengths announced elsewhere stay true. */
export class Masker {
  readonly #set: PatternSet;

  constructor(secrets: readonly Buffer[]) {
    const forms = new Map<string, Buffer>();
    for (const secret of secrets) {
      for (const form of encodedForms(secret)) forms.set(form.toString("latin1"), form);
    }
    this.#set = new PatternSet([...forms.values()]);
  }

  stream(): MaskingStream {
    return new StreamReplacer(this.#set, ({ pattern }) => {
      return Buffer.alloc(this.#set.patterns[pattern]?.length ?? 0, asterisk);
    });
  }

  /** Overwrites all forms of the secrets with zeroes. Nothing may be masked after that. */
  wipe(): void {
    for (const form of this.#set.patterns) form.fill(0);
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
