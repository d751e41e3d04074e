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

/** The ways in which a server may give a value back: as it is, base64, URL-encoded, JSON-escaped, hex. */
export function encodedForms(secret: Buffer): Buffer[] {
  const text = secret.toString("utf8");
  const url = encodeURIComponent(text);
  const strictUrl = url.replace(/[!'()*]/g, (char) => `%${char.charCodeAt(0).toString(16)}`);
  const json = JSON.stringify(text).slice(1, -1);
  const texts = [
    ...[url, strictUrl].flatMap((form) => [form, lowerEscapes(form), form.replaceAll("%20", "+")]),
    json,
    json.replaceAll("/", String.raw`\/`),
    escapeHtml(text),
    secret.toString("hex"),
    secret.toString("hex").toUpperCase(),
    ...base64Cores(secret),
  ];
  const forms = [secret, ...texts.map((form) => Buffer.from(form))];
  return [...new Map(forms.map((form) => [form.toString("latin1"), form])).values()];
}

function lowerEscapes(text: string): string {
  return text.replace(/%[0-9A-F]{2}/g, (escape) => escape.toLowerCase());
}

function escapeHtml(text: string): string {
  const entities: Record<string, string> = {
    "&": "&amp;",
    "<": "&lt;",
    ">": "&gt;",
    '"': "&quot;",
  };
  return text.replace(/[&<>"]/g, (char) => entities[char] ?? char);
}

/**
 * In base64 a value looks different at each of the three offsets that whatever stands before it leaves (`user:` in
 * Basic). The characters that also hold bits of the neighbours are left out.
 */
function base64Cores(secret: Buffer): string[] {
  return [0, 1, 2].flatMap((offset) => {
    const shifted = Buffer.concat([Buffer.alloc(offset), secret]);
    const start = [0, 2, 3][offset];
    const end = Math.floor((shifted.length * 8) / 6);
    const standard = shifted.toString("base64").slice(start, end);
    return [standard, standard.replaceAll("+", "-").replaceAll("/", "_")];
  });
}
