// The programs that a bench starts, and their end: whatever ends the bench ends them.
import { type ChildProcess, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { accessSync, constants as access } from "node:fs";
import { constants } from "node:os";
import path from "node:path";
import process from "node:process";

/** Servers' programs are not on the PATH of every ordinary user. */
const places = [...(process.env["PATH"] ?? "").split(":"), "/usr/sbin", "/usr/local/sbin"];

const children = new Set<ChildProcess>();
let ending = false;

/** The path of an installed program; undefined: it is not installed. */
export function find(command: string): string | undefined {
  return places
    .map((place) => path.join(place, command))
    .find((file) => {
      try {
        accessSync(file, access.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** Ends the bench with a word about what to install, unless all of these programs are there. */
export function need(...commands: string[]): void {
  const missing = commands.filter((command) => find(command) === undefined);
  if (missing.length === 0) return;
  console.error(
    `not installed: ${missing.join(", ")}; install them first (packages of the same names)`,
  );
  process.exit(1);
}

/** Starts a program that must live as long as the bench: its early end is the bench's. */
export function start(
  command: string,
  args: readonly string[],
  options: SpawnOptions,
): ChildProcess {
  // The kernel ends it even where this process has no time to (PR_SET_PDEATHSIG).
  const child = spawn("setpriv", ["--pdeathsig", "TERM", command, ...args], options);
  children.add(child);
  child.once("exit", (code, signal) => {
    children.delete(child);
    if (!ending) throw new Error(`${command} ended with ${signal ?? `status ${code}`}`);
  });
  return child;
}

/** Ends all of them, and resolves when they are gone. */
export async function endChildren(): Promise<void> {
  const gone = [...children].map((child) => once(child, "exit"));
  endNow();
  await Promise.all(gone);
}

function endNow(): void {
  ending = true;
  for (const child of children) child.kill("SIGTERM");
}

// An error nobody caught, too, comes by here.
process.once("exit", endNow);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  process.once(signal, () => process.exit(128 + constants.signals[signal]));
}
