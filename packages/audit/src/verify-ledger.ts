// What the host ledger says about a session log: its keys, its heads, and who has seen those.
import { existsSync, readdirSync } from "node:fs";
import path from "node:path";
import { decodeBase64 } from "./base64.ts";
import type { TreeHead } from "./checkpoint.ts";
import { scheduleRoot } from "./epochs.ts";
import { AuditError } from "./errors.ts";
import { readOptional } from "./files.ts";
import { layout } from "./layout.ts";
import { decodeRecord, type LedgerEntry } from "./ledger.ts";
import { readEpochs } from "./ledgered-session.ts";
import { noteVerifier, verifySignatures, type NoteVerifier } from "./note.ts";
import { checkProof, parseProof } from "./tlog-proof.ts";
import { problemOf, type Problem } from "./verify-tree.ts";

/** A record with the signed ledger head that covers it. */
export interface ProvenRecord {
  readonly record: LedgerEntry;
  readonly note: string;
  readonly ledgerSize: number;
  readonly file: string;
}

/** The records about the log in `dir` that its own proofs show, if signed by one of `ledgerKeys`. */
export function provenRecords(
  dir: string,
  origin: string,
  ledgerKeys: readonly NoteVerifier[],
  problems: Problem[],
): ProvenRecord[] {
  const folder = path.join(dir, layout.ledger);
  if (ledgerKeys.length === 0 || !existsSync(folder)) return [];
  const names = readdirSync(folder).filter((name) => name.endsWith(".tlog-proof"));
  return names
    .flatMap((name) => {
      const file = path.posix.join(layout.ledger, name);
      try {
        const proof = parseProof((readOptional(dir, file) ?? "").toString("utf8"));
        const { head, note } = checkProof(proof);
        if (`${proof.index}.tlog-proof` !== name || !proof.extra)
          throw bad("is not the proof that its name says");
        if (verifySignatures(note, ledgerKeys).length === 0)
          throw bad("is signed by no trusted ledger key");
        const record = decodeRecord(proof.extra, proof.index);
        if (!("session" in record) || record.session !== origin) throw bad("is about another log");
        return [{ record, note: proof.checkpoint, ledgerSize: head.size, file }];
      } catch (error) {
        problems.push(problemOf(error, { file }));
        return [];
      }
    })
    .toSorted((a, b) => a.record.seq - b.record.seq);
}

function bad(message: string): AuditError {
  return new AuditError("ERR_NONO_AUDIT_PROOF", message);
}

/** Heads of the log that the ledger has on record. */
export function ledgerHeads(
  records: readonly ProvenRecord[],
  origin: string,
  size: number,
  problems: Problem[],
): (TreeHead & { file: string })[] {
  return records.flatMap(({ record, file }) => {
    if (record.type !== "session.head" && record.type !== "session.close") return [];
    const root = decodeBase64(record.root);
    if (root && record.size <= size) return [{ origin, size: record.size, root, file }];
    const message = `the ledger holds a head of ${record.size} entries, but only ${size} are here`;
    problems.push({ code: "ERR_NONO_AUDIT_FORK", file, seq: size, message });
    return [];
  });
}

/** The epoch keys of a log, by epoch, as far as the ledger commits to them. */
export function epochKeys(
  dir: string,
  records: readonly ProvenRecord[],
  problems: Problem[],
): Map<number, NoteVerifier> {
  let vkeys: string[] = [];
  try {
    vkeys = readEpochs(dir);
  } catch (error) {
    problems.push(problemOf(error, { file: layout.epochs }));
  }
  const keys = new Map<number, NoteVerifier>();
  for (const { record } of records) {
    if (record.type !== "session.open" && record.type !== "session.keys") continue;
    const schedule = vkeys.slice(record.first, record.first + record.count);
    if (schedule.length !== record.count || scheduleRoot(schedule) !== record.root) {
      const message = `epochs ${record.first} to ${record.first + record.count - 1} are not those in the ledger`;
      problems.push({ code: "ERR_NONO_AUDIT_PROOF", file: layout.epochs, message });
      continue;
    }
    for (const [i, vkey] of schedule.entries()) keys.set(record.first + i, noteVerifier(vkey));
  }
  return keys;
}

/**
 * Each epoch must have been sealed by its own key: a thief of a later key can neither forge nor quietly drop
 * the heads of epochs that have passed. `sealed` are the epochs of archived heads, `last` that of the checkpoint.
 */
export function checkEpochChain(
  records: readonly ProvenRecord[],
  sealed: ReadonlySet<number>,
  last: number,
  problems: Problem[],
): void {
  const schedules = records.flatMap(({ record }) =>
    record.type === "session.open" || record.type === "session.keys" ? [record] : [],
  );
  for (const [i, { first, count }] of schedules.entries()) {
    const inSchedule = [...sealed, last].filter((epoch) => epoch >= first && epoch < first + count);
    const isComplete = schedules[i + 1]?.cause === "exhausted";
    const end = isComplete ? first + count : Math.max(first, ...inSchedule);
    for (let epoch = first; epoch < end; epoch += 1) {
      if (sealed.has(epoch)) continue;
      const message = `no head sealed by the key of epoch ${epoch}, though later ones were used`;
      problems.push({ code: "ERR_NONO_AUDIT_SIGNATURE", file: layout.heads, message });
    }
  }
}
