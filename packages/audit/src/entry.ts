// Entries read back from a log.
import type { Buffer } from "node:buffer";
import { AuditError } from "./errors.ts";
import { entryVersion } from "./encode.ts";
import { objectFields, type EntryType, type EventDecision, type EventPhase } from "./event.ts";

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
  readonly ref?: number;
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
 */
export function decodeEntry(bytes: Buffer, seq: number): Entry {
  const entry = parse(bytes, seq);
  if (entry.v !== entryVersion) throw badEntry(seq, `has version ${entry.v}`);
  if (entry.seq !== seq) throw badEntry(seq, `says it is entry ${entry.seq}`);
  if (typeof entry.session !== "string" || !Number.isSafeInteger(entry.time))
    throw badEntry(seq, "has no session or time");
  if (!Object.hasOwn(objectFields, entry.type)) throw badEntry(seq, `has type ${entry.type}`);
  if (entry.ref !== undefined && !(entry.ref < seq))
    throw badEntry(seq, `refers to entry ${entry.ref}`);
  return entry;
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
