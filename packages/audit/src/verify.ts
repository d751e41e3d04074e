// Verification: pure, offline, of a directory or of a single proof.
import { existsSync, readdirSync, statSync, readFileSync } from "node:fs";
import path from "node:path";
import { parseCheckpoint, sameHead, type TreeHead } from "./checkpoint.ts";
import { decodeEntry } from "./entry.ts";
import { AuditError } from "./errors.ts";
import { listSegments, readSegment } from "./journal.ts";
import { headPath, layout } from "./layout.ts";
import {
  noteVerifier,
  parseNote,
  verifySignatures,
  type GoodSignature,
  type NoteVerifier,
  type SignedNote,
} from "./note.ts";
import { parsePolicy, quorumMet, type TrustPolicy } from "./policy.ts";
import { parseDisclosure, disclosureDigest } from "./redact.ts";
import { LogReader } from "./reader.ts";
import { judge, type Report, type Rung, type Step } from "./report.ts";
import { tileWidth } from "./tiles.ts";
import { checkProof, parseProof } from "./tlog-proof.ts";
import { problemOf, readOptional, verifyTree, type Problem } from "./verify-tree.ts";

/** Whom to trust, and how much is enough. */
export interface VerifyPolicy {
  /** Verifier keys (C2SP vkeys) that sign the log's checkpoints. */
  readonly keys?: readonly string[];
  /** A C2SP tlog-policy: witnesses and quorum (and more log keys), as text or parsed. */
  readonly witnesses?: string | TrustPolicy;
  /** The rung that must be reached; default SIGNED. */
  readonly require?: Rung;
}

/** A head that someone outside has seen. */
interface Seen {
  readonly who: string;
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly size: number;
  readonly quorum: boolean;
}

/**
 * Verifies a log directory or a `.tlog-proof` file. Needs no network and writes nothing.
 *
 * @throws AuditError `ERR_NONO_AUDIT_INPUT` when `target` is neither; `ERR_NONO_AUDIT_FORMAT` for a bad policy.
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
  return verifyProof(readFileSync(target, "utf8"), trust);
}

interface Trust {
  readonly keys: readonly NoteVerifier[];
  readonly witnesses: TrustPolicy | undefined;
  readonly required: Rung;
}

function readTrust(policy: VerifyPolicy): Trust {
  const witnesses =
    typeof policy.witnesses === "string" ? parsePolicy(policy.witnesses) : policy.witnesses;
  return {
    keys: [...(policy.keys ?? []).map(noteVerifier), ...(witnesses?.logs ?? [])],
    witnesses,
    required: policy.require ?? "SIGNED",
  };
}

function verifyDirectory(dir: string, trust: Trust): Report {
  const problems: Problem[] = [];
  const head = readHead(dir, problems);
  if (!head) return nothing(dir, problems, trust);
  const archived = readArchive(dir, head, problems);
  const facts = { times: new Map<number, number>(), closed: false, lost: 0, last: 0 };
  const heads = Map.groupBy([head, ...archived], ({ size }) => size);
  const { problems: found } = verifyTree(dir, head.size, {
    heads,
    onEntry(bytes, seq) {
      const entry = decodeEntry(bytes, seq);
      facts.last = entry.time;
      facts.closed = entry.type === "log.close";
      if (entry.type === "log.gap") facts.lost += Number(entry.object.lost);
      if (heads.has(seq + 1)) facts.times.set(seq + 1, entry.time);
    },
  });
  problems.push(...found);
  const unsealed = checkJournal(dir, head, problems);
  checkDisclosures(dir, head.size, unsealed, problems);
  const signed = checkSigned(head, trust, problems);
  for (const { file, ...earlier } of archived) {
    if (checkSigned({ file, ...earlier }, trust, problems).ok || !signed.ok) continue;
    const message = "is signed by none of the keys that sign the log";
    problems.push({ code: "ERR_NONO_AUDIT_SIGNATURE", file, message });
  }
  const seen = [head, ...archived].flatMap((one) => seenBy(one, trust, problems));
  const anchored = Math.max(0, ...seen.map(({ size }) => size));
  const anchoredTime = facts.times.get(anchored);
  return judge({
    kind: "log",
    origin: head.origin,
    size: head.size,
    root: head.root.toString("base64"),
    required: trust.required,
    steps: {
      INTACT: intact(problems, head.size),
      SIGNED: signed,
      ...anchorSteps(seen, head.size),
    },
    problems,
    tail: {
      entries: head.size + unsealed - anchored,
      seconds:
        anchoredTime === undefined
          ? secondsSinceFirst(new LogReader(dir, head.size), facts.last)
          : Math.round((facts.last - anchoredTime) / 1000),
    },
    closed: facts.closed,
    unsealed,
    lost: facts.lost,
    seenBy: seen.map(({ who, time, size }) => ({ who, time, size })),
  });
}

/** Seconds from the first entry to the last one, when nothing is anchored. */
function secondsSinceFirst(reader: LogReader, last: number): number {
  try {
    return Math.max(0, Math.round((last - decodeEntry(reader.entry(0), 0).time) / 1000));
  } catch {
    return 0;
  }
}

