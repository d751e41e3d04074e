// Durable files. A disk error is never retried: after a failed fsync the kernel may report success for pages
// it has dropped, so the only safe reading is "the log has ended here" (fsync(2), "fsyncgate" 2018).
import type { Buffer } from "node:buffer";
import {
  closeSync,
  constants,
  existsSync,
  fdatasync,
  fstatSync,
  fsync,
  mkdirSync,
  open,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  write,
} from "node:fs";
import path from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { AuditError, errnoOf } from "./errors.ts";

// Never the synchronous calls: open(2) and write(2) wait for a journal commit of the file system that somebody's
// fsync has started, and the events of a whole run would wait with them.
const openFile = promisify(open);
const syncData = promisify(fdatasync);
const syncAll = promisify(fsync);
const writeSome = promisify(write) as (
  fd: number,
  buffer: Uint8Array,
  at: number,
) => Promise<{ bytesWritten: number } | number>;

/**
 * On Linux a write can be durable when it returns (open(2), O_DSYNC: as if followed by fdatasync), which saves a
 * turn of the event loop. Elsewhere the flag does not reach the disk's own cache, and libuv's fdatasync does.
 */
const syncsOnWrite = process.platform === "linux";
const newFile = constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC;
const newSyncedFile = syncsOnWrite ? newFile | constants.O_DSYNC : newFile;

/** Opens a new or emptied file for `writeDurably`. */
export function openDurable(file: string, mode: number): Promise<number> {
  return openFile(file, newSyncedFile, mode);
}

/** Writes the first `length` bytes of `data` at the file's position; resolves when they are durable. */
export async function writeDurably(
  fd: number,
  data: Uint8Array,
  length: number = data.length,
): Promise<void> {
  const bytes = data.subarray(0, length);
  for (let at = 0; at < length;) {
    const written = await writeSome(fd, bytes, at);
    at += typeof written === "number" ? written : written.bytesWritten;
  }
  if (!syncsOnWrite && length > 0) await syncData(fd);
}

/** Makes the entries of a directory durable. */
export async function syncDirectory(dir: string): Promise<void> {
  const fd = await openFile(dir, "r");
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

/** Writes a file anew where it is: durable, not atomic. */
export function rewriteFile(file: string, data: string): Promise<void> {
  return writeSynced(file, data, 0o600);
}

async function writeSynced(file: string, data: string | Buffer, mode: number): Promise<void> {
  const fd = await openDurable(file, mode);
  try {
    await writeDurably(fd, typeof data === "string" ? new TextEncoder().encode(data) : data);
  } finally {
    closeSync(fd);
  }
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

/**
 * Makes a directory, and those above it that are missing. Not by the `recursive` of
 * Node, which tries for ever where the parent exists and yet mkdir(2) says ENOENT, as in /proc.
 */
export function makeDirectories(directory: string, mode = 0o777): void {
  try {
    mkdirSync(directory, { mode });
  } catch (error) {
    if (errnoOf(error) === "EEXIST" && statSync(directory).isDirectory()) return;
    const parent = path.dirname(directory);
    if (errnoOf(error) !== "ENOENT" || existsSync(parent)) throw error;
    makeDirectories(parent, mode);
    makeDirectories(directory, mode);
  }
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

/** Bytes: no file of a log comes near it. */
const largestFile = 1024 ** 3;

/**
 * Reads a file of a log that anybody may have written: a pipe would keep its reader for ever, a device or a file full of
 * holes would take all memory there is.
 *
 * @throws AuditError `ERR_NONO_AUDIT_CORRUPT` when it is no file, or larger than any; what open(2) says, as an error.
 */
export function readRegular(file: string): Buffer {
  const fd = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOCTTY);
  try {
    const stat = fstatSync(fd);
    if (stat.isFile() && stat.size <= largestFile) return readFileSync(fd);
    const what = stat.isFile() ? `has ${stat.size} bytes` : "is no regular file";
    throw new AuditError("ERR_NONO_AUDIT_CORRUPT", `${file} ${what}`, { value: file });
  } finally {
    closeSync(fd);
  }
}

/** A file of the directory, or undefined where there is none. */
export function readOptional(dir: string, file: string): Buffer | undefined {
  try {
    return readRegular(path.join(dir, file));
  } catch (error) {
    if (errnoOf(error) === "ENOENT" || errnoOf(error) === "ENOTDIR") return undefined;
    throw error;
  }
}

/** Names in a directory that may not exist, without what a crash left half written. */
export function listDirectory(dir: string, name: string): string[] {
  try {
    return readdirSync(path.join(dir, name)).filter((file) => !file.endsWith(asideSuffix));
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return [];
    throw error;
  }
}
