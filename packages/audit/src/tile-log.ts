// An append-only tlog-tiles directory with one writer: journal first, tiles behind it, checkpoints on top.
import { Buffer } from "node:buffer";
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import path from "node:path";
import {
  formatCheckpoint,
  isOrigin,
  parseCheckpoint,
  sameHead,
  type TreeHead,
} from "./checkpoint.ts";
import { AuditError } from "./errors.ts";
import { addLines, replaceFile, syncDirectory, writeFiles } from "./files.ts";
import { cutSegment, Journal, listSegments, readSegment, type Frame } from "./journal.ts";
import { disclosuresPath, headPath, layout } from "./layout.ts";
import { takeLock, type Lock } from "./lock.ts";
import { emptyRoot } from "./merkle.ts";
import { formatNote, parseNote, type NoteSignature } from "./note.ts";
import { LogReader } from "./reader.ts";
import { bundlePath, TileTree, tilePath, tileWidth, type Tile } from "./tiles.ts";

/** A durable acknowledgement. */
export interface Receipt {
  /** Index of the entry; -1 when it was not recorded. */
  readonly seq: number;
  /** Whether it survives a crash; false only with `onFailure: "degrade"`. */
  readonly durable: boolean;
}

/** A signed tree head. */
export interface Checkpoint extends TreeHead {
  /** The signed note. */
  readonly note: string;
}

/** What was found when an existing directory was opened. */
export interface Recovery {
  /** Entries of the journal that no checkpoint covered. */
  readonly entries: number;
  /** Size of the last head that was signed. */
  readonly signed: number;
  /** Bytes of a torn frame that were cut off. */
  readonly cutBytes: number;
}

/** Signs a checkpoint text. */
export type SignText = (text: string) => Promise<readonly NoteSignature[]>;

/** Unwritten tiles that are held in memory before a checkpoint is asked for. */
const tileBacklog = 32 << 20;

/** The writer of a log directory. */
export class TileLog {
  readonly dir: string;
  readonly origin: string;
  /** Undefined for a directory that was just made. */
  readonly recovery: Recovery | undefined;
  /** Called when so many tiles wait in memory that a checkpoint should write them. */
  onBacklog: (() => void) | undefined;
  readonly #lock: Lock;
  readonly #journal: Journal;
  readonly #tree: TileTree;
  #bundle: Buffer;
  #bundleLength: number;
  #full: { path: string; data: Buffer }[] = [];
  #fullBytes = 0;
  #backlogAnnounced = false;
  /** Set while tiles are on their way to the disk, after the journal has moved to its next segment. */
  #writing: Promise<void> | undefined;
  #disclosures: { bundle: number; lines: string[] }[] = [];
  #last: Checkpoint | undefined;
  #head: TreeHead;
  #checkpoints: Promise<unknown> = Promise.resolve();