function intact(problems: readonly Problem[], size: number): Step {
  if (problems.length > 0) return { ok: false, detail: `${problems.length} contradictions` };
  return { ok: true, detail: `root recomputed from ${size} entries` };
}

type SignedHead = TreeHead & { readonly file: string; readonly note: SignedNote };

function readHead(dir: string, problems: Problem[]): SignedHead | undefined {
  const file = layout.checkpoint;
  try {
    const bytes = readOptional(dir, file);
    if (!bytes)
      throw new AuditError(
        "ERR_NONO_AUDIT_CORRUPT",
        "there is no checkpoint: nothing was ever signed",
      );
    const note = parseNote(bytes);
    const head = parseCheckpoint(note.text);
    const last = readOptional(dir, layout.head);
    if (last) compareLastHead(parseCheckpoint(last.toString("utf8")), head);
    return { ...head, file, note };
  } catch (error) {
    problems.push(problemOf(error, { file }));
    return undefined;
  }
}

/** `.nono/head` may be ahead of the checkpoint (a crash before publication), never behind it or beside it. */
function compareLastHead(last: TreeHead, published: TreeHead): void {
  const ahead = last.origin === published.origin && last.size > published.size;
  if (ahead || sameHead(last, published)) return;
  throw new AuditError(
    "ERR_NONO_AUDIT_FORK",
    `${layout.head} names size ${last.size} of ${last.origin}: not the head that was published`,
  );
}

/** Earlier checkpoints that were kept. */
function readArchive(dir: string, head: TreeHead, problems: Problem[]): SignedHead[] {
  return listDirectory(dir, layout.heads).flatMap((name) => {
    const file = headPath(Number(name));
    try {
      const note = parseNote(readFileSync(path.join(dir, layout.heads, name)));
      const archived = parseCheckpoint(note.text);
      if (archived.origin !== head.origin || String(archived.size) !== name) {
        throw new AuditError("ERR_NONO_AUDIT_CORRUPT", "is not the head that its name says");
      }
      if (archived.size > head.size) {
        throw new AuditError(
          "ERR_NONO_AUDIT_FORK",
          `a head of ${archived.size} entries was signed, but only ${head.size} are here`,
        );
      }
      return [{ ...archived, file, note }];
    } catch (error) {
      problems.push(problemOf(error, { file }));
      return [];
    }
  });
}

function checkSigned(head: SignedHead, trust: Trust, problems: Problem[]): Step {
  const { keys } = trust;
  try {
    const good = verifySignatures(head.note, keys);
    if (good.length > 0)
      return {
        ok: true,
        detail: `by ${good.map(({ verifier }) => keyLabel(verifier)).join(", ")}`,
      };
  } catch (error) {
    problems.push(problemOf(error, { file: head.file }));
  }
  const detail = keys.length === 0 ? "no trusted key was given" : "by none of the trusted keys";
  return { ok: false, detail };
}

function keyLabel({ name, keyId }: NoteVerifier): string {
  return `${name}+${keyId.toString(16).padStart(8, "0")}`;
}

/** Who outside has seen this head: cosignatures of the policy's witnesses. */
function seenBy(head: SignedHead, trust: Trust, problems: Problem[]): Seen[] {
  const { witnesses } = trust;
  if (!witnesses) return [];
  const verifiers = [...witnesses.witnesses.values()].map(({ verifier }) => verifier);
  let good: GoodSignature[];
  try {
    good = verifySignatures(head.note, verifiers);
  } catch (error) {
    problems.push(problemOf(error, { file: head.file }));
    return [];
  }
  const names = new Set(
    [...witnesses.witnesses]
      .filter(([, { verifier }]) => good.some((one) => one.verifier === verifier))
      .map(([name]) => name),
  );
  const quorum = names.size > 0 && quorumMet(witnesses, names);
  return good.map(({ verifier, timestamp = 0 }) => ({
    who: keyLabel(verifier),
    time: timestamp * 1000,
    size: head.size,
    quorum,
  }));
}

