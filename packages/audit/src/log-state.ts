// How a log directory is found: new, or as a crash, a backup, or an honest close left it.
import type { Buffer } from "node:buffer";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import path from "node:path";
import {
  formatCheckpoint,
  parseCheckpoint,
  sameHead,
  type Checkpoint,
  type TreeHead,
} from "./checkpoint.ts";
import { AuditError } from "./errors.ts";
import { replaceFile, rewriteFile, syncDirectory } from "./files.ts";
import { cutSegment, listSegments, readSegment, type Frame } from "./journal.ts";
import { layout } from "./layout.ts";
import { emptyRoot } from "./merkle.ts";
import { parseNote } from "./note.ts";
import { LogReader } from "./reader.ts";
import { bundlePath, TileTree, tilePath, tileWidth } from "./tiles.ts";

/** What was found when an existing directory was opened. */
export interface Recovery {
  /** Entries of the journal that no checkpoint covered. */
  readonly entries: number;
  /** Size of the last head that was signed. */
  readonly signed: number;
  /** Bytes of a torn frame that were cut off. */
  readonly cutBytes: number;
}

/** What a directory holds when it is opened. */
export interface LogState {
  readonly dir: string;
  readonly head: TreeHead;
  readonly checkpoint: Checkpoint | undefined;
  readonly partialTile: (level: number, index: number, width: number) => Buffer;
  /** Entries of the partial bundle at the right edge of the head. */
  readonly bundle: readonly Buffer[];
  /** What the journal has beyond the head. */
  readonly frames: readonly Frame[];
  readonly recovery: Recovery | undefined;
  /** Entries in all. */
  readonly size: number;
}

/** Lays out a new log. @throws AuditError `ERR_NONO_AUDIT_CORRUPT` when there are remains of another. */
export async function createState(dir: string, origin: string): Promise<LogState> {
  if (
    existsSync(path.join(dir, layout.checkpoint)) ||
    listSegments(path.join(dir, layout.journal)).length > 0
  ) {
    throw corrupt(
      dir,
      `${layout.head} is missing: this log was written to, and what was signed is unknown`,
    );
  }
  for (const name of [layout.heads, layout.disclosures, layout.anchors]) {
    mkdirSync(path.join(dir, name), { recursive: true, mode: 0o700 });
  }
  await replaceFile(path.join(dir, layout.identity), "", 0o600);
  // In place, because the file's own inode is part of what it says.
  await rewriteFile(path.join(dir, layout.identity), identityOf(dir));
  const head: TreeHead = { origin, size: 0, root: emptyRoot };
  await replaceFile(path.join(dir, layout.head), formatCheckpoint(head));
  await syncDirectory(dir);
  await syncDirectory(path.dirname(dir));
  return {
    dir,
    head,
    checkpoint: undefined,
    partialTile: noTile,
    bundle: [],
    frames: [],
    recovery: undefined,
    size: 0,
  };
}

function noTile(): Buffer {
  throw new AuditError("ERR_NONO_AUDIT_CORRUPT", "an empty log has no tiles");
}

/**
 * Reads a log that was written before: what was signed, and what the journal has beyond that.
 *
 * @throws AuditError `ERR_NONO_AUDIT_CORRUPT`, `ERR_NONO_AUDIT_FORK`, `ERR_NONO_AUDIT_INPUT`
 */
export function loadState(dir: string, origin: string): LogState {
  const head = parseCheckpoint(readFileSync(path.join(dir, layout.head), "utf8"));
  if (head.origin !== origin) {
    throw new AuditError(
      "ERR_NONO_AUDIT_INPUT",
      `the log in ${dir} has origin ${head.origin}, not ${origin}`,
      { value: origin },
    );
  }
  if (readFileSync(path.join(dir, layout.identity), "utf8") !== identityOf(dir)) {
    throw new AuditError(
      "ERR_NONO_AUDIT_FORK",
      `${dir} is a copy or a restored backup of a log; continuing it would sign a second history. ` +
        "Verify it where it is, and start a new log",
      { value: dir },
    );
  }
  const checkpoint = loadCheckpoint(dir, head);
  const reader = new LogReader(dir, head.size);
  const partialTile = (level: number, index: number, width: number): Buffer =>
    reader.tile(level, index, width);
  const tree = TileTree.resume(head.size, partialTile);
  if (!tree.root().equals(head.root))
    throw corrupt(dir, `the tiles do not lead to the head of size ${head.size}`);
  const width = head.size % tileWidth;
  const bundle =
    width === 0 ? [] : reader.bundle(Math.floor(head.size / tileWidth)).slice(0, width);
  const { frames, cutBytes } = loadJournal(dir, head.size);
  const entries = frames.filter(({ kind }) => kind === "entry").length;
  removeUncovered(dir, head.size, head.size + entries);
  return {
    dir,
    head,
    checkpoint,
    partialTile,
    bundle,
    frames,
    recovery: { entries, signed: head.size, cutBytes },
    size: head.size + entries,
  };
}

