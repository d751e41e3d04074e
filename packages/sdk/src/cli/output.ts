// What commands print for people: colour only where a terminal shows it.
import process from "node:process";
import { styleText } from "node:util";

/** Writes a line to stdout. */
export function print(line: string): void {
  process.stdout.write(`${line}\n`);
}

/** Writes a value to stdout as one line of JSON. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value));
}

/** `text` in a colour, if stdout is a terminal that has them and NO_COLOR does not forbid it. */
export function colored(color: "green" | "red" | "yellow" | "dim", text: string): string {
  return styleText(color, text, { stream: process.stdout, validateStream: true });
}
