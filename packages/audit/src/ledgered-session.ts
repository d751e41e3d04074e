// What ties a session log to the host ledger: its epoch keys, its heads, and the proofs of both kept beside it.
import { existsSync, mkdirSync } from "node:fs";
import path from "node:path";
import type { TreeHead } from "./checkpoint.ts";
import { AuditError } from "./errors.ts";
import { EpochKeys, type EpochSchedule } from "./epochs.ts";
import { readRegular, replaceFile } from "./files.ts";
import { layout } from "./layout.ts";
import type { HostLedger, LedgerEntry, LedgerRecord } from "./ledger.ts";
import { LogReader } from "./reader.ts";
import type { CheckpointSigner } from "./signer.ts";
import type { TileLog } from "./tile-log.ts";

/** How often keys change. */
export interface EpochOptions {
  /** Seconds an epoch lasts; default 60. */
  seconds?: number;
  /** Epochs whose keys are computed and committed at a time; default 16. */
  count?: number;
}

/** The ledger's side of an open log. */
export class LedgeredSession {
  readonly #ledger: HostLedger;
  readonly #dir: string;
  readonly #origin: string;
  readonly #keys: EpochKeys;
  readonly #seconds: number;
  /** Its first record by this process. */
  #first: number | undefined;

  private constructor(ledger: HostLedger, tiles: TileLog, keys: EpochKeys, seconds: number) {
    this.#ledger = ledger;
    this.#dir = tiles.dir;
    this.#origin = tiles.origin;
    this.#keys = keys;
    this.#seconds = seconds;
  }

  /**
   * Registers a new log, or new keys for one whose process died with the old ones.
   *
   * @throws AuditError `ERR_NONO_AUDIT_FORK` when the ledger knows a larger or different head of this log.
   */
  static async open(
    ledger: HostLedger,
    tiles: TileLog,
    options: EpochOptions,
  ): Promise<LedgeredSession> {
    const { seconds = 60, count = 16 } = options;
    const used = readEpochs(tiles.dir);
    if (used.length > 0) refuseFork(ledger.recordsOf(tiles.origin), tiles);
    const keys = new EpochKeys(tiles.origin, count, used.length);
    const session = new LedgeredSession(ledger, tiles, keys, seconds);
    mkdirSync(path.join(tiles.dir, layout.ledger), { recursive: true });
    await keepEpochs(tiles.dir, keys.vkeys);
    const cause = used.length === 0 ? "started" : "recovered";
    await session.#record([session.#keysRecord(cause, keys.schedule)]);
    return session;
  }

  /** Signs with the running epoch's key. */
  get signer(): CheckpointSigner {
    return this.#keys.signer;
  }

  get epoch(): number {
    return this.#keys.epoch;
  }

  /**
   * Records the archived head that ends the epoch, and moves to the next key. A schedule that follows is on record
   * with it, before any of its keys is used.
   */
  async seal(head: TreeHead): Promise<void> {
    const sealed: LedgerRecord = {
      type: "session.head",
      session: this.#origin,
      ...this.#headOf(head),
    };
    if (this.#keys.isLast) {
      const { vkeys, schedule } = this.#keys.next();
      await keepEpochs(this.#dir, vkeys);
      await this.#record([sealed, this.#keysRecord("exhausted", schedule)]);
    } else {
      await this.#record([sealed]);
    }
    this.#keys.advance();
  }

  /** Records the end of the log; its keys are gone. */
  async close(head: TreeHead, reason: string): Promise<void> {
    await this.#record([
      { type: "session.close", session: this.#origin, ...this.#headOf(head), reason },
    ]);
    this.#keys.destroy();
  }

  #headOf({ size, root }: TreeHead): { size: number; root: string; epoch: number } {
    return { size, root: root.toString("base64"), epoch: this.#keys.epoch };
  }

  #keysRecord(cause: "started" | "exhausted" | "recovered", schedule: EpochSchedule): LedgerRecord {
    const type = cause === "started" ? "session.open" : "session.keys";
    return { type, cause, session: this.#origin, seconds: this.#seconds, ...schedule };
  }

  async #record(records: readonly LedgerRecord[]): Promise<void> {
    for (const { seq, proof } of await this.#ledger.append(records)) {
      await replaceFile(path.join(this.#dir, layout.ledger, `${seq}.tlog-proof`), proof);
      this.#first ??= seq;
    }
    if (this.#ledger.isAnchored) await this.#ledger.anchorLater(this.#dir, this.#first ?? 0);
  }
}

/** Adds keys to those of the epochs before them; keys that a failed attempt left are the same ones. */
async function keepEpochs(dir: string, vkeys: readonly string[]): Promise<void> {
  const lines = new Set([...readEpochs(dir), ...vkeys]);
  await replaceFile(path.join(dir, layout.epochs), [...lines].map((vkey) => `${vkey}\n`).join(""));
}

/** The verifier keys of all epochs of a log, in order. */
export function readEpochs(dir: string): string[] {
  const file = path.join(dir, layout.epochs);
  return existsSync(file)
    ? readRegular(file)
        .toString("utf8")
        .split("\n")
        .filter((line) => line !== "")
    : [];
}

function refuseFork(records: readonly LedgerEntry[], tiles: TileLog): void {
  for (const record of records) {
    if (record.type !== "session.head" && record.type !== "session.close") continue;
    if (record.size <= tiles.lastHead.size) {
      const root = new LogReader(tiles.dir, tiles.lastHead.size)
        .root(record.size)
        .toString("base64");
      if (root === record.root) continue;
    }
    throw new AuditError(
      "ERR_NONO_AUDIT_FORK",
      `the ledger holds a head of ${record.size} entries that this directory does not lead to: it is an older or another copy`,
      { value: record.size },
    );
  }
}
