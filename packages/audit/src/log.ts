// The log of one run: events in, receipts out, checkpoints by themselves.
import type { Buffer } from "node:buffer";
import { performance } from "node:perf_hooks";
import process from "node:process";
import { encodeEntry } from "./encode.ts";
import { decodeEntry, type Entry } from "./entry.ts";
import { eraseDisclosures } from "./erase.ts";
import { AuditError } from "./errors.ts";
import type { LogEvent, NonoEvent } from "./event.ts";
import { isOrigin, type Checkpoint } from "./checkpoint.ts";
import type { AnchorResult } from "./anchor.ts";
import type { HostLedger } from "./ledger.ts";
import { LedgeredSession, type EpochOptions } from "./ledgered-session.ts";
import { Redactor, redactSensitive, type RedactRule } from "./redact.ts";
import type { LogReader } from "./reader.ts";
import type { NoteSignature } from "./note.ts";
import { isLogType } from "./schema.ts";
import { signatureLine, type CheckpointSigner } from "./signer.ts";
import { TileLog, type Receipt } from "./tile-log.ts";
import { formatProof } from "./tlog-proof.ts";
import { uuidv7 } from "./uuid.ts";

/** How to open a log. */
export interface AuditLogOptions {
  /** The log's own directory; made if it does not exist. Keep it out of the sandbox's reach. */
  dir: string;
  /** Name of the log, a schema-less URL: `example.com/host-7/session/0193...`. Its last part is the session. */
  origin: string;
  /** Who signs checkpoints; more than one makes one line each. Needed unless there is a `ledger`. */
  signer?: CheckpointSigner | readonly CheckpointSigner[];
  /**
   * The host ledger. With it, checkpoints are signed by forward-secure epoch keys that the ledger commits to
   * (beside `signer`, if that is given too), and the log's opening, heads and close are on record there.
   */
  ledger?: HostLedger;
  /** How often epoch keys change. */
  epochs?: EpochOptions;
  /**
   * What an event that cannot be recorded means. `"deny"` (default): `record` rejects, so the action is not
   * released. `"degrade"`: it resolves with `durable: false`, and the loss is counted.
   */
  onFailure?: "deny" | "degrade";
  /** What is kept apart as salted disclosures; default `redactSensitive`, `false` for nothing. */
  redact?: RedactRule | false;
  /** Milliseconds between checkpoints while events arrive; default 1000. */
  checkpointInterval?: number;
  /** Milliseconds after which an idle log records a heartbeat; default 60 000, 0 for never. With a `ledger`, each epoch ends with one. */
  heartbeatInterval?: number;
}

/**
 * What core, proxy and rollback see of a log.
 *
 * @example
 * ```ts
 * async function start(path: string, sink: AuditSink): Promise<void> {
 *   await sink.record({ type: "process.exec", phase: "intent", decision: "allow", object: { path } });
 *   spawn(path);
 * }
 * ```
 */
export interface AuditSink {
  /** Resolves when the event is durable. @throws AuditError (as a rejection) */
  record(event: NonoEvent): Promise<Receipt>;
  /**
   * Records without waiting. When the queue is full the event is dropped, and counted in a `log.gap` entry.
   *
   * @throws AuditError `ERR_NONO_AUDIT_INPUT` for an event that is not of the schema.
   */
  recordAndForget(event: NonoEvent): void;
  /** Resolves when everything recorded so far is durable. */
  flush(): Promise<void>;
  /** Ends the log with a signed checkpoint. */
  close(reason: string): Promise<Checkpoint>;
}

/** Bytes that may wait for the disk before events are refused or dropped. */
const queueLimit = 64 << 20;

/**
 * Opens the log of a run, or continues one that a crash interrupted.
 *
 * @throws AuditError `ERR_NONO_AUDIT_INPUT`, `_LOCKED`, `_CORRUPT`, `_FORK`, `_WRITE`
 * @example
 * ```ts
 * const log = await openAuditLog({
 *   dir: "/var/lib/nono/sessions/0193...",
 *   origin: "nono.local/host/session/0193...",
 *   signer: ed25519Signer("nono.local/host/session/0193...", seed),
 * });
 * const intent = await log.record({ type: "process.exec", phase: "intent", decision: "allow", object: { path: "/bin/true" } });
 * await log.close("done");
 * ```
 */
