// The host ledger: one small tile log per host that knows every session. Only its heads leave the host, so no
// event content does; and a session directory that was deleted is still on record here.
import { Buffer } from "node:buffer";
import { existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import path from "node:path";
import { AnchorQueue, keepAnswer, type Anchor, type AnchorResult } from "./anchor.ts";
import { isOrigin, parseCheckpoint } from "./checkpoint.ts";
import { isTime } from "./entry.ts";
import { AuditError } from "./errors.ts";
import { listDirectory, makeDirectories, readOptional, replaceFile } from "./files.ts";
import { headPath, layout } from "./layout.ts";
import { parseNote } from "./note.ts";
import { whenUnlocked } from "./lock.ts";
import { LogReader } from "./reader.ts";
import { signatureLine, type CheckpointSigner } from "./signer.ts";
import { TileLog } from "./tile-log.ts";
import { formatProof } from "./tlog-proof.ts";

/** What the ledger records. Roots are base64; `session` is the origin of the session log. */
export type LedgerRecord =
  | { type: "ledger.open" }
  | {
      type: "session.open" | "session.keys";
      session: string;
      first: number;
      count: number;
      root: string;
      seconds: number;
      /** Why there is a new schedule; after `exhausted` every epoch of the last one has its sealed head. */
      cause: "started" | "exhausted" | "recovered";
    }
  | { type: "session.head"; session: string; size: number; root: string; epoch: number }
  | {
      type: "session.close";
      session: string;
      size: number;
      root: string;
      epoch: number;
      reason: string;
    }
  | { type: "entry.erased"; session: string; entry: number; fields: number };

/** A record as it is in the ledger. */
export type LedgerEntry = LedgerRecord & {
  readonly v: number;
  readonly seq: number;
  readonly time: number;
};

/** How to use a ledger. */
export interface LedgerOptions {
  dir: string;
  /** Name of the host: `nono.local/host-7`. Witnesses know the ledger by it. */
  origin: string;
  /** One stable key, because witnesses are configured with it. */
  signer: CheckpointSigner;
  /** Who else should see the heads; none by default, and then nothing leaves the host. */
  anchors?: readonly Anchor[];
}

const recordTypes: ReadonlySet<string> = new Set([
  "ledger.open",
  "session.open",
  "session.keys",
  "session.head",
  "session.close",
  "entry.erased",
]);

/** How long another process may hold the ledger at a time: an append takes some ten syncs of the disk. */
const lockPatience = 30_000;

/** The last use of each ledger directory in this process; the next one waits for it. */
const turns = new Map<string, Promise<unknown>>();

/**
 * The ledger of a host. Several processes share it: each append takes the lock, adds, signs, and lets go. Those of one
 * process take turns in the order in which they were called.
 *
 * @example
 * ```ts
 * const ledger = new HostLedger({
 *   dir: "/var/lib/nono/ledger",
 *   origin: "nono.local/host-7",
 *   signer: keyFileSigner("/var/lib/nono/ledger.key", "nono.local/host-7"),
 * });
 * const log = await openAuditLog({ dir, origin, ledger });
 * ```
 */
export class HostLedger {
  readonly dir: string;
  readonly origin: string;
  readonly #signer: CheckpointSigner;
  readonly #anchors: AnchorQueue;

  constructor(options: LedgerOptions) {
    this.dir = options.dir;
    this.origin = options.origin;
    this.#signer = options.signer;
    this.#anchors = new AnchorQueue(options.anchors ?? []);
  }

  /** Verifier key of the ledger. */
  get vkey(): string {
    return this.#signer.vkey;
  }

  /**
   * Adds records under a new checkpoint; returns their places and a proof of each.
   *
   * @throws AuditError `ERR_NONO_AUDIT_LOCKED` when another process keeps the ledger locked for thirty seconds.
   * Others that come and go meanwhile are waited for.
   */
  async append(records: readonly LedgerRecord[]): Promise<{ seq: number; proof: string }[]> {
    return this.#exclusive(async (log) => {
      this.#refuseFork();
      if (log.size === 0) log.add(encodeRecord({ type: "ledger.open" }, 0));
      const seqs = records.map((record) => log.add(encodeRecord(record, log.size)));
      const checkpoint = await log.checkpoint(
        async (text) => [await signatureLine(this.#signer, text)],
        { archive: true },
      );
      const reader = log.reader();
      return seqs.map((seq) => ({ seq, proof: proofOf(reader, seq, checkpoint.note) }));
    });
  }

  /** Whether anyone outside is to see the heads. */
  get isAnchored(): boolean {
    return !this.#anchors.isEmpty;
  }

  /**
   * Submits the latest head to every anchor that has not seen it. Failures are results, not exceptions: the
   * next call tries again, and renews the proofs of the sessions that were waiting for it.
   */
  async anchor(): Promise<AnchorResult[]> {
    const note = readOptional(this.dir, layout.checkpoint)?.toString("utf8");
    if (this.#anchors.isEmpty || note === undefined) return [];
    const head = { ...parseCheckpoint(parseNote(note).text), note };
    const { results, answers } = await this.#anchors.submit(this.dir, head);
    if (answers.length > 0) {
      await this.#exclusive(async (log) => {
        for (const answer of answers) await keepAnswer(log, head.size, answer);
      });
      await this.#renewDue(head.size);
    }
    const forked = results.find(({ error }) => error?.code === "ERR_NONO_AUDIT_FORK");
    if (forked)
      await replaceFile(
        path.join(this.dir, layout.forked),
        `${forked.anchor}: ${forked.error?.message}\n`,
      );
    return results;
  }

  /**
   * Writes the proofs in a session's directory anew, under the head of `size` (default: the latest), with
   * whatever cosignatures and bundles that head has by now. Returns whether all of its records are covered.
   */
  async renewProofs(session: string, size: number = this.#size()): Promise<boolean> {
    const note = readFileSync(path.join(this.dir, headPath(size)), "utf8");
    const reader = new LogReader(this.dir, size);
    const records = listDirectory(session, layout.ledger).map((name) => Number.parseInt(name, 10));
    for (const seq of records.filter((record) => record < size)) {
      const file = path.join(session, layout.ledger, `${seq}.tlog-proof`);
      await replaceFile(file, proofOf(reader, seq, note));
    }
    for (const name of listDirectory(this.dir, layout.anchors)) {
      if (!name.startsWith(`${size}.`)) continue;
      const json = readFileSync(path.join(this.dir, layout.anchors, name), "utf8");
      mkdirSync(path.join(session, layout.anchors), { recursive: true });
      await replaceFile(path.join(session, layout.anchors, name), json);
    }
    return records.every((record) => record < size);
  }

  /** Remembers that the proofs in a session's directory are to be renewed once a head is anchored. */
  async anchorLater(session: string, seq: number): Promise<void> {
    mkdirSync(path.join(this.dir, layout.due), { recursive: true });
    await replaceFile(path.join(this.dir, layout.due, String(seq)), path.resolve(session));
  }

  async #renewDue(size: number): Promise<void> {
    for (const name of listDirectory(this.dir, layout.due)) {
      const mark = path.join(this.dir, layout.due, name);
      const session = readFileSync(mark, "utf8");
      const isDone = !existsSync(session) || (await this.renewProofs(session, size));
      if (isDone) rmSync(mark, { force: true });
    }
  }

  #size(): number {
    return parseCheckpoint(parseNote(readFileSync(path.join(this.dir, layout.checkpoint))).text)
      .size;
  }

  /** The records about one session, oldest first. Reads the whole ledger. */
  recordsOf(session: string): LedgerEntry[] {
    return [...readLedger(this.dir)].filter(
      (record) => "session" in record && record.session === session,
    );
  }

  #refuseFork(): void {
    const file = path.join(this.dir, layout.forked);
    if (!existsSync(file)) return;
    const what = readFileSync(file, "utf8").trim();
    throw new AuditError(
      "ERR_NONO_AUDIT_FORK",
      `the ledger in ${this.dir} is not continued, because it is older than, or differs from, what was seen outside (${what}). ` +
        "Start a new ledger under a new origin",
      { value: what },
    );
  }

  /** Uses the ledger alone. In turn, not by trying: under load some of many would never be lucky. */
  #exclusive<T>(use: (log: TileLog) => Promise<T>): Promise<T> {
    const key = path.resolve(this.dir);
    const last = turns.get(key) ?? Promise.resolve();
    const mine = last.then(() => this.#useLocked(use));
    const forget = (): void => {
      if (turns.get(key) === done) turns.delete(key);
    };
    const done: Promise<void> = mine.then(forget, forget);
    turns.set(key, done);
    return mine;
  }

  async #useLocked<T>(use: (log: TileLog) => Promise<T>): Promise<T> {
    makeDirectories(this.dir, 0o700);
    const log = await whenUnlocked(() => TileLog.open(this.dir, this.origin), lockPatience);
    try {
      return await use(log);
    } finally {
      await log.close();
    }
  }
}