  private constructor(state: OpenState, lock: Lock, journal: Journal) {
    this.dir = state.dir;
    this.origin = state.head.origin;
    this.recovery = state.recovery;
    this.#lock = lock;
    this.#journal = journal;
    this.#head = state.head;
    this.#last = state.checkpoint;
    this.#bundle = Buffer.allocUnsafe(128 << 10);
    this.#bundleLength = 0;
    this.#tree = TileTree.resume(state.head.size, state.partialTile, (tile) =>
      this.#tileFull(tile),
    );
    // Only while a checkpoint is past its journal rotation: before that it waits for the journal itself.
    journal.backPressure = (): Promise<void> | undefined =>
      this.#fullBytes > 2 * tileBacklog ? this.#writing : undefined;
    for (const entry of state.bundle) this.#addToBundle(entry);
    for (const frame of state.frames) this.#replay(frame);
  }

  /**
   * Opens or makes a log directory.
   *
   * @throws AuditError `ERR_NONO_AUDIT_LOCKED`, `ERR_NONO_AUDIT_CORRUPT`, `ERR_NONO_AUDIT_FORK`
   */
  static async open(dir: string, origin: string): Promise<TileLog> {
    if (!isOrigin(origin)) {
      throw new AuditError(
        "ERR_NONO_AUDIT_INPUT",
        "an origin has 1 to 255 bytes, no spaces and no plus sign",
        { value: origin },
      );
    }
    mkdirSync(path.join(dir, layout.journal), { recursive: true });
    const lock = takeLock(path.join(dir, layout.lock));
    try {
      const state = existsSync(path.join(dir, layout.head))
        ? loadState(dir, origin)
        : await createState(dir, origin);
      const journal = await Journal.start(path.join(dir, layout.journal), state.size);
      return new TileLog(state, lock, journal);
    } catch (error) {
      lock.release();
      throw error;
    }
  }

  /** Number of entries, durable or not. */
  get size(): number {
    return this.#tree.size;
  }

  /** Bytes waiting for the disk. */
  get pending(): number {
    return this.#journal.pending;
  }

  /** The last published checkpoint. */
  get lastCheckpoint(): Checkpoint | undefined {
    return this.#last;
  }

  /** The last head that was, or may have been, signed. */
  get lastHead(): TreeHead {
    return this.#head;
  }

  /** Adds an entry and its disclosures; resolves when it is durable. */
  append(json: string, disclosures: readonly string[] = []): Promise<Receipt> {
    const seq = this.add(json, disclosures);
    return new Promise((resolve, reject) => {
      this.#journal.whenDurable({ resolve: () => resolve({ seq, durable: true }), reject });
    });
  }

  /** Adds an entry without waiting; returns its index. */
  add(json: string, disclosures: readonly string[] = []): number {
    const seq = this.#tree.size;
    for (const disclosure of disclosures) {
      this.#journal.disclosure(disclosure);
      this.#keepDisclosure(disclosure);
    }
    const { leaf, entry } = this.#journal.entry(json);
    this.#addToBundle(entry);
    this.#tree.append(leaf);
    return seq;
  }

  /** Everything added so far is durable. */
  flush(): Promise<void> {
    return this.#journal.durable();
  }

  /**
   * Publishes a checkpoint of everything added so far: tiles durable, then the head, then the signature.
   * Calls queue up. An unchanged tree is signed again only with `again`.
   */
  checkpoint(
    sign: SignText,
    options: { archive?: boolean; again?: boolean } = {},
  ): Promise<Checkpoint> {
    const next = this.#checkpoints.then(() => this.#publish(sign, options));
    this.#checkpoints = next.catch(() => undefined);
    return next;
  }

  /** Adds signature lines (cosignatures) to the published checkpoint of `size` and to its archived copy. */
  addSignatures(size: number, signatures: readonly NoteSignature[]): Promise<void> {
    const next = this.#checkpoints.then(() => this.#addSignatures(size, signatures));
    this.#checkpoints = next.catch(() => undefined);
    return next;
  }

  /** Reads the log as its last checkpoint shows it. */
  reader(): LogReader {
    return new LogReader(this.dir, this.#last?.size ?? 0);
  }

  /** Lets go of the directory. Publishes nothing: call `checkpoint` first. */
  async close(): Promise<void> {
    await this.#checkpoints;
    try {
      await this.#journal.durable();
      if (this.#last?.size === this.size) this.#journal.drop(this.size + 1);
    } finally {
      this.#journal.close();
      this.#lock.release();
    }
  }

  #addToBundle(entry: Buffer): void {
    const needed = this.#bundleLength + 2 + entry.length;
    if (needed > this.#bundle.length) {
      const larger = Buffer.allocUnsafe(Math.max(needed, this.#bundle.length * 2));
      this.#bundle.copy(larger, 0, 0, this.#bundleLength);
      this.#bundle = larger;
    }
    this.#bundle.writeUInt16BE(entry.length, this.#bundleLength);
    entry.copy(this.#bundle, this.#bundleLength + 2);
    this.#bundleLength = needed;
  }

  #tileFull({ level, index, data }: Tile): void {
    this.#hold(tilePath(level, index), data);
    if (level > 0) return;
    this.#hold(bundlePath(index), Buffer.from(this.#bundle.subarray(0, this.#bundleLength)));
    this.#bundleLength = 0;
  }

  #hold(name: string, data: Buffer): void {
    this.#full.push({ path: name, data });
    this.#fullBytes += data.length;
    if (this.#fullBytes < tileBacklog || this.#backlogAnnounced) return;
    this.#backlogAnnounced = true;
    this.onBacklog?.();
  }

  #keepDisclosure(disclosure: string): void {
    const bundle = Math.floor(this.size / tileWidth);
    const last = this.#disclosures.at(-1);
    const line = `${this.size} ${disclosure}`;
    if (last?.bundle === bundle) last.lines.push(line);
    else this.#disclosures.push({ bundle, lines: [line] });
  }

  #replay({ kind, data, digest }: Frame): void {
    if (kind === "disclosure") {
      this.#keepDisclosure(data.toString("latin1"));
      return;
    }
    this.#addToBundle(data);
    this.#tree.append(digest);
  }

  async #addSignatures(size: number, signatures: readonly NoteSignature[]): Promise<void> {
    const file = path.join(this.dir, headPath(size));
    const note = parseNote(readFileSync(file));
    const known = new Set(note.signatures.map(({ name, keyId }) => `${name}+${keyId}`));
    const added = signatures.filter(({ name, keyId }) => !known.has(`${name}+${keyId}`));
    const cosigned = formatNote({ text: note.text, signatures: [...note.signatures, ...added] });
    await replaceFile(file, cosigned);
    if (this.#last?.size !== size) return;
    await replaceFile(path.join(this.dir, layout.checkpoint), cosigned);
    this.#last = { ...this.#last, note: cosigned };
  }

  async #publish(
    sign: SignText,
    options: { archive?: boolean; again?: boolean },
  ): Promise<Checkpoint> {
    if (this.#last?.size === this.size && !options.again) {
      if (options.archive)
        await replaceFile(path.join(this.dir, headPath(this.size)), this.#last.note);
      return this.#last;
    }
    // All of this is of one moment; events recorded from here on belong to the next checkpoint.
    const head: TreeHead = { origin: this.origin, size: this.size, root: this.#tree.root() };
    const edge = this.#tree.partialTiles().map((tile) => ({
      path: tilePath(tile.level, tile.index, tile.width),
      data: tile.data,
    }));
    const width = head.size % tileWidth;
    if (width > 0) {
      const bundle = Buffer.from(this.#bundle.subarray(0, this.#bundleLength));
      edge.push({ path: bundlePath(Math.floor(head.size / tileWidth), width), data: bundle });
    }
    const full = this.#full;
    const disclosures = this.#disclosures;
    this.#full = [];
    this.#fullBytes = 0;
    this.#backlogAnnounced = false;
    this.#disclosures = [];
    await this.#journal.rotate(head.size);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#writing = promise;
    try {
      return await this.#publishHead(head, [...full, ...edge], disclosures, sign, options);
    } finally {
      this.#writing = undefined;
      resolve();
    }
  }

  async #publishHead(
    head: TreeHead,
    tiles: { path: string; data: Buffer }[],
    disclosures: readonly { bundle: number; lines: readonly string[] }[],
    sign: SignText,
    { archive = false }: { archive?: boolean },
  ): Promise<Checkpoint> {
    try {
      await writeFiles(this.dir, tiles);
      for (const { bundle, lines } of disclosures) {
        await addLines(path.join(this.dir, disclosuresPath(bundle)), lines);
      }
      const text = formatCheckpoint(head);
      await replaceFile(path.join(this.dir, layout.head), text);
      this.#head = head;
      const note = formatNote({ text, signatures: await sign(text) });
      if (archive) await replaceFile(path.join(this.dir, headPath(head.size)), note);
      await replaceFile(path.join(this.dir, layout.checkpoint), note);
      this.#last = { ...head, note };
    } catch (cause) {
      if (cause instanceof AuditError) throw cause;
      throw new AuditError("ERR_NONO_AUDIT_WRITE", `no checkpoint: ${(cause as Error).message}`, {
        cause,
        value: this.dir,
      });
    }
    this.#journal.drop(head.size);
    for (const { path: name } of tiles) {
      // The standard lets partial tiles go once the full one is there.
      if (!name.includes(".p/"))
        rmSync(path.join(this.dir, `${name}.p`), { recursive: true, force: true });
    }
    return this.#last;
  }
}

interface OpenState {
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

async function createState(dir: string, origin: string): Promise<OpenState> {
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
  await replaceFile(path.join(dir, layout.identity), identityOf(dir));
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

function loadState(dir: string, origin: string): OpenState {
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
  removeUncovered(dir, head.size);
  const entries = frames.filter(({ kind }) => kind === "entry").length;
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

/** Partial tiles of a checkpoint that a crash prevented may be torn; they are written anew. */
function removeUncovered(dir: string, size: number): void {
  let hashes = size;
  for (let level = 0; existsSync(path.join(dir, `tile/${level}`)); level += 1) {
    const index = Math.floor(hashes / tileWidth);
    const names = level === 0 ? [tilePath(0, index), bundlePath(index)] : [tilePath(level, index)];
    for (const name of names.map((tile) => path.join(dir, `${tile}.p`)).filter(existsSync)) {
      for (const width of readdirSync(name).filter(
        (partial) => !(Number(partial) <= hashes % tileWidth),
      )) {
        rmSync(path.join(name, width));
      }
    }
    hashes = index;
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

/** What a copy of a directory does not share with the original: its inode, and the machine it is on. */
function identityOf(dir: string): string {
  return `${statSync(dir, { bigint: true }).ino} ${machineId()}\n`;
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