export async function openAuditLog(options: AuditLogOptions): Promise<AuditLog> {
  const signers = options.signer === undefined ? [] : [options.signer].flat();
  if (signers.length === 0 && !options.ledger) {
    throw new AuditError("ERR_NONO_AUDIT_INPUT", "a log needs a signer or a ledger");
  }
  if (!isOrigin(options.origin))
    throw new AuditError("ERR_NONO_AUDIT_INPUT", "not an origin", { value: options.origin });
  const tiles = await TileLog.open(options.dir, options.origin);
  try {
    return await AuditLog.start(tiles, signers, options);
  } catch (error) {
    await tiles.close().catch(() => undefined);
    throw error;
  }
}

/**
 * An open log.
 *
 * @example
 * ```ts
 * const { seq } = await log.record({
 *   type: "process.exec", phase: "intent", decision: "allow", object: { path: "/usr/bin/git" },
 * });
 * // Durable from here on: now the program may be started.
 * const proof = await log.prove(seq);
 * ```
 */
export class AuditLog implements AuditSink {
  readonly dir: string;
  readonly origin: string;
  readonly session: string;
  readonly #tiles: TileLog;
  readonly #signers: readonly CheckpointSigner[];
  readonly #degrade: boolean;
  readonly #redactor: Redactor | undefined;
  readonly #sessionJson: string;
  readonly #checkpointInterval: number;
  readonly #heartbeat: NodeJS.Timeout | undefined;
  readonly #session: LedgeredSession | undefined;
  readonly #ledger: HostLedger | undefined;
  #beating: Promise<void> = Promise.resolve();
  #checkpointTimer: NodeJS.Timeout | undefined;
  #failure: AuditError | undefined;
  #closing = false;
  #anchored: Promise<AnchorResult[]> = Promise.resolve([]);
  #lost = 0;
  #unreported = 0;

  private constructor(
    tiles: TileLog,
    signers: readonly CheckpointSigner[],
    session: LedgeredSession | undefined,
    options: AuditLogOptions,
  ) {
    this.dir = tiles.dir;
    this.origin = tiles.origin;
    this.session = tiles.origin.slice(tiles.origin.lastIndexOf("/") + 1);
    this.#tiles = tiles;
    this.#signers = signers;
    this.#session = session;
    this.#ledger = options.ledger;
    this.#degrade = options.onFailure === "degrade";
    this.#redactor =
      options.redact === false ? undefined : new Redactor(options.redact ?? redactSensitive);
    this.#sessionJson = JSON.stringify(this.session);
    this.#checkpointInterval = options.checkpointInterval ?? 1000;
    tiles.onBacklog = (): void => this.#checkpointSoon(0);
    const heartbeat = session
      ? (options.epochs?.seconds ?? 60) * 1000
      : (options.heartbeatInterval ?? 60_000);
    if (heartbeat > 0) this.#heartbeat = setInterval(() => void this.#beat(), heartbeat).unref();
  }

