// One question on the terminal that the person has before them, whatever the command's streams are.
import { closeSync, openSync, writeSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { ReadStream } from "node:tty";
import type { Violation } from "@nono/core";
import { printable, spelt } from "../printable.ts";
import type { Never } from "../learn/never.ts";
import { objectOf } from "../violation.ts";
import { typedLine } from "./prompt.ts";
import { advice } from "./refusals.ts";
import { sane } from "./terminal.ts";

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

/** A line of its own, in plain characters, with nothing below it. */
const plain = `${sane}\n\u001B[J`;

/** Enough to recognise a program, a command and a directory by, in characters. */
const recognisable = 160;

/** Enough for what is asked about; all of a question fits on a screen of 24 lines of 80. */
const decisive = 320;

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

/** The lines that say who wants what. */
export function question(request: Violation, never: Never): string {
  const { to, ...first } = request;
  const { process, operation, rule } = first;
  const advised = advice(request, never);
  const program = shown(String(process.executable) || "a process", recognisable);
  const command = shown(process.arguments.map(String).join(" "), recognisable);
  const target = to === undefined ? "" : ` to ${shown(String(to), decisive)}`;
  const lines = [
    `${program} wants to ${operation} ${shown(objectOf(first), decisive)}${target}`,
    `  it is ${command} (pid ${process.pid}) in ${shown(String(process.cwd), recognisable)}`,
    `  ${shown(`${rule}${advised === undefined ? "" : `; ${advised}`}`, decisive)}`,
  ];
  return lines.map((line) => `nono: ${line}\n`).join("");
}

/** What looks like nothing: with enough of it a name could go on in the next line, as if nono said it. */
const blank = /(?<= )[ ]|[^\P{Zs} ]|[\p{Default_Ignorable_Code_Point}\u2800]/gu;

/** `text` for the screen, its middle left out when there is more than `most` of it. */
function shown(text: string, most: number): string {
  const visible = printable(text).replaceAll(blank, spelt);
  if (visible.length <= most) return visible;
  const half = Math.floor(most / 2);
  const left = visible.length - 2 * half;
  return `${visible.slice(0, half)} [${left} characters] ${visible.slice(-half)}`;
}
