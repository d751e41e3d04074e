// What `nono run` and `nono shell` have in common: one command in one sandbox, its streams the
// caller's own, its end reported.
import { fstatSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import process from "node:process";
import { ArgumentError, type Exit, type SandboxedProcess } from "@nono/core";
import type { Sandbox, SandboxSettings } from "../sandbox.ts";
import type { PolicyViolation } from "../violation.ts";
import { Asker } from "./ask.ts";
import type { Flag, Values } from "./command.ts";
import { timedOut } from "./exit-status.ts";
import { GateFailures } from "./gate-failures.ts";
import { toJson } from "./output.ts";
import { number, refuse, seconds } from "./parse.ts";
import { withProgress } from "./progress.ts";
import { errorInJson } from "../refusal.ts";
import type { Epilogue } from "./refusals.ts";
import { workspaceOf } from "./sandbox-flags.ts";
import { SignalForwarding } from "./signals.ts";
import { joinStreams, streamsFor } from "./terminal.ts";

/** The flags of how it is run and reported. */
export const runFlags: readonly Flag[] = [
  {
    name: "ask",
    help: "ask on the terminal about each file, program and connection that would be refused",
  },
  {
    name: "timeout",
    value: "SECONDS",
    help: "end it after this time: SIGTERM, then SIGKILL",
  },
  { name: "json", help: "report the result as one line of JSON on stderr" },
  { name: "json-fd", value: "N", help: "the same on file descriptor N" },
];

/**
 * Runs it; returns the exit status.
 *
 * @param tellEnd What people are told afterwards; not those who parse stderr (`--json`).
 */
export async function runInSandbox(
  makeSandbox: (settings: SandboxSettings) => Sandbox,
  argv: readonly string[],
  values: Values,
  tellEnd: Epilogue,
): Promise<number> {
  const report = reporter(values);
  try {
    await using asker = values.has("ask") ? new Asker(workspaceOf(values)) : undefined;
    await using sandbox = makeSandbox(asker?.settings ?? {});
    const failures = new GateFailures(process.stderr.isTTY);
    if (!values.has("json")) sandbox.events.on("gate", failures.note);
    const end = await runToEnd(sandbox, argv, values, { report, asker });
    failures.tellRest();
    const isExplained = end.refused.length === 0 && !failures.isEmpty;
    if (!values.has("json") && !isExplained) {
      tellEnd(end.refused, workspaceOf(values), end.exit);
    }
    return end.status;
  } catch (error) {
    try {
      report(errorInJson(error));
    } catch {
      // It is told on stderr, whatever it is.
    }
    throw error;
  }
}

async function runToEnd(
  sandbox: Sandbox,
  argv: readonly string[],
  values: Values,
  { report, asker }: { report: (result: unknown) => void; asker: Asker | undefined },
): Promise<{ status: number; exit: Exit; refused: readonly PolicyViolation[] }> {
  using signals = new SignalForwarding();
  const timeout = values.one("timeout");
  const milliseconds = timeout === undefined ? undefined : seconds("--timeout", timeout);
  const begin = performance.now();
  const what = sandbox.isUndoable ? "keeping the state of now" : "building the sandbox";
  await withProgress(what, sandbox.guarantees());
  const child = await sandbox.spawn(argv, {
    cwd: workspaceOf(values),
    ...streamsFor(asker !== undefined),
  });
  signals.to(child);
  await using joined = joinStreams(child);
  asker?.begin(child, joined);
  using deadline = endAfter(milliseconds, child);
  const exit = await child.exited;
  await asker?.[Symbol.asyncDispose]();
  const guarantees = await sandbox.guarantees();
  const violations = await sandbox.violations();
  await sandbox.close();
  report({
    exitCode: exit.exitCode,
    signal: exit.signal,
    timedOut: deadline.hasPassed,
    durationMs: Math.round(performance.now() - begin),
    usage: exit.usage,
    violations,
    guarantees,
  });
  return { status: deadline.hasPassed ? timedOut : exitStatus(exit), exit, refused: violations };
}

function endAfter(
  milliseconds: number | undefined,
  child: SandboxedProcess,
): Disposable & { readonly hasPassed: boolean } {
  const deadline = { hasPassed: false, [Symbol.dispose]: (): void => clearTimeout(timer) };
  const timer =
    milliseconds === undefined
      ? undefined
      : setTimeout(() => {
          deadline.hasPassed = true;
          void child.terminate().catch(() => {});
        }, milliseconds);
  return deadline;
}

/** What a shell would report (sh: "Exit status for commands"). */
function exitStatus({ exitCode, signal }: Exit): number {
  return exitCode ?? 128 + (signal === null ? 0 : constants.signals[signal]);
}

function reporter(values: Values): (result: unknown) => void {
  const text = values.one("json-fd");
  if (text === undefined && !values.has("json")) return () => {};
  const fd = text === undefined ? 2 : descriptor(text);
  return (result) => write(fd, `${toJson(result)}\n`);
}

function write(fd: number, text: string): void {
  try {
    writeFileSync(fd, text); // all of it, unlike writeSync
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const message = `The result can't be written to descriptor ${fd} (${code})`;
    const remedy = "Read it to its end, and leave room for it.";
    throw new ArgumentError("ERR_NONO_INVALID_OPTION", message, { value: fd, remedy, cause });
  }
}

function descriptor(text: string): number {
  const fd = number("--json-fd", text);
  if (fd !== 1 && isOpen(fd)) return fd;
  const problem = fd === 1 ? "the command's own" : `${text}: it is not open`;
  throw refuse(
    `--json-fd can't be ${problem}`,
    text,
    "Give an open descriptor, not 1: 3>result.json",
  );
}

/** Found out before anything is run, whose result could not be told. */
function isOpen(fd: number): boolean {
  try {
    return fstatSync(fd) !== undefined;
  } catch {
    return false;
  }
}