  /** @internal */
  static async start(
    tiles: TileLog,
    signers: readonly CheckpointSigner[],
    options: AuditLogOptions,
  ): Promise<AuditLog> {
    const session =
      options.ledger && (await LedgeredSession.open(options.ledger, tiles, options.epochs ?? {}));
    const log = new AuditLog(tiles, signers, session, options);
    const event = { phase: "event", decision: "allow" } as const;
    const { recovery } = tiles;
    await log.#write(
      recovery
        ? { ...event, type: "log.recovered", object: { ...recovery } }
        : { ...event, type: "log.open", object: { origin: tiles.origin } },
    );
    await log.checkpoint();
    return log;
  }

  /** Number of entries, whether durable yet or not. */
  get size(): number {
    return this.#tiles.size;
  }

  /** Events that were not recorded: dropped by `recordAndForget`, or not durable with `onFailure: "degrade"`. */
  get lost(): number {
    return this.#lost;
  }

  /** After `close`: what became of anchoring the ledger's head. Never rejects; empty without anchors. */
  get anchored(): Promise<AnchorResult[]> {
    return this.#anchored;
  }

  /** The error that ended the log, if one did. */
  get failure(): AuditError | undefined {
    return this.#failure;
  }

  record(event: NonoEvent): Promise<Receipt> {
    const refusal = this.#refusal(event);
    if (refusal) return this.#refused(refusal);
    let written: Promise<Receipt>;
    try {
      written = this.#write(event);
    } catch (error) {
      // Unacceptable events are the caller's mistake, whatever onFailure says.
      return Promise.reject(error);
    }
    if (event.type === "policy.change" || event.type === "credential.inject")
      this.#checkpointSoon(0);
    return this.#degrade
      ? written.catch((error: unknown) => this.#refused(this.#fail(error)))
      : written;
  }

  recordAndForget(event: NonoEvent): void {
    const refusal = this.#refusal(event);
    if (refusal) {
      this.#lost += 1;
      this.#unreported += 1;
      return;
    }
    this.#reportGap();
    this.#add(event);
    this.#tiles.flush().catch((error: unknown) => this.#fail(error));
  }

  flush(): Promise<void> {
    return this.#tiles.flush();
  }

  /** Publishes a signed checkpoint of everything recorded so far. */
  async checkpoint(): Promise<Checkpoint> {
    return this.#publish(false);
  }

  /** A `.tlog-proof` of entry `seq` that carries the entry; makes a checkpoint if none covers it yet. */
  async prove(seq: number): Promise<string> {
    if (!Number.isSafeInteger(seq) || seq < 0 || seq >= this.size) {
      throw new AuditError("ERR_NONO_AUDIT_INPUT", `the log has entries 0 to ${this.size - 1}`, {
        value: seq,
      });
    }
    const last = this.#tiles.lastCheckpoint;
    const checkpoint = last && last.size > seq ? last : await this.checkpoint();
    const reader = this.#tiles.reader();
    return formatProof({
      index: seq,
      extra: reader.entry(seq),
      hashes: reader.inclusionProof(seq, checkpoint.size),
      checkpoint: checkpoint.note,
    });
  }

  /** Hashes that prove the tree of `to` entries to extend that of `from`; both must be checkpointed. */
  async consistency(from: number, to: number): Promise<Buffer[]> {
    if (to > (this.#tiles.lastCheckpoint?.size ?? 0)) await this.checkpoint();
    return this.#tiles.reader().consistencyProof(from, to);
  }

  /** Reads the directory as the last checkpoint shows it. */
  reader(): LogReader {
    return this.#tiles.reader();
  }

  /** The entries of a range that the last checkpoint covers. */
  async *entries(range: { from?: number; to?: number } = {}): AsyncGenerator<Entry> {
    for (const { seq, entry } of this.#tiles.reader().entries(range.from, range.to))
      yield decodeEntry(entry, seq);
  }

  /**
   * Erases the disclosed values of an entry, or one field of it, and records that. Proofs stay valid.
   * Returns how many values there were.
   */
  async erase(seq: number, field?: string): Promise<number> {
    if (this.#closing) throw closed();
    await this.checkpoint();
    const fields = await eraseDisclosures(this.dir, seq, field);
    if (fields > 0) {
      await this.#write({
        type: "entry.erased",
        phase: "event",
        decision: "allow",
        object: { entry: seq, fields },
      });
    }
    return fields;
  }

  async close(reason: string): Promise<Checkpoint> {
    if (this.#closing) throw closed();
    this.#closing = true;
    clearInterval(this.#heartbeat);
    clearTimeout(this.#checkpointTimer);
    try {
      if (this.#failure) throw this.#failure;
      this.#reportGap();
      await this.#write({
        type: "log.close",
        phase: "event",
        decision: "allow",
        object: { reason },
      });
      await this.#beating;
      const checkpoint = await this.#publish(true);
      await this.#session?.close(checkpoint, reason);
      this.#anchored = this.#anchor();
      return checkpoint;
    } finally {
      await this.#tiles.close().catch((error: unknown) => this.#fail(error));
    }
  }

  #publish(archive: boolean): Promise<Checkpoint> {
    const sign = (text: string): Promise<NoteSignature[]> => {
      const signers = this.#session ? [this.#session.signer, ...this.#signers] : this.#signers;
      return Promise.all(signers.map((signer) => signatureLine(signer, text)));
    };
    return this.#tiles.checkpoint(sign, { archive });
  }

  #write(event: NonoEvent | LogEvent): Promise<Receipt> {
    if (this.#unreported > 0) this.#reportGap();
    const json = this.#encode(event);
    const receipt = this.#tiles.append(json, this.#redactor?.take());
    this.#checkpointSoon(this.#checkpointInterval);
    return receipt;
  }

  #add(event: NonoEvent | LogEvent): void {
    const json = this.#encode(event);
    this.#tiles.add(json, this.#redactor?.take());
    this.#checkpointSoon(this.#checkpointInterval);
  }

  #encode(event: NonoEvent | LogEvent): string {
    const time = event.time ?? Date.now();
    try {
      return encodeEntry(
        event,
        {
          seq: this.#tiles.size,
          id: uuidv7(time),
          session: this.#sessionJson,
          time,
          mono: monotonicTime(),
        },
        this.#redactor,
      );
    } catch (error) {
      this.#redactor?.take();
      throw error;
    }
  }

  #refusal(event: NonoEvent): AuditError | undefined {
    if (this.#closing) return closed();
    if (this.#failure) return this.#failure;
    if (isLogType(event.type)) {
      return new AuditError(
        "ERR_NONO_AUDIT_INPUT",
        `${event.type} entries are written by the log alone`,
        { value: event.type },
      );
    }
    if (this.#tiles.pending <= queueLimit) return undefined;
    return new AuditError(
      "ERR_NONO_AUDIT_OVERLOAD",
      `more than ${queueLimit} bytes are waiting for the disk`,
      {
        value: this.#tiles.pending,
      },
    );
  }

  #refused(error: AuditError): Promise<Receipt> {
    if (
      !this.#degrade ||
      error.code === "ERR_NONO_AUDIT_INPUT" ||
      error.code === "ERR_NONO_AUDIT_CLOSED"
    ) {
      return Promise.reject(error);
    }
    this.#lost += 1;
    this.#unreported += 1;
    return Promise.resolve({ seq: -1, durable: false });
  }

  /** Says in the log itself how many events are missing at this place. */
  #reportGap(): void {
    if (this.#unreported === 0) return;
    const lost = this.#unreported;
    this.#unreported = 0;
    this.#add({
      type: "log.gap",
      phase: "event",
      decision: "error",
      object: { lost, reason: "the queue was full" },
    });
  }

  #checkpointSoon(delay: number): void {
    if (this.#closing || this.#failure) return;
    if (this.#checkpointTimer !== undefined) {
      if (delay > 0) return;
      clearTimeout(this.#checkpointTimer);
    }
    this.#checkpointTimer = setTimeout(() => {
      this.#checkpointTimer = undefined;
      this.#publish(false).catch((error: unknown) => this.#postponed(error));
    }, delay).unref();
  }

  /** A heartbeat; with a ledger it also ends the epoch, busy or not (an empty epoch is sealed like any other). */
  #beat(): Promise<void> {
    if (this.#closing || this.#failure) return Promise.resolve();
    this.#beating = this.#beating
      .then(() => this.#sealEpoch())
      .catch((error: unknown) => this.#postponed(error));
    return this.#beating;
  }

  async #sealEpoch(): Promise<void> {
    const session = this.#session;
    const object = session ? { epoch: session.epoch } : {};
    await this.#write({ type: "log.heartbeat", phase: "event", decision: "allow", object });
    if (!session) return;
    await session.seal(await this.#publish(true));
    void this.#anchor();
  }

  /** Submits the ledger's head; a failure waits for the next time. */
  async #anchor(): Promise<AnchorResult[]> {
    try {
      return (await this.#ledger?.anchor()) ?? [];
    } catch (error) {
      return [{ anchor: "ledger", size: 0, error: asAuditError(error) }];
    }
  }

  /** A checkpoint or an epoch's end that did not come about: what will pass is tried again, all else ends the log. */
  #postponed(error: unknown): void {
    const { code } = asAuditError(error);
    if (code !== "ERR_NONO_AUDIT_SIGNER" && code !== "ERR_NONO_AUDIT_LOCKED") this.#fail(error);
    else this.#checkpointSoon(this.#checkpointInterval);
  }

  #fail(error: unknown): AuditError {
    this.#failure ??= asAuditError(error);
    return this.#failure;
  }
}

function asAuditError(error: unknown): AuditError {
  if (error instanceof AuditError) return error;
  const message = `the log cannot go on: ${String(error)}`;
  return new AuditError("ERR_NONO_AUDIT_WRITE", message, { cause: error });
}

function closed(): AuditError {
  return new AuditError("ERR_NONO_AUDIT_CLOSED", "the log is closed");
}

/** Where the monotonic clock stood, in nanoseconds, at the origin of `performance.now`. */
const clockOffset = Number(process.hrtime.bigint()) - Math.round(performance.now() * 1e6);

/** Nanoseconds of the monotonic clock (to about a microsecond), without a BigInt for every event. */
function monotonicTime(): string {
  return `${clockOffset + Math.round(performance.now() * 1e6)}`;
}
