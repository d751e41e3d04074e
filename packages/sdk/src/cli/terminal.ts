// The user's terminal and the command's own, joined: what is typed goes in, what is shown comes out. The
// command never has the user's terminal itself, into which it could type commands for the shell
// outside (TIOCSTI), or which it could leave in a strange state.
import process from "node:process";
import { finished } from "node:stream/promises";
import type { SandboxedProcess, SpawnOptions } from "@nono/core";

/** Streams for a command that is run for a person, or for a pipe. */
export function streamsFor(): Pick<SpawnOptions, "pty" | "stdio"> {
  const { stdin, stdout, stderr } = process;
  const isInteractive = stdin.isTTY && stdout.isTTY && stderr.isTTY;
  return isInteractive ? { pty: size() } : { stdio: "inherit" };
}

/** A terminal that does not know its size says 0 (tty_ioctl(4), TIOCGWINSZ). */
function size(): { columns: number; rows: number } {
  return { columns: process.stdout.columns || 80, rows: process.stdout.rows || 24 };
}

/**
 * Joins the two. Disposing of it waits for all that the command's terminal has shown: when its sandbox
 * is closed, since processes in the background may have it open until then.
 */
export function joinTerminals(child: SandboxedProcess): AsyncDisposable {
  const { terminal } = child;
  const { stdin, stdout } = process;
  if (terminal === null) return { async [Symbol.asyncDispose]() {} };
  const resize = (): void => child.resize(size().columns, size().rows);
  stdin.setRawMode(true);
  stdin.pipe(terminal);
  terminal.pipe(stdout, { end: false });
  stdout.on("resize", resize);
  return {
    async [Symbol.asyncDispose]() {
      await finished(terminal, { writable: false }).catch(() => {});
      stdout.off("resize", resize);
      stdin.unpipe(terminal);
      stdin.setRawMode(false);
      stdin.pause();
      terminal.destroy();
    },
  };
}
