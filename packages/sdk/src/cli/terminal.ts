// The user's terminal and the command's own, joined: what is typed goes in, what is shown comes out. The
// command never has the user's terminal itself, into which it could type commands for the shell
// outside (TIOCSTI), or which it could leave in a strange state.
import process from "node:process";
import type { Readable, Writable } from "node:stream";
import { finished } from "node:stream/promises";
import { isatty } from "node:tty";
import type { SandboxedProcess, SpawnOptions } from "@nono/core";

/**
 * Brings the terminal back from what the command may have left it in, before nono itself is to be read: one line
 * that scrolls while the others stay (DECSTBM), lines that are cut off at their end (DECAWM), hidden text, other
 * letters (xterm, "Control Sequences"). The cursor stays: it is saved meanwhile, as the margins' reset moves it.
 */
export const sane: string =
  "\u001B7\u001B[?6l\u001B[?69l\u001B[r\u001B8" +
  "\u001B[?7h\u001B[4l\u001B[?25h" +
  "\u001B[0m\u001B(B\u000F";

/**
 * Streams for a command that is run for a person, or for a pipe.
 *
 * @param isShared Whether nono itself uses the terminal while the command runs: then none of the command's
 *   streams is the terminal, so that it can neither read an answer nor show over a question.
 */
export function streamsFor(isShared: boolean): Pick<SpawnOptions, "pty" | "stdio"> {
  const { stdin, stdout, stderr } = process;
  if (stdin.isTTY && stdout.isTTY && stderr.isTTY) return { pty: size() };
  if (!isShared) return { stdio: "inherit" };
  return { stdio: [0, 1, 2].map((fd) => (isatty(fd) ? "pipe" : "inherit")) };
}

/** A terminal that does not know its size says 0 (tty_ioctl(4), TIOCGWINSZ). */
function size(): { columns: number; rows: number } {
  return { columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 };
}

/** A command's streams, joined to the user's. */
export interface JoinedStreams extends AsyncDisposable {
  /**
   * Leaves the terminal to nono until disposed of: what is typed does not reach the command, and what it
   * shows waits.
   */
  hold(): Disposable;
}

/**
 * Joins the two. Disposing of it waits for all that the command has shown: when its sandbox is closed,
 * since processes in the background may have its streams open until then.
 */
export function joinStreams(child: SandboxedProcess): JoinedStreams {
  const { terminal } = child;
  const { stdin, stdout, stderr } = process;
  const into: Writable | null = terminal ?? child.stdin;
  const shown: (readonly [Readable, Writable])[] = [];
  if (terminal !== null) shown.push([terminal, stdout]);
  if (child.stdout !== null) shown.push([child.stdout, stdout]);
  if (child.stderr !== null) shown.push([child.stderr, stderr]);

  const flow = (): void => {
    if (into !== null) stdin.pipe(into);
    for (const [from, to] of shown) from.pipe(to, { end: false });
  };
  const hold = (): void => {
    if (into !== null) stdin.unpipe(into);
    for (const [from, to] of shown) from.unpipe(to);
  };
  const resize = (): void => child.resize(size().columns, size().rows);
  if (terminal !== null) {
    stdin.setRawMode(true);
    stdout.on("resize", resize);
  }
  // A command that reads no more is no failure.
  child.stdin?.on("error", () => {});
  flow();
  return {
    hold() {
      hold();
      return {
        [Symbol.dispose]() {
          flow();
          if (terminal !== null) redraw(child);
        },
      };
    },
    async [Symbol.asyncDispose]() {
      const ends = shown.map(([from]) => finished(from, { writable: false }).catch(() => {}));
      await Promise.all(ends);
      if (into !== null) stdin.unpipe(into).pause();
      if (terminal === null) return;
      stdout.off("resize", resize);
      stdin.setRawMode(false);
      stdout.write(sane);
      terminal.destroy();
    },
  };
}

/** Programs that fill the screen draw it anew when its size changes, and the kernel tells of nothing else. */
function redraw(child: SandboxedProcess): void {
  const { columns, rows } = size();
  child.resize(columns, rows === 1 ? 2 : rows - 1);
  child.resize(columns, rows);
}
