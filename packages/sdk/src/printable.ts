// Names that commands chose, on the terminal of a person.

/**
 * What terminals obey, or what hides or turns round what follows it (controls, bidirectional formatting), and
 * what some readers of lines take for the end of one (U+0085, U+2028).
 */
export const unsafe: RegExp = /[\p{C}\p{Zl}\p{Zp}]/gu;

/**
 * `text` with escapes in place of characters that are not for a terminal: a file may be called anything, such
 * as what erases the line that tells of it.
 */
export function printable(text: string): string {
  return text.replaceAll(unsafe, spelt);
}

/** A character by its number. */
export function spelt(character: string): string {
  return `\\u{${character.codePointAt(0)?.toString(16)}}`;
}

/** The same of each line of a text of several. */
export function printableLines(text: string): string {
  return text.split("\n").map(printable).join("\n");
}

/**
 * JSON that means the same, with escapes for those characters. They occur in its strings alone, and
 * `JSON.stringify` escapes only those below U+0020.
 */
export function printableJson(json: string): string {
  return json.replaceAll(unsafe, (character) =>
    character === "\n" ? character : character.split("").map(escaped).join(""),
  );
}

/** RFC 8259, section 7: two of them for what is not in the Basic Multilingual Plane. */
function escaped(unit: string): string {
  return `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`;
}
