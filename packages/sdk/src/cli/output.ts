// What commands print: colour only where a terminal shows it, and nothing else that terminals obey.
import { isUtf8 } from "node:buffer";
import process from "node:process";
import { styleText } from "node:util";
import { printable, printableJson } from "../printable.ts";

/** A piece of a line in a colour. */
export interface Colored {
  readonly color: "green" | "red" | "yellow" | "dim";
  readonly text: string;
}

/** Writes a line to stdout; whatever its pieces hold, it is one line, and moves nothing. */
export function print(...pieces: readonly (string | Colored)[]): void {
  const shown = pieces.map((piece) =>
    typeof piece === "string" ? printable(piece) : inColor(piece),
  );
  printText(shown.join(""));
}

/** Writes lines that hold nothing of what others chose. */
export function printText(lines: string): void {
  process.stdout.write(`${lines}\n`);
}

/** Writes a line to stderr, where nono speaks while stdout is the command's. */
export function tell(line: string): void {
  process.stderr.write(`nono: ${printable(line)}\n`);
}

/** Writes a value to stdout as one line of JSON. */
export function printJson(value: unknown): void {
  printText(toJson(value));
}

/**
 * A value as one line of JSON, fit for a terminal. Text that is bytes because it is not UTF-8 (a file's name) is in base64, in
 * a member whose name ends with `_b64`: as in the record of @nono/audit.
 */
export function toJson(value: unknown): string {
  const json = JSON.stringify(value, (_, held: unknown) =>
    typeof held === "object" && held !== null && !Array.isArray(held)
      ? Object.fromEntries(Object.entries(held).map(inJson))
      : held,
  );
  return printableJson(json);
}

function inJson([name, value]: [string, unknown]): [string, unknown] {
  const isList = Array.isArray(value);
  const texts: readonly unknown[] = isList ? value : [value];
  if (!texts.some((text) => text instanceof Uint8Array)) return [name, value];
  const bytes = texts.map((text) => Buffer.from(text as string | Uint8Array));
  const encoding = bytes.every((text) => isUtf8(text)) ? "utf8" : "base64";
  const encoded = bytes.map((text) => text.toString(encoding));
  return [encoding === "utf8" ? name : `${name}_b64`, isList ? encoded : encoded[0]];
}

/** In its colour, if stdout is a terminal that has them and NO_COLOR does not forbid it. */
function inColor({ color, text }: Colored): string {
  return styleText(color, printable(text), { stream: process.stdout, validateStream: true });
}
