// One writer per log. Node has no flock(2), so the lock is a file that names its holder well enough to tell a
// live one from a dead one: pid, start time of that pid (proc_pid_stat(5), field 22), and the boot. A word of chance
// behind them tells one holding of it from the next by the same process.
import { randomUUID } from "node:crypto";
import { linkSync, readFileSync, renameSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { performance } from "node:perf_hooks";
import process from "node:process";
import { setTimeout as sleep } from "node:timers/promises";
import { AuditError, errnoOf } from "./errors.ts";

/** A held lock. */
export interface Lock {
  release(): void;
}

/**
 * Takes the lock `file`.
 *
 * @throws AuditError `ERR_NONO_AUDIT_LOCKED` while a live process holds it.
 */
export function takeLock(file: string): Lock {
  const chance = randomUUID();
  const own = `${holder(process.pid)} ${chance}`;
  const claim = `${file}.${process.pid}.${chance}`;
  writeFileSync(claim, own, { mode: 0o600 });
  try {
    // Two rounds: the second after setting aside the lock of a dead holder.
    for (let round = 0; round < 2; round += 1) {
      if (tryLink(claim, file)) return { release: () => release(file, own) };
      const other = readLock(file);
      if (other !== undefined && isAlive(other)) throw locked(file, other);
      if (other !== undefined) setAside(file, other);
    }
    throw locked(file, readLock(file) ?? "another process");
  } finally {
    unlinkSync(claim);
  }
}

/**
 * Does `work`, which takes a lock, as soon as the lock is free. Holders that come and go are waited for, however many
 * they are; one that keeps the lock for `patience` milliseconds is not.
 *
 * @throws AuditError `ERR_NONO_AUDIT_LOCKED` when one holder has kept it for so long.
 */
export async function whenUnlocked<T>(work: () => Promise<T>, patience: number): Promise<T> {
  let holding: unknown;
  let since = 0;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      if (!(error instanceof AuditError && error.code === "ERR_NONO_AUDIT_LOCKED")) throw error;
      const now = performance.now();
      if (error.value !== holding) [holding, since] = [error.value, now];
      else if (now - since > patience) throw error;
    }
    await sleep(5 + Math.random() * 20);
  }
}

function tryLink(claim: string, file: string): boolean {
  try {
    linkSync(claim, file);
    return true;
  } catch (error) {
    if (errnoOf(error) === "EEXIST") return false;
    throw error;
  }
}

/** Moves a dead holder's lock away; puts back one that was taken in between. */
function setAside(file: string, dead: string): void {
  const aside = `${file}.dead.${process.pid}`;
  try {
    renameSync(file, aside);
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return;
    throw error;
  }
  if (readLock(aside) !== dead) tryLink(aside, file);
  rmSync(aside, { force: true });
}

function release(file: string, own: string): void {
  if (readLock(file) === own) rmSync(file, { force: true });
}

function readLock(file: string): string | undefined {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
}

function holder(pid: number): string {
  return `${pid} ${startTime(pid) ?? "?"} ${bootId()}`;
}

function isAlive(other: string): boolean {
  const [pid = "", started = "?", boot = "?"] = other.split(" ");
  if (boot !== bootId()) return false;
  if (started !== "?") return startTime(Number(pid)) === started;
  try {
    process.kill(Number(pid), 0);
    return true;
  } catch (error) {
    return errnoOf(error) === "EPERM";
  }
}

function startTime(pid: number): string | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    // The command name may hold spaces and parentheses; fields are counted from the last one.
    return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19];
  } catch {
    return undefined;
  }
}

function bootId(): string {
  try {
    return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
  } catch {
    return "?";
  }
}

function locked(file: string, value: string): AuditError {
  const [pid] = value.split(" ");
  return new AuditError(
    "ERR_NONO_AUDIT_LOCKED",
    `process ${pid} is writing this log; close it there first (lock ${file})`,
    { value },
  );
}
