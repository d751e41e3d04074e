// Patterns below directories whose names are no patterns.
import path from "node:path";

/** What has a meaning in a pattern, unless a backslash is before it. */
const special = /[*?[{\\]/g;

/**
 * The pattern `text` below `directory`, which is meant as it is: a workspace may be called `app[1]`, and what a
 * policy denies in it would be denied in `app1` instead.
 */
export function patternBelow(directory: string, text: string): string {
  const names = text.split("/").filter((name) => name !== "" && name !== ".");
  // What leads to the first wildcard is a place.
  const first = names.findIndex(isSpecial);
  const plain = first === -1 ? names.length : first;
  const place = path.join(directory, ...names.slice(0, plain));
  const start = literally(place);
  return [start === "/" ? "" : start, ...names.slice(plain)].join("/") || "/";
}

function isSpecial(text: string): boolean {
  return text.search(special) !== -1;
}

function literally(text: string): string {
  return text.replaceAll(special, String.raw`\$&`);
}
