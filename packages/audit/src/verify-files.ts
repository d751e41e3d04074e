// The parts of a log directory beside the tree: checkpoint, archived heads, journal, disclosures.
import { existsSync } from "node:fs";
import path from "node:path";
import { parseCheckpoint, sameHead, type TreeHead } from "./checkpoint.ts";
import { AuditError, errnoOf } from "./errors.ts";
import { listDirectory, readOptional, readRegular } from "./files.ts";
import { listSegments, readSegment } from "./journal.ts";
import { headPath, layout } from "./layout.ts";
import { parseNote, type SignedNote } from "./note.ts";
import { LogReader } from "./reader.ts";
import { parseDisclosure, disclosureDigest } from "./redact.ts";
import { tileWidth, type TileTree } from "./tiles.ts";
import { journalEnd } from "./unsealed.ts";
import { problemOf, readOrReport, type Problem } from "./verify-tree.ts";

/** A head, the note that signs it, and where it was found. */
export type SignedHead = TreeHead & { readonly file: string; readonly note: SignedNote };

/** The published head, and the one that a crash kept from being published. */
export type PublishedHead = SignedHead & { readonly next?: TreeHead };

/** The published head; undefined (with a problem) where it cannot be read. */
export function readHead(dir: string, problems: Problem[]): PublishedHead | undefined {
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
    const next = last && laterHead(parseCheckpoint(last.toString("utf8")), head);
    return { ...head, file, note, ...(next && { next }) };
  } catch (error) {
    problems.push(problemOf(error, { file }));
    return undefined;
  }
}

/** `.nono/head` may be ahead of the checkpoint (a crash before publication), never behind it or beside it. */
function laterHead(last: TreeHead, published: TreeHead): TreeHead | undefined {
  if (sameHead(last, published)) return undefined;
  if (last.origin === published.origin && last.size > published.size) return last;
  throw new AuditError(
    "ERR_NONO_AUDIT_FORK",
    `${layout.head} names size ${last.size} of ${last.origin}: not the head that was published`,
  );
}

/** Earlier checkpoints that were kept. */
export function readArchive(dir: string, head: PublishedHead, problems: Problem[]): SignedHead[] {
  return listDirectory(dir, layout.heads).flatMap((name) => {
    const file = headPath(Number(name));
    try {
      const note = parseNote(readRegular(path.join(dir, layout.heads, name)));
      const archived = parseCheckpoint(note.text);
      if (archived.origin !== head.origin || String(archived.size) !== name) {
        throw new AuditError("ERR_NONO_AUDIT_CORRUPT", "is not the head that its name says");
      }
      // A crash may have kept it from being published; that it follows from the journal is checked there.
      if (head.next && sameHead(archived, head.next)) return [];
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

/** Every disclosure must belong to its entry; erased ones are simply not there. */
export function checkDisclosures(dir: string, size: number, problems: Problem[]): void {
  const reader = new LogReader(dir, size);
  const report = (problem: Problem): void => void problems.push(problem);
  const beyond: { file: string; seq: number }[] = [];
  for (const name of listDirectory(dir, layout.disclosures)) {
    const file = path.posix.join(layout.disclosures, name);
    const lines = (readOrReport(dir, file, report) ?? "").toString("latin1").split("\n");
    if (lines.pop() !== "" || !/^\d+$/.test(name)) problems.push(badDisclosure(file));
    for (const line of lines) {
      const [digits = "", disclosure = ""] = line.split(" ");
      const seq = /^\d+$/.test(digits) ? Number(digits) : -1;
      const inPlace = Math.floor(seq / tileWidth) === Number(name);
      // Written before the checkpoint that covers its entry: nothing to compare with yet.
      if (inPlace && seq >= size) beyond.push({ file, seq });
      else if (!inPlace || !disclosureMatches(reader, seq, disclosure))
        problems.push(badDisclosure(file, seq));
    }
  }
  if (beyond.length === 0) return;
  const end = endNow(dir);
  for (const { file, seq } of beyond) if (seq >= end) problems.push(badDisclosure(file, seq));
}

/**
 * How many entries there are by now: a writer may have gone on since the checkpoint was read. An entry is in the
 * journal before its disclosures are written, and until a checkpoint covers it.
 */
function endNow(dir: string): number {
  let journal = 0;
  try {
    journal = journalEnd(dir);
  } catch (error) {
    // That the journal is damaged is reported where it is checked.
    if (!(error instanceof AuditError)) throw error;
  }
  return Math.max(journal, readHead(dir, [])?.size ?? 0);
}

function disclosureMatches(reader: LogReader, seq: number, disclosure: string): boolean {
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

/** What the journal holds beyond the checkpoint. */
export interface JournalFacts {
  /** Acknowledged entries that no checkpoint covers yet. */
  readonly unsealed: number;
  /** Bytes of a torn frame at the very end: a crash or a full disk, and never an acknowledged entry. */
  readonly torn: number;
}

/**
 * Counts what is not under the checkpoint yet; entries that are must be the same in both places. `tree` is that of
 * the checkpoint: with the journal's entries it must lead to a head that was not published.
 */
export function checkJournal(
  dir: string,
  head: PublishedHead,
  tree: TileTree,
  problems: Problem[],
): JournalFacts {
  const facts = { unsealed: 0, torn: 0 };
  const reader = new LogReader(dir, head.size);
  let next = head.next;
  let seq: number | undefined;
  /** Where the journal goes on behind entries that neither it nor the checkpoint has. */
  let gap: { file: string; first: number } | undefined;
  const segments = existsSync(path.join(dir, layout.journal))
    ? listSegments(path.join(dir, layout.journal))
    : [];
  for (const first of segments) {
    const file = path.posix.join(layout.journal, String(first));
    try {
      if (facts.torn > 0 || first < (seq ?? 0)) throw corrupt(`should start at entry ${seq}`);
      if (first > (seq ?? head.size)) gap = { file, first };
      const { frames, end, bytes } = readSegment(path.join(dir, file));
      seq = first;
      for (const { kind, data, digest } of frames) {
        if (kind === "disclosure") continue;
        if (seq >= head.size) {
          facts.unsealed += 1;
          tree.append(digest);
        } else if (!reader.entry(seq).equals(data))
          throw corrupt(`entry ${seq} differs from the one in the log`);
        seq += 1;
        if (gap || seq !== next?.size) continue;
        if (!tree.root().equals(next.root)) throw corrupt(`does not lead to ${layout.head}`);
        next = undefined;
      }
      facts.torn = bytes - end;
    } catch (error) {
      // Dropped since it was listed: what follows it shows whether a checkpoint covers it.
      if (errnoOf(error) !== "ENOENT") problems.push(problemOf(error, { file }));
    }
  }
  // Its writer drops what a later checkpoint covers.
  const covered = next || gap ? (readHead(dir, [])?.size ?? 0) : 0;
  if (gap && gap.first > covered) {
    const message = `starts at entry ${gap.first}, and what is before it is missing`;
    problems.push({ code: "ERR_NONO_AUDIT_CORRUPT", file: gap.file, message });
  }
  if (next && next.size > covered) {
    const message = `is of ${next.size} entries, but only ${head.size + facts.unsealed} are here`;
    problems.push({ code: "ERR_NONO_AUDIT_FORK", file: layout.head, message });
  }
  return facts;
}

function corrupt(message: string): AuditError {
  return new AuditError("ERR_NONO_AUDIT_CORRUPT", message);
}
