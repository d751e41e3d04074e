// Directories in a shared temporary one whose owner was killed (SIGKILL) and could not delete them: who
// makes the next one does. Their names say whose they are: a process id, and of which machine. The layers import
// nothing of each other: @nono/sdk has the same for its own.
import { createHash } from "node:crypto";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import path from "node:path";
import process from "node:process";

/** What the names of this process's directories begin with, for mkdtemp(3). */
export function prefixOf(kind: string): string {
  return `${kind}-${process.pid}-${machine()}-`;
}

/** Those of this kind whose process is no more, whoever it was of. */
export function staleDirectories(kind: string, directory: string): string[] {
  const pattern = new RegExp(String.raw`^${kind}-(\d+)-${machine()}-[^-/]{6}$`);
  const stale = entriesOf(directory).filter((name) => isGone(Number(pattern.exec(name)?.[1])));
  return stale.map((name) => path.join(directory, name));
}

/** Where process ids mean the same: one boot, one PID namespace. Containers may share a directory. */
function machine(): string {
  const boot = said(() => readFileSync("/proc/sys/kernel/random/boot_id", "utf8"));
  const namespace = said(() => readlinkSync("/proc/self/ns/pid"));
  return createHash("sha256").update(`${boot} ${namespace}`).digest("hex").slice(0, 12);
}

/** One that has the id again keeps it until it ends. */
function isGone(pid: number): boolean {
  if (Number.isNaN(pid)) return false;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}

function said(read: () => string): string {
  try {
    return read();
  } catch {
    return "";
  }
}

function entriesOf(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}
