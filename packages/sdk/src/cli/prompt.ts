import process from "node:process";
import type { ReadStream } from "node:tty";
import { printable } from "../printable.ts";

const interrupt = "\u0003"; // Ctrl-C
const end = "\u0004"; // Ctrl-D
const backspace = "\u007f";

/**
 * A line typed into a terminal in raw mode; undefined: Ctrl-C, or there is no more to come.
 *
 * @param echo Shows what is typed; a backspace takes the last of it back.
 */
export async function typedLine(
  input: ReadStream,
  echo: (character: string) => void = () => {},
): Promise<string | undefined> {
  let line = "";
  for await (const chunk of input.iterator({ destroyOnReturn: false })) {
    for (const character of String(chunk)) {
      if (character === "\r" || character === "\n") return line;
      if (character === interrupt || (character === end && line === "")) return undefined;
      if (character === backspace && line !== "") {
        line = line.slice(0, -1);
        echo("\b \b");
      } else if (character >= " " && character !== backspace) {
        line += character;
        echo(character);
      }
    }
  }
  return undefined;
}

/** Asks on the terminal for a line that is not shown while it is typed; empty after Ctrl-C. */
export async function askHidden(question: string): Promise<string> {
  const { stdin, stderr } = process;
  stderr.write(printable(question));
  stdin.setRawMode(true);
  try {
    return (await typedLine(stdin)) ?? "";
  } finally {
    stdin.setRawMode(false);
    stdin.destroy(); // or it would be waited for
    stderr.write("\n");
  }
}
