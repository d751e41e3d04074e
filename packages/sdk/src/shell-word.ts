import { unsafe } from "./printable.ts";

/**
 * `text` as one word of a command line for sh. What terminals obey is spelt out, which every shell but a few old
 * ones reads (POSIX.1-2024, 2.2.4 "Dollar-Single-Quotes").
 */
export function shellWord(text: string): string {
  if (text.search(unsafe) >= 0) {
    return `$'${text.replaceAll(/[\\']/g, octal).replaceAll(unsafe, octal)}'`;
  }
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function octal(character: string): string {
  const bytes = [...Buffer.from(character)];
  return bytes.map((byte) => `\\${byte.toString(8).padStart(3, "0")}`).join("");
}