function loadCheckpoint(dir: string, head: TreeHead): Checkpoint | undefined {
  const file = path.join(dir, layout.checkpoint);
  if (!existsSync(file)) return undefined;
  const note = readFileSync(file, "utf8");
  const published = parseCheckpoint(parseNote(note).text);
  if (
    published.origin !== head.origin ||
    published.size > head.size ||
    (published.size === head.size && !sameHead(published, head))
  ) {
    throw new AuditError(
      "ERR_NONO_AUDIT_FORK",
      `a checkpoint of size ${published.size} was published, but ${layout.head} says ${head.size}: parts of the directory are older than others`,
      { value: published.size },
    );
  }
  return { ...published, note };
}

/**
 * Partial tiles of a checkpoint that a crash prevented may be torn; they are written anew. They can be at
 * the edge of the head, or at any later one: of the journal's entries, which are durable before them.
 */
function removeUncovered(dir: string, size: number, journaled: number): void {
  let [covered, reached] = [size, journaled];
  for (let level = 0; existsSync(path.join(dir, `tile/${level}`)); level += 1) {
    const edge = Math.floor(covered / tileWidth);
    const last = Math.floor(reached / tileWidth);
    for (let index = edge; index <= last; index += 1) {
      const kept = index === edge ? covered % tileWidth : 0;
      removePartials(dir, tilePath(level, index), kept);
      if (level === 0) removePartials(dir, bundlePath(index), kept);
    }
    [covered, reached] = [edge, last];
  }
}

/** Removes the partial versions of a tile that are wider than `kept`. */
function removePartials(dir: string, tile: string, kept: number): void {
  const folder = path.join(dir, `${tile}.p`);
  if (!existsSync(folder)) return;
  for (const width of readdirSync(folder)) {
    if (!(Number(width) <= kept)) rmSync(path.join(folder, width));
  }
}

/** The frames beyond entry `from`, cutting a torn tail off the last segment. */
function loadJournal(dir: string, from: number): { frames: Frame[]; cutBytes: number } {
  const journal = path.join(dir, layout.journal);
  const segments = listSegments(journal);
  const frames: Frame[] = [];
  let cutBytes = 0;
  let seq = segments[0] ?? from;
  if (seq > from) throw corrupt(dir, `the journal starts at entry ${seq}, the head has ${from}`);
  for (const [i, first] of segments.entries()) {
    if (first !== seq) throw corrupt(dir, `journal segment ${first} should start at entry ${seq}`);
    const file = path.join(journal, String(first));
    const segment = readSegment(file);
    if (segment.end < segment.bytes) {
      if (i < segments.length - 1)
        throw corrupt(dir, `journal segment ${first} is torn, but not the last`);
      cutBytes = segment.bytes - segment.end;
      cutSegment(file, segment.end);
    }
    for (const frame of segment.frames) {
      if (seq >= from) frames.push(frame);
      if (frame.kind === "entry") seq += 1;
    }
  }
  if (seq < from) return { frames: [], cutBytes };
  // A disclosure whose entry was torn off belongs to nothing.
  while (frames.at(-1)?.kind === "disclosure") frames.pop();
  return { frames, cutBytes };
}

/**
 * What a copy or a restored backup does not share with the original: the inodes of the directory and of a file in
 * it, when they were made (an inode number alone is given out again at once), and the machine.
 */
function identityOf(dir: string): string {
  const made = [dir, path.join(dir, layout.identity)].map((name) => {
    const { ino, birthtimeNs } = statSync(name, { bigint: true });
    return `${ino} ${birthtimeNs}`;
  });
  return `${made.join(" ")} ${machineId()}\n`;
}

function machineId(): string {
  for (const file of ["/etc/machine-id", "/var/lib/dbus/machine-id"]) {
    if (existsSync(file)) return readFileSync(file, "utf8").trim();
  }
  return "unknown";
}

function corrupt(dir: string, what: string): AuditError {
  return new AuditError("ERR_NONO_AUDIT_CORRUPT", `the log in ${dir} is not continued: ${what}`, {
    value: dir,
  });
}
