import { writeSync } from "node:fs";
import { constants } from "node:os";
import process from "node:process";
import { ArgumentError, type Exit, NonoError, type SandboxedProcess } from "@nono/core";
import { Sandbox } from "../sandbox.ts";
import { parseRunFlags, programPath, type RunFlags } from "./flags.ts";
import { usage } from "./help.ts";

/** `nono run`: returns the exit status. */
export async function runCommand(args: string[]): Promise<number> {
  const flags = parseRunFlags(args);
  if (flags.help) {
    process.stdout.write(usage);
    return 0;
  }
  const [name, ...rest] = flags.command;
  if (name === undefined) {
    throw new ArgumentError("ERR_NONO_INVALID_ARGV", "There is no command to run", {
      remedy: "Put it behind --, as in: nono run --allow-read . -- ls",
    });
  }
  try {
    return await runInSandbox(programPath(name), rest, flags);
  } catch (error) {
    if (error instanceof NonoError) {
      const { code, message, value, remedy } = error;
      report(flags, { error: { code, message, value, remedy } });
    }
    throw error;
  }
}

async function runInSandbox(program: string, args: string[], flags: RunFlags): Promise<number> {
  const signals = forwardSignals();
  await using sandbox = sandboxFor(program, flags);
  const begin = performance.now();
  const child = await sandbox.spawn([program, ...args], { cwd: flags.cwd, stdio: "inherit" });
  signals.to(child);
  let timedOut = false;
  const timer =
    flags.timeout === undefined
      ? undefined
      : setTimeout(() => {
          timedOut = true;
          void child.terminate().catch(() => {});
        }, flags.timeout);
  try {
    const exit = await child.exited;
    report(flags, {
      exitCode: exit.exitCode,
      signal: exit.signal,
      timedOut,
      durationMs: Math.round(performance.now() - begin),
      usage: exit.usage,
      guarantees: await sandbox.guarantees(),
    });
    return timedOut ? 124 : exitStatus(exit);
  } finally {
    clearTimeout(timer);
    signals.stop();
  }
}

function sandboxFor(program: string, flags: RunFlags): Sandbox {
  const sandbox = new Sandbox({
    ...(flags.tier && { tier: flags.tier }),
    allowDegraded: flags.allowDegraded,
    baseProfile: flags.baseProfile,
    ...(!flags.audit && { audit: false }),
  });
  sandbox
    .allowRead(flags.read)
    .allowWrite(flags.write)
    .allowExec([program, ...flags.exec])
    .allowEnv(flags.allowEnv)
    .setEnv(flags.setEnv)
    .limit(flags.limits);
  if (flags.rollback) sandbox.enableRollback({ keep: true });
  for (const [name, proxyTo] of flags.credentials) {
    sandbox.injectCredential({ name, proxyTo, tokenFromKeychain: true });
  }
  if (flags.network === "open") return sandbox.openNetwork();
  return flags.allowNetwork.length > 0 ? sandbox.allowNetwork(flags.allowNetwork) : sandbox;
}

/** What a shell would report (sh: "Exit status for commands"). */
function exitStatus({ exitCode, signal }: Exit): number {
  return exitCode ?? 128 + (signal === null ? 0 : constants.signals[signal]);
}

/**
 * Signals to nono mean the command: it leads a session of its own, so pass them on. Those that come
 * before it has started reach it then.
 */
function forwardSignals(): { to(child: SandboxedProcess): void; stop(): void } {
  const forwarded = ["SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGWINCH"];
  const early: NodeJS.Signals[] = [];
  let target: SandboxedProcess | undefined;
  const forward = (signal: NodeJS.Signals): void => {
    if (target) target.kill(signal);
    else early.push(signal);
  };
  for (const name of forwarded) process.on(name, forward);
  return {
    to(child) {
      target = child;
      for (const signal of early) child.kill(signal);
    },
    stop() {
      for (const name of forwarded) process.off(name, forward);
    },
  };
}

function report(flags: RunFlags, result: unknown): void {
  if (flags.jsonFd !== undefined) writeSync(flags.jsonFd, `${JSON.stringify(result)}\n`);
}
