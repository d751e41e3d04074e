// One question on the terminal that the person has before them, whatever the command's streams are.
import { closeSync, openSync, writeSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { ReadStream } from "node:tty";
import type { Violation } from "@nono/core";
import { printable } from "../printable.ts";
import type { Never } from "../learn/never.ts";
import { objectOf } from "../violation.ts";
import { typedLine } from "./prompt.ts";
import { advice } from "./refusals.ts";

/** What a person says to a question; `interrupt`: Ctrl-C. */
export type Answer = "once" | "session" | "deny" | "interrupt";

const words: Readonly<Record<string, Answer>> = {
  o: "once",
  once: "once",
  s: "session",
  session: "session",
  d: "deny",
  deny: "deny",
};

/**
 * What is typed in the first moment is no answer, in milliseconds: it was meant for the command, and the
 * command chooses when there is a question.
 */
const startled = 500;

/**
 * Before a question, since the command may have left the terminal hiding text, or showing letters as
 * others (ECMA-48 SGR, G0 as ASCII): a line of its own, in plain characters.
 */
const plain = "\u001B[0m\u001B(B\u000F\n";

/** Enough to recognise a command by, in characters. */
const recognisable = 160;

/** Whether there is a terminal to ask on. */
export function hasTerminal(): boolean {
  try {
    closeSync(openSync("/dev/tty", "r+"));
    return true;
  } catch {
    return false; // ENXIO: no controlling terminal (tty(4))
  }
}

/** Asks; undefined: `signal` was aborted before there was an answer. */
export async function askWhether(
  request: Violation,
  never: Never,
  signal: AbortSignal,
): Promise<Answer | undefined> {
  const screen = openSync("/dev/tty", "w");
  const show = (text: string): void => void writeSync(screen, text);
  const input = new ReadStream(openSync("/dev/tty", "r"));
  const stop = (): void => void input.destroy();
  signal.addEventListener("abort", stop, { once: true });
  input.setRawMode(true);
  try {
    show(`${plain}${question(request, never)}`);
    input.resume();
    await delay(startled, undefined, { signal });
    for (;;) {
      show("nono: allow it [o]nce, for this [s]ession, or [d]eny it? ");
      const line = await typedLine(input, show);
      show("\n");
      if (line === undefined) return "interrupt";
      const answer = words[line.trim().toLowerCase()];
      if (answer !== undefined) return answer;
    }
  } catch (error) {
    if (!signal.aborted) throw error;
    show("\nnono: there was no answer, so it is refused\n");
    return undefined;
  } finally {
    signal.removeEventListener("abort", stop);
    input.setRawMode(false);
    input.destroy();
    closeSync(screen);
  }
}

function question(request: Violation, never: Never): string {
  const { process, operation, rule } = request;
  const command = process.arguments.map(String).join(" ").slice(0, recognisable);
  const advised = advice(request, never);
  const lines = [
    `${String(process.executable) || "a process"} wants to ${operation} ${objectOf(request)}`,
    `  it is ${command} (pid ${process.pid}) in ${String(process.cwd)}`,
    `  ${rule}${advised === undefined ? "" : `; ${advised}`}`,
  ];
  return lines.map((line) => `nono: ${printable(line)}\n`).join("");
}
