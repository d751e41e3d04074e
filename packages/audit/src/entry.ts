// Entries read back from a log.
import { Buffer } from "node:buffer";
import { AuditError } from "./errors.ts";
import { entryVersion } from "./encode.ts";
import type { EntryType, EventDecision, EventPhase } from "./event.ts";
import { objectFields } from "./schema.ts";

/** An entry as it was recorded. Members of `object` and `actor` may be replaced by `_sd` digests. */
export interface Entry {
  readonly v: number;
  readonly seq: number;
  readonly id: string;
  readonly session: string;
  readonly time: number;
  readonly mono: string;
  readonly type: EntryType;
  readonly phase: EventPhase;
  readonly decision: EventDecision;
  readonly count?: number;
  readonly ref?: number;
  readonly layer?: string;
  readonly rule?: { readonly id: string; readonly policyDigest?: string };
  readonly actor?: Readonly<Record<string, unknown>>;
  readonly object: Readonly<Record<string, unknown>>;
  readonly outcome?: Readonly<Record<string, unknown>>;
  readonly trace?: { readonly traceId: string; readonly spanId: string };
}

/**
 * Reads the entry at index `seq`.
 *
 * @throws AuditError `ERR_NONO_AUDIT_FORMAT` when it is no entry of this version, or not that of `seq`.
 * @example
 * ```ts
 * for (const { seq, entry } of log.reader().entries()) {
 *   const { type, decision, object } = decodeEntry(entry, seq);
 *   if (decision === "deny") console.log(type, object);
 * }
 * ```
 */
export function decodeEntry(bytes: Buffer, seq: number): Entry {
  const entry = parse(bytes, seq);
  if (entry.v !== entryVersion) throw badEntry(seq, `has version ${entry.v}`);
  if (entry.seq !== seq) throw badEntry(seq, `says it is entry ${entry.seq}`);
  if (typeof entry.session !== "string" || !isTime(entry.time))
    throw badEntry(seq, "has no session or time");
  if (!Object.hasOwn(objectFields, entry.type)) throw badEntry(seq, `has type ${entry.type}`);
  if (typeof entry.phase !== "string" || typeof entry.decision !== "string")
    throw badEntry(seq, "has no phase or decision");
  if (typeof entry.object !== "object" || entry.object === null)
    throw badEntry(seq, "is about nothing");
  if (entry.ref !== undefined && !(entry.ref < seq))
    throw badEntry(seq, `refers to entry ${entry.ref}`);
  return entry;
}

/** Whether a Date can be of it (ECMA-262, "Time Values and Time Range"): text of one that is not cannot be had. */
export function isTime(time: unknown): boolean {
  return Number.isSafeInteger(time) && Math.abs(time as number) <= 8.64e15;
}

const seqKey = Buffer.from(',"seq":');
const sessionKey = Buffer.from(',"session":');
const ownType = Buffer.from('"type":"log.');

/**
 * Whether the bytes of `bundle` from `start` to `end` are plainly an event recorded at index `seq`: a cheap look at the end of the canonical form,
 * where the members after `seq` cannot hide another one (quotes inside strings are escaped). Whatever does not
 * pass, and every entry of the log about itself, is for `decodeEntry`.
 */
export function isPlainEventAt(bundle: Buffer, start: number, end: number, seq: number): boolean {
  const at = bundle.lastIndexOf(seqKey, end - seqKey.length);
  if (at < start || bundle[start] !== 0x7b || bundle[end - 1] !== 0x7d) return false;
  let place = at + seqKey.length;
  let value = 0;
  for (
    let digit = bundle[place];
    digit !== undefined && digit >= 0x30 && digit <= 0x39;
    digit = bundle[place]
  ) {
    value = value * 10 + digit - 0x30;
    place += 1;
  }
  if (value !== seq || !startsWith(bundle, place, sessionKey)) return false;
  return !bundle.subarray(place, end).includes(ownType);
}

function startsWith(bundle: Buffer, at: number, key: Buffer): boolean {
  for (let i = 0; i < key.length; i += 1) if (bundle[at + i] !== key[i]) return false;
  return true;
}

function parse(bytes: Buffer, seq: number): Entry {
  try {
    const value: unknown = JSON.parse(bytes.toString("utf8"));
    if (typeof value === "object" && value !== null) return value as Entry;
  } catch {
    // Falls through to the same refusal.
  }
  throw badEntry(seq, "is not a JSON object");
}

function badEntry(seq: number, what: string): AuditError {
  return new AuditError("ERR_NONO_AUDIT_FORMAT", `entry ${seq} ${what}`, { value: seq });
}
