// Durable files. A disk error is never retried: after a failed fsync the kernel may report success for pages
// it has dropped, so the only safe reading is "the log has ended here" (fsync(2), "fsyncgate" 2018).
import type { Buffer } from "node:buffer";
import {
  closeSync,
  existsSync,
  fdatasync,
  fsync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  writeSync,
} from "node:fs";
import path from "node:path";
import { promisify } from "node:util";

const syncData = promisify(fdatasync);
const syncAll = promisify(fsync);

/** Makes the entries of a directory durable. */
export async function syncDirectory(dir: string): Promise<void> {
  const fd = openSync(dir, "r");
  try {
    await syncAll(fd);
  } finally {
    closeSync(fd);
  }
}

/** Ends the name of a file that is being written; one that a crash left means nothing. */
export const asideSuffix = ".new";

/** Replaces a file atomically and durably: written aside, synced, renamed, directory synced. */
export async function replaceFile(
  file: string,
  data: string | Buffer,
  mode = 0o644,
): Promise<void> {
  const aside = file + asideSuffix;
  await writeSynced(aside, data, mode);
  renameSync(aside, file);
  await syncDirectory(path.dirname(file));
}

async function writeSynced(file: string, data: string | Buffer, mode: number): Promise<void> {
  const fd = openSync(file, "w", mode);
  try {
    writeAll(fd, data);
    await syncData(fd);
  } finally {
    closeSync(fd);
  }
}

function writeAll(fd: number, data: string | Buffer): void {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  for (let at = 0; at < bytes.length;) at += writeSync(fd, bytes, at);
}

/** How many files are synced at once: the journal needs threads of the pool too. */
const parallelSyncs = 2;

/**
 * Writes many files and makes them and their directories durable. Not atomic per file: meant for tiles, which
 * nobody reads before a checkpoint names them.
 */
export async function writeFiles(
  root: string,
  files: readonly { path: string; data: Buffer }[],
): Promise<void> {
  const directories = new Set<string>();
  const queue = files.values();
  const worker = async (): Promise<void> => {
    for (const { path: name, data } of queue) {
      const file = path.join(root, name);
      makeDirectory(path.dirname(file), directories);
      await writeSynced(file, data, 0o644);
    }
  };
  await Promise.all(Array.from({ length: parallelSyncs }, worker));
  for (const directory of directories) await syncDirectory(directory);
}

/** Creates `directory` and remembers which directories have changed. */
function makeDirectory(directory: string, changed: Set<string>): void {
  if (changed.has(directory)) return;
  changed.add(directory);
  const first = mkdirSync(directory, { recursive: true });
  if (first === undefined) return;
  for (let at = directory; at !== path.dirname(first); at = path.dirname(at)) changed.add(at);
  changed.add(path.dirname(first));
}

/** Adds lines to a private file, all or none of them; lines it has already are not repeated. */
export async function addLines(file: string, lines: readonly string[]): Promise<void> {
  const known = existsSync(file) ? readFileSync(file, "latin1").split("\n") : [];
  const all = new Set([...known, ...lines].filter((line) => line !== ""));
  await replaceFile(file, [...all].map((line) => `${line}\n`).join(""), 0o600);
}
