// What `nono run` and `nono shell` have in common: one command in one sandbox, its streams the
// caller's own, its end reported.
import { writeSync } from "node:fs";
import { constants } from "node:os";
import process from "node:process";
import { type Exit, NonoError, type SandboxedProcess } from "@nono/core";
import type { Sandbox } from "../sandbox.ts";
import { describeViolation } from "../violation.ts";
import type { Flag, Values } from "./command.ts";
import { number, refuse } from "./parse.ts";
import { workspaceOf } from "./sandbox-flags.ts";
import { withProgress } from "./progress.ts";
import { SignalForwarding } from "./signals.ts";
import { joinTerminals, streamsFor } from "./terminal.ts";

/** GNU timeout's exit status for a command that was ended. */
const timedOutStatus = 124;

/** The flags of how it is run and reported. */
export const runFlags: readonly Flag[] = [
  {
    name: "timeout",
    value: "SECONDS",
    help: "end it after this time: SIGTERM, then SIGKILL",
  },
  { name: "json", help: "report the result as one line of JSON on stderr" },
  { name: "json-fd", value: "N", help: "the same on file descriptor N" },
];

/** Runs it; returns the exit status. */
export async function runInSandbox(
  makeSandbox: () => Sandbox,
  argv: readonly string[],
  values: Values,
): Promise<number> {
  const report = reporter(values);
  try {
    await using sandbox = makeSandbox();
    return await runToEnd(sandbox, argv, values, report);
  } catch (error) {
    if (error instanceof NonoError) {
      const { code, message, value, remedy } = error;
      report({ error: { code, message, value, remedy } });
    }
    throw error;
  }
}

async function runToEnd(
  sandbox: Sandbox,
  argv: readonly string[],
  values: Values,
  report: (result: unknown) => void,
): Promise<number> {
  using signals = new SignalForwarding();
  const refused = collectViolations(sandbox);
  const timeout = values.one("timeout");
  const milliseconds = timeout === undefined ? undefined : number("--timeout", timeout) * 1000;
  const begin = performance.now();
  const what = sandbox.isUndoable ? "keeping the state of now" : "building the sandbox";
  await withProgress(what, sandbox.guarantees());
  const child = await sandbox.spawn(argv, { cwd: workspaceOf(values), ...streamsFor() });
  signals.to(child);
  await using _ = joinTerminals(child);
  using deadline = endAfter(milliseconds, child);
  const exit = await child.exited;
  const guarantees = await sandbox.guarantees();
  await sandbox.close();
  report({
    exitCode: exit.exitCode,
    signal: exit.signal,
    timedOut: deadline.hasPassed,
    durationMs: Math.round(performance.now() - begin),
    usage: exit.usage,
    violations: refused,
    guarantees,
  });
  if (exit.exitCode !== 0) tellRefusals(refused);
  return deadline.hasPassed ? timedOutStatus : exitStatus(exit);
}

/** More would be no help. */
const toldRefusals = 5;

/** What is refused from now on, in one line each. */
function collectViolations(sandbox: Sandbox): string[] {
  const refused: string[] = [];
  sandbox.events.on("violation", (violation) => refused.push(describeViolation(violation)));
  sandbox.events.on("gate", ({ decision, object }) => {
    if (decision === "deny" && "reason" in object) refused.push(`network: ${object.reason}`);
  });
  return refused;
}

/** A command that failed, and was refused something, probably failed because of that. */
function tellRefusals(refused: readonly string[]): void {
  if (refused.length === 0) return;
  const distinct = [...new Set(refused)];
  process.stderr.write(`nono: ${refused.length} attempts were refused:\n`);
  for (const line of distinct.slice(0, toldRefusals)) process.stderr.write(`nono:   ${line}\n`);
  const more = distinct.length - toldRefusals;
  if (more > 0) process.stderr.write(`nono:   and ${more} more (nono audit show)\n`);
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
  return (result) => void writeSync(fd, `${JSON.stringify(result)}\n`);
}

function descriptor(text: string): number {
  const fd = number("--json-fd", text);
  if (Number.isInteger(fd) && fd !== 1) return fd;
  throw refuse("--json-fd can't be the command's own", text, "Give an open descriptor, not 1.");
}
