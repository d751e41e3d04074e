// One writer per log. Node has no flock(2), so the lock is a file that names its holder well enough to tell a
// live one from a dead one: pid, start time of that pid (proc_pid_stat(5), field 22), and the boot.
import { linkSync, readFileSync, renameSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import process from "node:process";
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
  const own = holder(process.pid);
  const claim = `${file}.${process.pid}.${Math.random().toString(36).slice(2)}`;
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
