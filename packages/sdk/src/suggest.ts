/** `Did you mean …?` for a word that is nearly one of `known`; undefined when none is near. */
export function suggestion(word: string, known: readonly string[]): string | undefined {
  const near = known.find((name) => isNear(name.toLowerCase(), word.toLowerCase()));
  return near === undefined ? undefined : `Did you mean ${near}?`;
}

/** Whether one edit makes the one the other, or only the order of letters differs. */
function isNear(a: string, b: string): boolean {
  if (lettersOf(a) === lettersOf(b)) return true;
  const [short, long] = a.length < b.length ? [a, b] : [b, a];
  if (long.length - short.length > 1) return false;
  let at = 0;
  while (at < short.length && short[at] === long[at]) at += 1;
  const skip = long.length === short.length ? at + 1 : at;
  return short.slice(skip) === long.slice(at + 1);
}

function lettersOf(text: string): string {
  return text.split("").toSorted().join("");
}
