/** What is not to be on a command line as it is: see printable.ts. */
const unsafe = /[\p{C}\p{Zl}\p{Zp}]/u;

/**
 * `text` as one word of a command line for sh. What terminals obey is spelt out, which every shell but a few old
 * ones reads (POSIX.1-2024, 2.2.4 "Dollar-Single-Quotes").
 */
export function shellWord(text: string): string {
  if (unsafe.test(text)) return `$'${text.replaceAll(/[\p{C}\p{Zl}\p{Zp}\\']/gu, octal)}'`;
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

function octal(character: string): string {
  const bytes = [...Buffer.from(character)];
  return bytes.map((byte) => `\\${byte.toString(8).padStart(3, "0")}`).join("");
}
