// The write-ahead journal: what is acknowledged is in here, synced, until tiles that cover it are durable.
//
// A segment `.nono/journal/<seq of its first entry>` is a run of frames:
//   uint32 LE  length of the payload; the top bit marks a disclosure of the entry that follows
//   4 bytes    the first four of SHA-256(payload)
//   payload    0x00 and the entry: the preimage of its Merkle leaf, so that the checksum costs nothing extra
import { Buffer } from "node:buffer";
import { closeSync, readdirSync, truncateSync } from "node:fs";
import { rm } from "node:fs/promises";
import path from "node:path";
import { performance } from "node:perf_hooks";
import { AuditError } from "./errors.ts";
import { openDurable, readRegular, syncDirectory, writeDurably } from "./files.ts";
import { hashSize, sha256, sha256Into } from "./merkle.ts";
import { maxEntrySize } from "./tiles.ts";

const headerSize = 8;
const disclosureFlag = 0x8000_0000;
const initialCapacity = 288 << 10;

/**
 * A group of at least this size goes to an idle disk before the turn of the event loop is over, so that the disk
 * works on it while the next one is being filled. It pays only if filling takes longer than the disk does:
 */
const earlyGroup = 16 << 10;

/** hence the bytes that are encoded, about, in a millisecond; a slow disk gets larger groups. */
const fillRate = 64 << 10;

/** A group never grows beyond this size. */
const groupLimit = 256 << 10;

interface Waiter {
  resolve(): void;
  reject(error: unknown): void;
}

interface Group {
  readonly buffer: Buffer;
  readonly length: number;
  readonly waiters: Waiter[];
  /** Continue in a new segment that starts with this entry. */
  readonly rotateTo: number | undefined;
}

/**
 * Group commit without a timer: while one group is being synced the next one gathers, so the group grows with
 * the load by itself and an idle log answers at once.
 */
export class Journal {
  /** Asked before each group: a promise delays its acknowledgement until tiles have caught up. */
  backPressure: (() => Promise<void> | undefined) | undefined;
  readonly #dir: string;
  #fd: number;
  #buffer: Buffer = Buffer.allocUnsafe(initialCapacity);
  #length = 0;
  readonly #digest = Buffer.alloc(hashSize);
  #waiters: Waiter[] = [];
  #queue: Group[] = [];
  #spare: Buffer[] = [];
  /** A group is on its way to the disk. */
  #sending = false;
  /** The next one is to be sent in the next turn of the event loop. */
  #soon = false;
  /** Milliseconds that the disk has taken for a group lately. */
  #syncTime = 0;
  #failure: unknown;

  private constructor(dir: string, fd: number) {
    this.#dir = dir;
    this.#fd = fd;
  }

  /** Starts a segment whose first entry will be `seq`. */
  static async start(dir: string, seq: number): Promise<Journal> {
    const fd = await openDurable(path.join(dir, String(seq)), 0o600);
    await syncDirectory(dir);
    return new Journal(dir, fd);
  }

  /** Bytes waiting for the disk. */
  get pending(): number {
    return this.#queue.reduce((sum, { length }) => sum + length, this.#length);
  }

  /** Adds an entry; returns its leaf hash and its bytes, both valid until the next call. */
  entry(json: string): { leaf: Buffer; entry: Buffer } {
    const start = this.#length + headerSize;
    const buffer = this.#room(headerSize + 1 + json.length * 3);
    buffer[start] = 0;
    const end = start + 1 + buffer.write(json, start + 1, "utf8");
    if (end - start - 1 > maxEntrySize) {
      throw new AuditError("ERR_NONO_AUDIT_INPUT", `an entry has at most ${maxEntrySize} bytes`, {
        value: end - start - 1,
      });
    }
    const leaf = this.#frame(buffer, start, end, 0);
    return { leaf, entry: buffer.subarray(start + 1, end) };
  }

  /** Adds a disclosure of the entry that follows. */
  disclosure(line: string): void {
    const start = this.#length + headerSize;
    const buffer = this.#room(headerSize + line.length);
    this.#frame(buffer, start, start + buffer.write(line, start, "latin1"), disclosureFlag);
  }

