// Names that commands chose, on the terminal of a person.

/**
 * `text` with escapes in place of characters that terminals obey, or that hide or turn round what follows
 * them (controls, bidirectional formatting): a file may be called anything, such as what erases the line
 * that tells of it.
 */
export function printable(text: string): string {
  return text.replaceAll(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (character) => `\\u{${character.codePointAt(0)?.toString(16)}}`,
  );
}
