// Verification: pure, offline, of a directory or of a single proof.
import { Buffer } from "node:buffer";
import { existsSync, statSync } from "node:fs";
import path from "node:path";
import { decodeEntry, isPlainEventAt } from "./entry.ts";
import { AuditError } from "./errors.ts";
import { readRegular } from "./files.ts";
import { layout } from "./layout.ts";
import { decodeRecord, isLedgerStart } from "./ledger.ts";
import { parseNote } from "./note.ts";
import { judge, type Report, type Step } from "./report.ts";
import type { TileTree } from "./tiles.ts";
import { checkProof, parseProof } from "./tlog-proof.ts";
import {
  checkDisclosures,
  checkJournal,
  readArchive,
  readHead,
  type SignedHead,
} from "./verify-files.ts";
import {
  checkEpochChain,
  epochKeys,
  ledgerHeads,
  provenRecords,
  type ProvenRecord,
} from "./verify-ledger.ts";
import {
  anchorSteps,
  checkSigned,
  readTrust,
  seenBy,
  seenByEvidence,
  type Seen,
  type Trust,
  type VerifyPolicy,
} from "./verify-trust.ts";
import { verifyBundle } from "./verify-bundle.ts";
import { problemOf, readOrReport, verifyTree, type Problem } from "./verify-tree.ts";

/**
 * Verifies a log or ledger directory, a `.tlog-proof` file, or a `.sigstore.json` bundle. Needs no network and writes nothing.
 *
 * @throws AuditError `ERR_NONO_AUDIT_INPUT` when there is no `target`; `ERR_NONO_AUDIT_FORMAT` for a bad policy.
 * @example
 * ```ts
 * const report = await verifyLog("/var/lib/nono/sessions/0193...", { keys: [vkey] });
 * console.log(formatReport(report));
 * ```
 */
export async function verifyLog(target: string, policy: VerifyPolicy = {}): Promise<Report> {
  const trust = readTrust(policy);
  if (!existsSync(target))
    throw new AuditError("ERR_NONO_AUDIT_INPUT", `there is no ${target}`, { value: target });
  if (statSync(target).isDirectory()) return verifyDirectory(target, trust);
  const text = readRegular(target).toString("utf8");
  return text.trimStart().startsWith("{") ? verifyBundle(text, trust) : verifyProof(text, trust);
}

/** A directory that its writer changed meanwhile is looked at again. */
async function verifyDirectory(dir: string, trust: Trust): Promise<Report> {
  for (let round = 0; ; round += 1) {
    const before = published(dir);
    const report = await verifyAsItIs(dir, trust);
    const after = published(dir);
    if (report.problems.length === 0 || round === maxRounds) return report;
    if (before === undefined || (after && before.equals(after))) return report;
  }
}

const maxRounds = 5;

/** The checkpoint; that it cannot be read is found where it is judged. */
function published(dir: string): Buffer | undefined {
  return readOrReport(dir, layout.checkpoint, () => undefined);
}

async function verifyAsItIs(dir: string, trust: Trust): Promise<Report> {
  const problems: Problem[] = [];
  const head = readHead(dir, problems);
  if (!head) return nothing(dir, problems, trust);
  const archived = readArchive(dir, head, problems);
  const records = provenRecords(dir, head.origin, trust.ledgerKeys, problems);
  const { facts, tree } = checkTree(
    dir,
    head,
    [head, ...archived, ...ledgerHeads(records, head.origin, head.size, problems)],
    problems,
  );
  const { unsealed, torn } = checkJournal(dir, head, tree, problems);
  checkDisclosures(dir, head.size, problems);
  const signed = checkSignatures(
    dir,
    { head, archived, records, isLedger: facts.isLedger },
    trust,
    problems,
  );
  const seen = await whoSaw(dir, [head, ...archived], records, trust, problems);
  const anchored = Math.max(0, ...seen.map(({ size }) => size));
  const since = facts.times.get(anchored) ?? facts.first;
  return judge({
    kind: facts.isLedger ? "ledger" : "log",
    origin: head.origin,
    size: head.size,
    root: head.root.toString("base64"),
    required: trust.required,
    steps: { INTACT: intact(problems, head.size), SIGNED: signed, ...anchorSteps(seen, head.size) },
    problems,
    tail: {
      entries: head.size + unsealed - anchored,
      seconds: Math.max(0, Math.round((facts.last - since) / 1000)),
    },
    closed: facts.closed,
    unsealed,
    torn,
    lost: facts.lost,
    seenBy: seen.map(({ who, time, size }) => ({ who, time, size })),
  });
}

interface TreeFacts {
  isLedger: boolean;
  closed: boolean;
  lost: number;
  /** Times of the first and the last entry. */
  first: number;
  last: number;
  /** Time of the last entry under each head. */
  times: Map<number, number>;
}

function checkTree(
  dir: string,
  head: SignedHead,
  known: readonly Pick<SignedHead, "origin" | "size" | "root" | "file">[],
  problems: Problem[],
): { facts: TreeFacts; tree: TileTree } {
  const facts: TreeFacts = {
    isLedger: false,
    closed: false,
    lost: 0,
    first: 0,
    last: 0,
    times: new Map(),
  };
  const heads = Map.groupBy(known, ({ size }) => size);
  const { problems: found, tree } = verifyTree(dir, head.size, {
    heads,
    onEntry(bundle, start, end, seq) {
      if (seq === 0) facts.isLedger = isLedgerStart(bundle.subarray(start, end));
      const isMark = seq === 0 || seq === head.size - 1 || heads.has(seq + 1);
      if (!isMark && !facts.isLedger && isPlainEventAt(bundle, start, end, seq)) return;
      const bytes = bundle.subarray(start, end);
      const entry = facts.isLedger ? decodeRecord(bytes, seq) : decodeEntry(bytes, seq);
      if (seq === 0) facts.first = entry.time;
      facts.last = entry.time;
      facts.closed = entry.type === "log.close";
      if (entry.type === "log.gap") facts.lost += Number(entry.object.lost);
      if (heads.has(seq + 1)) facts.times.set(seq + 1, entry.time);
    },
  });
  problems.push(...found);
  return { facts, tree };
}

