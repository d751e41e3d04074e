// An append-only tlog-tiles directory with one writer: journal first, tiles behind it, checkpoints on top.
import { existsSync, readFileSync } from "node:fs";
import { rm } from "node:fs/promises";
import path from "node:path";
import { formatCheckpoint, isOrigin, type Checkpoint, type TreeHead } from "./checkpoint.ts";
import { AuditError } from "./errors.ts";
import { addLines, makeDirectories, replaceFile, writeFiles } from "./files.ts";
import { Journal } from "./journal.ts";
import { disclosuresPath, headPath, layout } from "./layout.ts";
import { takeLock, type Lock } from "./lock.ts";
import { createState, loadState, type LogState, type Recovery } from "./log-state.ts";
import { formatNote, parseNote, type NoteSignature } from "./note.ts";
import { PendingTiles, type Unwritten } from "./pending-tiles.ts";
import { LogReader } from "./reader.ts";

/** A durable acknowledgement. */
export interface Receipt {
  /** Index of the entry; -1 when it was not recorded. */
  readonly seq: number;
  /** Whether it survives a crash; false only with `onFailure: "degrade"`. */
  readonly durable: boolean;
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
  readonly #pending: PendingTiles;
  #backlogAnnounced = false;
  /** Set while tiles are on their way to the disk, after the journal has moved to its next segment. */
  #writing: Promise<void> | undefined;
  #last: Checkpoint | undefined;
  #head: TreeHead;
  #checkpoints: Promise<unknown> = Promise.resolve();
  #failure: AuditError | undefined;

  private constructor(state: LogState, lock: Lock, journal: Journal) {
    this.dir = state.dir;
    this.origin = state.head.origin;
    this.recovery = state.recovery;
    this.#lock = lock;
    this.#journal = journal;
    this.#head = state.head;
    this.#last = state.checkpoint;
    this.#pending = new PendingTiles(state);
    // Only while a checkpoint is past its journal rotation: before that it waits for the journal itself.
    journal.backPressure = (): Promise<void> | undefined =>
      this.#pending.bytes > 2 * tileBacklog ? this.#writing : undefined;
    for (const { kind, data, digest } of state.frames) {
      if (kind === "entry") this.#pending.add(data, digest);
      else this.#pending.addDisclosure(data.toString("latin1"));
    }
  }

  /**
   * Opens or makes a log directory.
   *
   * @throws AuditError `ERR_NONO_AUDIT_LOCKED`, `ERR_NONO_AUDIT_CORRUPT`, `ERR_NONO_AUDIT_FORK`,
   * `ERR_NONO_AUDIT_WRITE` where the directory cannot be read or written
   */
  static async open(dir: string, origin: string): Promise<TileLog> {
    if (!isOrigin(origin)) {
      throw new AuditError(
        "ERR_NONO_AUDIT_INPUT",
        "an origin has 1 to 255 bytes, no spaces and no plus sign",
        { value: origin },
      );
    }
    try {
      makeDirectories(path.join(dir, layout.journal));
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
    } catch (cause) {
      if (cause instanceof AuditError) throw cause;
      const message = `the log in ${dir} cannot be opened (${(cause as Error).message})`;
      throw new AuditError("ERR_NONO_AUDIT_WRITE", message, { cause, value: dir });
    }
  }

  /** Number of entries, durable or not. */
  get size(): number {
    return this.#pending.size;
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
    const seq = this.size;
    for (const disclosure of disclosures) {
      this.#journal.disclosure(disclosure);
      this.#pending.addDisclosure(disclosure);
    }
    const { leaf, entry } = this.#journal.entry(json);
    this.#pending.add(entry, leaf);
    if (this.#pending.bytes >= tileBacklog && !this.#backlogAnnounced) {
      this.#backlogAnnounced = true;
      this.onBacklog?.();
    }
    return seq;
  }

  /** Everything added so far is durable. */
  flush(): Promise<void> {
    return this.#journal.durable();
  }

  /**
   * Publishes a checkpoint of everything added so far: tiles durable, then the head, then the signature.
   * Calls queue up. An unchanged tree is not signed again.
   */
  checkpoint(sign: SignText, options: { archive?: boolean } = {}): Promise<Checkpoint> {
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
      if (this.#last?.size === this.size) await this.#journal.drop(this.size + 1);
    } finally {
      this.#journal.close();
      this.#lock.release();
    }
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

  async #publish(sign: SignText, options: { archive?: boolean }): Promise<Checkpoint> {
    if (this.#failure) throw this.#failure;
    if (this.#last?.size === this.size) {
      if (options.archive) await this.#onDisk(this.#archive(this.#last));
      return this.#last;
    }
    const unwritten = this.#pending.take();
    this.#backlogAnnounced = false;
    await this.#journal.rotate(unwritten.head.size);
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#writing = promise;
    try {
      return await this.#publishHead(unwritten, sign, options);
    } finally {
      this.#writing = undefined;
      resolve();
    }
  }

  async #publishHead(
    unwritten: Unwritten,
    sign: SignText,
    { archive = false }: { archive?: boolean },
  ): Promise<Checkpoint> {
    const { head, obsolete } = unwritten;
    const text = formatCheckpoint(head);
    await this.#onDisk(this.#writeHead(unwritten, text));
    this.#head = head;
    const checkpoint = {
      ...head,
      note: formatNote({ text, signatures: await signed(sign, text) }),
    };
    await this.#onDisk(this.#writeCheckpoint(checkpoint, archive, obsolete));
    this.#last = checkpoint;
    return checkpoint;
  }

  async #writeHead({ files, disclosures }: Unwritten, text: string): Promise<void> {
    await writeFiles(this.dir, files);
    for (const { bundle, lines } of disclosures)
      await addLines(path.join(this.dir, disclosuresPath(bundle)), lines);
    await replaceFile(path.join(this.dir, layout.head), text);
  }

  async #writeCheckpoint(
    checkpoint: Checkpoint,
    archive: boolean,
    obsolete: readonly string[],
  ): Promise<void> {
    if (archive) await this.#archive(checkpoint);
    await replaceFile(path.join(this.dir, layout.checkpoint), checkpoint.note);
    await this.#journal.drop(checkpoint.size);
    for (const name of obsolete)
      await rm(path.join(this.dir, name), { recursive: true, force: true });
  }

  #archive({ size, note }: Checkpoint): Promise<void> {
    return replaceFile(path.join(this.dir, headPath(size)), note);
  }

  /** Once the disk has refused, no later head is signed: tiles below it may be missing. */
  async #onDisk(work: Promise<void>): Promise<void> {
    try {
      await work;
    } catch (cause) {
      this.#failure = new AuditError(
        "ERR_NONO_AUDIT_WRITE",
        `the log cannot be written (${(cause as Error).message}); no checkpoint is made any more`,
        { cause, value: this.dir },
      );
      throw this.#failure;
    }
  }
}

async function signed(sign: SignText, text: string): Promise<readonly NoteSignature[]> {
  try {
    return await sign(text);
  } catch (cause) {
    throw new AuditError(
      "ERR_NONO_AUDIT_SIGNER",
      `the checkpoint is not signed (${(cause as Error).message}); its entries are durable, the next one tries again`,
      { cause },
    );
  }
}