  #frame(buffer: Buffer, start: number, end: number, flag: number): Buffer {
    sha256Into(buffer.subarray(start, end), this.#digest, 0);
    buffer.writeUInt32LE(end - start + flag, start - headerSize);
    this.#digest.copy(buffer, start - 4, 0, 4);
    this.#length = end;
    return this.#digest;
  }

  #room(bytes: number): Buffer {
    if (this.#length + bytes <= this.#buffer.length) return this.#buffer;
    const larger = Buffer.allocUnsafe(Math.max(this.#buffer.length * 2, this.#length + bytes));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
    return larger;
  }

  /** Calls back when everything added so far is durable. */
  whenDurable(waiter: Waiter): void {
    if (this.#failure !== undefined) {
      waiter.reject(this.#failure);
      return;
    }
    this.#waiters.push(waiter);
    if (this.#length >= groupLimit) this.#seal();
    this.#sendSoon();
  }

  /** Everything added so far is durable. */
  durable(): Promise<void> {
    return new Promise((resolve, reject) => this.whenDurable({ resolve, reject }));
  }

  /** Makes everything added so far durable and continues in a new segment, which starts with entry `seq`. */
  rotate(seq: number): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) {
        reject(this.#failure);
        return;
      }
      this.#waiters.push({ resolve, reject });
      this.#seal(seq);
      this.#sendSoon();
    });
  }

  /** Deletes the segments that hold nothing from `seq` on. */
  async drop(seq: number): Promise<void> {
    for (const first of listSegments(this.#dir)) {
      if (first < seq) await rm(path.join(this.#dir, String(first)), { force: true });
    }
  }

  close(): void {
    closeSync(this.#fd);
    this.#failure ??= new AuditError("ERR_NONO_AUDIT_CLOSED", "the journal is closed");
  }

  #seal(rotateTo?: number): void {
    this.#queue.push({
      buffer: this.#buffer,
      length: this.#length,
      waiters: this.#waiters,
      rotateTo,
    });
    this.#buffer = this.#spare.pop() ?? Buffer.allocUnsafe(initialCapacity);
    this.#length = 0;
    this.#waiters = [];
  }

  #sendSoon(): void {
    if (this.#sending) return;
    if (this.#isEnough()) {
      this.#send();
      return;
    }
    if (this.#soon) return;
    this.#soon = true;
    // What is recorded in the same turn belongs to the same group.
    setImmediate(() => {
      this.#soon = false;
      if (!this.#sending && this.#waiters.length > 0) this.#send();
    });
  }

  #isEnough(): boolean {
    if (this.#queue.length > 0) return true;
    return this.#length >= Math.max(earlyGroup, this.#syncTime * fillRate);
  }

  #send(): void {
    if (this.#queue.length === 0) this.#seal();
    const group = this.#queue.shift();
    if (group === undefined) return;
    this.#sending = true;
    const start = performance.now();
    this.#commit(group).then(
      () => this.#sent(group, performance.now() - start),
      (cause: unknown) => this.#fail(group, cause),
    );
  }

  #sent({ buffer, waiters }: Group, took: number): void {
    this.#sending = false;
    this.#syncTime += (took - this.#syncTime) / 8;
    if (buffer.length <= 2 * initialCapacity && this.#spare.length < 16) this.#spare.push(buffer);
    // Under load the next group is on its way to the disk while those who waited for this one go on; otherwise
    // their next events are part of it.
    if (this.#isEnough()) this.#send();
    for (const waiter of waiters) waiter.resolve();
    if (this.#waiters.length > 0) this.#sendSoon();
  }

  async #commit({ buffer, length, rotateTo }: Group): Promise<void> {
    const hold = this.backPressure?.();
    if (hold) await hold;
    await writeDurably(this.#fd, buffer, length);
    if (rotateTo === undefined) return;
    const next = await openDurable(path.join(this.#dir, String(rotateTo)), 0o600);
    closeSync(this.#fd);
    this.#fd = next;
    await syncDirectory(this.#dir);
  }

  #fail(group: Group, cause: unknown): void {
    const error = new AuditError(
      "ERR_NONO_AUDIT_WRITE",
      `the audit journal cannot be written (${(cause as Error).message}); nothing more is acknowledged`,
      { cause, value: this.#dir },
    );
    this.#failure = error;
    const waiters = [group, ...this.#queue]
      .flatMap((failed) => failed.waiters)
      .concat(this.#waiters);
    this.#queue = [];
    this.#waiters = [];
    for (const waiter of waiters) waiter.reject(error);
  }
}

/** A frame read back. */
export interface Frame {
  readonly kind: "entry" | "disclosure";
  /** The entry, without the leaf prefix; or the disclosure line. */
  readonly data: Buffer;
  readonly digest: Buffer;
}

/** First entries of the segments in `dir`, ascending. */
export function listSegments(dir: string): number[] {
  return readdirSync(dir)
    .filter((name) => /^(0|[1-9]\d*)$/.test(name))
    .map(Number)
    .toSorted((a, b) => a - b);
}

/** Reads the whole frames of a segment; `end` is where the first torn one starts. */
export function readSegment(file: string): { frames: Frame[]; end: number; bytes: number } {
  const bytes = readRegular(file);
  const frames: Frame[] = [];
  let at = 0;
  for (let frame = frameAt(bytes, at); frame; frame = frameAt(bytes, at)) {
    frames.push(frame.frame);
    at = frame.end;
  }
  const behind = at < bytes.length ? nextFrame(bytes, at + 1) : undefined;
  // A crash tears the last group that was written. Power loss may leave sectors of it unwritten, with later ones
  // in place; whole frames behind any other damage mean that something else happened.
  if (behind !== undefined && !hasUnwrittenSector(bytes.subarray(0, behind), at)) {
    throw new AuditError(
      "ERR_NONO_AUDIT_CORRUPT",
      `journal ${file} is damaged at byte ${at}, before its end`,
      { value: at },
    );
  }
  return { frames, end: at, bytes: bytes.length };
}

/** Where the next whole frame starts, at `from` or behind it. */
function nextFrame(bytes: Buffer, from: number): number | undefined {
  for (let at = from; at + headerSize < bytes.length; at += 1) {
    // Only lengths that may be: nearly every other place is passed by without hashing anything.
    const length = bytes.readUInt32LE(at) & ~disclosureFlag;
    if (length <= 1 + maxEntrySize && frameAt(bytes, at)) return at;
  }
  return undefined;
}

const sectorSize = 512;

/** Whether a sector, as far as it is behind `from`, is all zeros: no frame has two zeros in a row. */
function hasUnwrittenSector(bytes: Buffer, from: number): boolean {
  for (let at = from; at < bytes.length;) {
    const end = Math.min(bytes.length, at - (at % sectorSize) + sectorSize);
    if (end - at >= headerSize && bytes.subarray(at, end).every((byte) => byte === 0)) return true;
    at = end;
  }
  return false;
}

function frameAt(bytes: Buffer, at: number): { frame: Frame; end: number } | undefined {
  if (at + headerSize > bytes.length) return undefined;
  const header = bytes.readUInt32LE(at);
  const isDisclosure = header >= disclosureFlag;
  const length = isDisclosure ? header - disclosureFlag : header;
  const start = at + headerSize;
  const end = start + length;
  if (length === 0 || end > bytes.length) return undefined;
  const payload = bytes.subarray(start, end);
  const digest = sha256(payload);
  if (digest.compare(bytes, at + 4, at + 8, 0, 4) !== 0) return undefined;
  // The checksum does not cover the kind, but no disclosure starts as an entry does.
  if (isDisclosure === (payload[0] === 0)) return undefined;
  if (isDisclosure) return { frame: { kind: "disclosure", data: payload, digest }, end };
  return { frame: { kind: "entry", data: payload.subarray(1), digest }, end };
}

/** Cuts the torn tail off a segment. */
export function cutSegment(file: string, end: number): void {
  truncateSync(file, end);
}
