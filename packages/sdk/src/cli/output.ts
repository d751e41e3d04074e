// What commands print for people: colour only where a terminal shows it.
import { isUtf8 } from "node:buffer";
import process from "node:process";
import { styleText } from "node:util";

/** Writes a line to stdout. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Writes a value to stdout as one line of JSON. */
export function printJson(value: unknown): void {
  print(toJson(value));
}

/**
 * A value as one line of JSON. Text that is bytes because it is not UTF-8 (a file's name) is in base64, in
 * a member whose name ends with `_b64`: as in the record of @nono/audit.
 */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_, held: unknown) =>
    typeof held === "object" && held !== null && !Array.isArray(held)
      ? Object.fromEntries(Object.entries(held).map(inJson))
      : held,
  );
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

/** `text` in a colour, if stdout is a terminal that has them and NO_COLOR does not forbid it. */
export function colored(color: "green" | "red" | "yellow" | "dim", text: string): string {
  return styleText(color, text, { stream: process.stdout, validateStream: true });
}