interface Heads {
  readonly head: SignedHead;
  readonly archived: readonly SignedHead[];
  readonly records: readonly ProvenRecord[];
  readonly isLedger: boolean;
}

/** The checkpoint and every archived head, by the trusted keys and by the epoch keys the ledger vouches for. */
function checkSignatures(
  dir: string,
  { head, archived, records, isLedger }: Heads,
  trust: Trust,
  problems: Problem[],
): Step {
  const epochs = epochKeys(dir, records, problems);
  const keys = [...trust.keys, ...(isLedger ? trust.ledgerKeys : []), ...epochs.values()];
  const signed = checkSigned(head, keys, problems);
  if (!signed.ok) return signed;
  for (const earlier of archived) {
    if (checkSigned(earlier, keys, problems).ok) continue;
    const message = "is signed by none of the keys that sign the log";
    problems.push({ code: "ERR_NONO_AUDIT_SIGNATURE", file: earlier.file, message });
  }
  const byId = new Map([...epochs].map(([epoch, { keyId }]) => [keyId, epoch]));
  const epochsOf = ({ note }: SignedHead): number[] =>
    note.signatures.flatMap(({ keyId }) => byId.get(keyId) ?? []);
  const last = epochsOf(head)[0];
  if (last !== undefined)
    checkEpochChain(records, new Set(archived.flatMap(epochsOf)), last, problems);
  return last === undefined
    ? signed
    : { ok: true, detail: `${signed.detail}, key of epoch ${last}` };
}

/** Who has seen heads of this log, directly or through the ledger that records them. */
async function whoSaw(
  dir: string,
  heads: readonly SignedHead[],
  records: readonly ProvenRecord[],
  trust: Trust,
  problems: Problem[],
): Promise<Seen[]> {
  const seen: Seen[] = [];
  for (const head of heads) {
    seen.push(...seenBy(head, trust, problems));
    if (records.length > 0) continue;
    const documents = await seenByEvidence(dir, head.size, head.note.text, trust, problems);
    seen.push(...documents.map((one) => ({ ...one, size: head.size })));
  }
  for (const { record, note, ledgerSize, file } of records) {
    if (record.type !== "session.head" && record.type !== "session.close") continue;
    const parsed = parseNote(note);
    const { size } = record;
    const cosigned = seenBy(
      { origin: record.session, size, root: Buffer.alloc(0), file, note: parsed },
      trust,
      problems,
    );
    const documents = await seenByEvidence(dir, ledgerSize, parsed.text, trust, problems);
    seen.push(...cosigned, ...documents.map((one) => ({ ...one, size })));
  }
  return seen;
}

function intact(problems: readonly Problem[], size: number): Step {
  if (problems.length > 0) return { ok: false, detail: `${problems.length} contradictions` };
  return { ok: true, detail: `root recomputed from ${size} entries` };
}

/** The report of a log whose checkpoint cannot be read. */
function nothing(dir: string, problems: readonly Problem[], trust: Trust): Report {
  const none: Step = { ok: false, detail: "there is no readable checkpoint" };
  return judge({
    kind: "log",
    origin: path.basename(dir),
    size: 0,
    root: "",
    required: trust.required,
    steps: { INTACT: none, SIGNED: none, TIMED: none, WITNESSED: none },
    problems,
    tail: { entries: 0, seconds: 0 },
    closed: false,
    unsealed: 0,
    torn: 0,
    lost: 0,
    seenBy: [],
  });
}

function verifyProof(text: string, trust: Trust): Report {
  const problems: Problem[] = [];
  let head: SignedHead;
  let time = 0;
  try {
    const proof = parseProof(text);
    const { head: proven, note } = checkProof(proof);
    if (proof.extra) {
      // Ledger records have no phase.
      const decode = proof.extra.includes('"phase":') ? decodeEntry : decodeRecord;
      time = decode(proof.extra, proof.index).time;
    }
    head = { ...proven, file: "checkpoint of the proof", note };
  } catch (error) {
    return { ...nothing("proof", [problemOf(error, {})], trust), kind: "proof" };
  }
  const signed = checkSigned(head, [...trust.keys, ...trust.ledgerKeys], problems);
  const seen = seenBy(head, trust, problems);
  const anchored = seen.length > 0;
  return judge({
    kind: "proof",
    origin: head.origin,
    size: head.size,
    root: head.root.toString("base64"),
    required: trust.required,
    steps: {
      INTACT: {
        ok: problems.length === 0,
        detail: `entry is in the tree of ${head.size} (${new Date(time).toISOString()} by its own account)`,
      },
      SIGNED: signed,
      ...anchorSteps(seen, head.size),
    },
    problems,
    tail: { entries: anchored ? 0 : 1, seconds: 0 },
    closed: true,
    unsealed: 0,
    torn: 0,
    lost: 0,
    seenBy: seen.map(({ who, time: at, size }) => ({ who, time: at, size })),
  });
}