/** TIMED and WITNESSED hold for as much of the log as was seen; the tail says how much was not. */
function anchorSteps(seen: readonly Seen[], size: number): Record<"TIMED" | "WITNESSED", Step> {
  const timed = seen
    .filter(({ time }) => time > 0)
    .toSorted((a, b) => b.size - a.size || a.time - b.time)[0];
  const witnessed = seen.filter(({ quorum }) => quorum).toSorted((a, b) => b.size - a.size)[0];
  return {
    TIMED: timed
      ? {
          ok: true,
          detail: `${timed.size} of ${size} entries not later than ${new Date(timed.time).toISOString()} (${timed.who})`,
        }
      : { ok: false, detail: "no trusted time" },
    WITNESSED: witnessed
      ? { ok: true, detail: `${witnessed.size} of ${size} entries by the quorum of the policy` }
      : { ok: false, detail: "no quorum of witnesses" },
  };
}

/** Every disclosure must belong to its entry; erased ones are simply not there. */
function checkDisclosures(dir: string, size: number, unsealed: number, problems: Problem[]): void {
  const reader = new LogReader(dir, size);
  for (const name of listDirectory(dir, layout.disclosures)) {
    const file = path.posix.join(layout.disclosures, name);
    const lines = (readOptional(dir, file) ?? "").toString("latin1").split("\n");
    if (lines.pop() !== "" || !/^\d+$/.test(name)) problems.push(badDisclosure(file));
    for (const line of lines) {
      const [digits = "", disclosure = ""] = line.split(" ");
      const seq = /^\d+$/.test(digits) ? Number(digits) : -1;
      const inPlace = Math.floor(seq / tileWidth) === Number(name) && seq < size + unsealed;
      if (inPlace && disclosureMatches(reader, seq, disclosure)) continue;
      problems.push(badDisclosure(file, seq));
    }
  }
}

function disclosureMatches(reader: LogReader, seq: number, disclosure: string): boolean {
  // Written before the checkpoint that covers its entry: nothing to compare with yet.
  if (seq >= reader.size) return true;
  try {
    return (
      parseDisclosure(disclosure) !== undefined &&
      reader.entry(seq).includes(`"${disclosureDigest(disclosure)}"`)
    );
  } catch {
    return false;
  }
}

function badDisclosure(file: string, seq?: number): Problem {
  const message = "a disclosure does not match the digest in its entry";
  return {
    code: "ERR_NONO_AUDIT_CORRUPT",
    file,
    ...(seq !== undefined && seq >= 0 && { seq }),
    message,
  };
}

/** The journal may hold entries that no checkpoint covers yet; those it shares with the log must agree. */
function checkJournal(dir: string, head: TreeHead, problems: Problem[]): number {
  const segments = listDirectory(dir, layout.journal);
  if (segments.length === 0) return 0;
  const reader = new LogReader(dir, head.size);
  let unsealed = 0;
  for (const first of listSegments(path.join(dir, layout.journal))) {
    const file = path.posix.join(layout.journal, String(first));
    try {
      const { frames, end, bytes } = readSegment(path.join(dir, file));
      if (end < bytes)
        throw new AuditError(
          "ERR_NONO_AUDIT_CORRUPT",
          `ends with a torn frame of ${bytes - end} bytes; opening the log repairs and records it`,
        );
      let seq = first;
      for (const { kind, data } of frames) {
        if (kind === "disclosure") continue;
        if (seq >= head.size) unsealed += 1;
        else if (!reader.entry(seq).equals(data))
          throw new AuditError(
            "ERR_NONO_AUDIT_CORRUPT",
            `entry ${seq} differs from the one in the log`,
          );
        seq += 1;
      }
    } catch (error) {
      problems.push(problemOf(error, { file }));
    }
  }
  return unsealed;
}

function listDirectory(dir: string, name: string): string[] {
  return existsSync(path.join(dir, name)) ? readdirSync(path.join(dir, name)) : [];
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
    if (proof.extra) time = decodeEntry(proof.extra, proof.index).time;
    head = { ...proven, file: "checkpoint of the proof", note };
  } catch (error) {
    return { ...nothing("proof", [problemOf(error, {})], trust), kind: "proof" };
  }
  const signed = checkSigned(head, trust, problems);
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
    lost: 0,
    seenBy: seen.map(({ who, time: at, size }) => ({ who, time: at, size })),
  });
}