function proofOf(reader: LogReader, seq: number, checkpoint: string): string {
  return formatProof({
    index: seq,
    extra: reader.entry(seq),
    hashes: reader.inclusionProof(seq),
    checkpoint,
  });
}

/**
 * Every record of a ledger directory that its checkpoint covers.
 *
 * @example
 * ```ts
 * for (const record of readLedger("/var/lib/nono/ledger")) {
 *   if (record.type === "session.close") console.log(record.session, record.size, record.reason);
 * }
 * ```
 */
export function* readLedger(dir: string): Generator<LedgerEntry> {
  const { size } = parseCheckpoint(parseNote(readFileSync(path.join(dir, layout.checkpoint))).text);
  for (const { seq, entry } of new LogReader(dir, size).entries()) yield decodeRecord(entry, seq);
}

function encodeRecord(record: LedgerRecord, seq: number): string {
  // Flat, so sorting the members once makes it canonical.
  const members = Object.entries({ ...record, v: 1, seq, time: Date.now() });
  return JSON.stringify(Object.fromEntries(members.toSorted(([a], [b]) => (a < b ? -1 : 1))));
}

/** Reads the ledger record at index `seq`. @throws AuditError `ERR_NONO_AUDIT_FORMAT` */
export function decodeRecord(bytes: Buffer, seq: number): LedgerEntry {
  let record: LedgerEntry | undefined;
  try {
    record = JSON.parse(bytes.toString("utf8")) as LedgerEntry;
  } catch {
    // Refused below.
  }
  const isOne = record?.v === 1 && record.seq === seq && recordTypes.has(record.type);
  if (!record || !isOne || !isTime(record.time) || !namesSession(record)) {
    throw new AuditError("ERR_NONO_AUDIT_FORMAT", `ledger record ${seq} is not one`, {
      value: seq,
    });
  }
  return record;
}

function namesSession(record: LedgerEntry): boolean {
  if (!("session" in record)) return true;
  return typeof record.session === "string" && isOrigin(record.session);
}

/** Whether a log's first entry is that of a ledger. */
export function isLedgerStart(first: Buffer): boolean {
  return first.includes('"type":"ledger.open"');
}
