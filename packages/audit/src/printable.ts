/**
 * Text for a terminal: whatever would move the cursor, hide, or reorder what is beside it (control characters,
 * bidirectional and zero-width formats) is written as a JSON escape. Names in a log are an agent's choice.
 */
export function printable(text: string): string {
  return text.replaceAll(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    Array.from({ length: character.length }, (_, i) => escape(character.charCodeAt(i))).join(""),
  );
}

function escape(unit: number): string {
  return `\\u${unit.toString(16).padStart(4, "0")}`;
}
