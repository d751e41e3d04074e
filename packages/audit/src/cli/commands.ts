// The audit commands, one function each.
import { existsSync } from "node:fs";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { parseCheckpoint } from "../checkpoint.ts";
import type { AuditIo } from "../cli.ts";
import { decodeEntry, type Entry } from "../entry.ts";
import { toCloudEvent, toOcsf, toOtlpLogs } from "../export.ts";
import { AuditError } from "../errors.ts";
import { eraseDisclosures } from "../erase.ts";
import { listDirectory } from "../files.ts";
import { layout } from "../layout.ts";
import { readLedger } from "../ledger.ts";
import { takeLock } from "../lock.ts";
import { parseNote } from "../note.ts";
import type { LogReader } from "../reader.ts";
import { printable } from "../printable.ts";
import { exitCode, formatReport } from "../report.ts";
import { formatProof } from "../tlog-proof.ts";
import { unsealedEntries } from "../unsealed.ts";
import { verifyLog } from "../verify.ts";
import type { VerifyPolicy } from "../verify-trust.ts";
import { anchor } from "./anchor.ts";
import { logOf, openReader } from "./open.ts";
import { print, printOptions } from "./print.ts";
import {
  type Arguments,
  ledgerOf,
  ledgerOptions,
  readArguments,
  trustOf,
  trustOptions,
  UsageError,
  wholeNumber,
} from "./usage.ts";

/** A command: arguments in, exit code out. */
export type Command = (args: readonly string[], io: AuditIo) => Promise<number>;

const verify: Command = async (argv, io) => {
  const args = readArguments(argv, 1, ["json", ...trustOptions], 1);
  const trust = await trustOf(args);
  const report = await verifyLog(logOf(args.positionals[0], io), trust);
  io.stdout(args.flag("json") ? jsonLine(report) : formatReport(report));
  const code = exitCode(report);
  const trustsNobody = trust.keys?.length === 0 && trust.ledgerKeys?.length === 0;
  const vkey = code === 2 && trustsNobody ? await io.records?.vkey?.() : undefined;
  if (vkey !== undefined) io.stderr(`this host's ledger signs as --ledger-key ${vkey}\n`);
  return code;
};

const show: Command = async (argv, io) => {
  const args = readArguments(argv, 1, ["json", "from", "to", "type", "decision", "reveal"], 1);
  const dir = logOf(args.positionals[0], io);
  const options = printOptions(args);
  const { reader } = openReader(dir);
  const to = args.number("to") ?? Infinity;
  for (const { seq, entry } of entriesOf(reader, args.number("from") ?? 0)) {
    if (seq >= to) break;
    io.stdout(print(reader, entry, seq, options));
  }
  return 0;
};

/** The entries from `from` on: under the checkpoint, and in the journal beyond it. */
function* entriesOf(reader: LogReader, from: number): Generator<{ seq: number; entry: Buffer }> {
  yield* reader.entries(from);
  yield* unsealedEntries(reader.dir, Math.max(from, reader.size));
}

const tail: Command = async (argv, io) => {
  const allowed = ["json", "follow", "lines", "type", "decision", "reveal"] as const;
  const args = readArguments(argv, 1, allowed, 1);
  const dir = logOf(args.positionals[0], io);
  const options = printOptions(args);
  const lines = args.number("lines") ?? 10;
  const { reader: first } = openReader(dir);
  const size = first.size + [...unsealedEntries(dir, first.size)].length;
  let seen = Math.max(0, size - lines);
  for (;;) {
    const { reader } = openReader(dir);
    for (const { seq, entry } of entriesOf(reader, seen)) {
      io.stdout(print(reader, entry, seq, options));
      seen = seq + 1;
    }
    if (!args.flag("follow") || io.signal?.aborted) return 0;
    await sleep(200, undefined, { signal: io.signal }).catch(() => undefined);
  }
};

const prove: Command = async (argv, io) => {
  const args = readArguments(argv, 2, ["json"], 1);
  const text = args.positionals.at(-1) ?? "";
  const { reader, note } = openReader(logOf(args.positionals.at(-2), io));
  const index = wholeNumber(text);
  const proof = formatProof({
    index,
    extra: reader.entry(index),
    hashes: reader.inclusionProof(index),
    checkpoint: note,
  });
  io.stdout(args.flag("json") ? `${JSON.stringify({ seq: index, proof })}\n` : proof);
  return 0;
};

const redact: Command = async (argv, io) => {
  const args = readArguments(argv, 2, ["json", "field", ...ledgerOptions]);
  const [dir = "", text = ""] = args.positionals;
  const seq = wholeNumber(text);
  const ledger = ledgerOf(args);
  const { reader, note } = openReader(dir);
  const { origin: session } = parseCheckpoint(parseNote(note).text);
  reader.entry(seq);
  // A writer would bring back what it still holds of the same file; it has `erase` for this.
  const lock = takeLock(path.join(dir, layout.lock));
  try {
    const fields = await eraseDisclosures(dir, seq, args.text("field"));
    if (fields > 0) await ledger.append([{ type: "entry.erased", session, entry: seq, fields }]);
    io.stdout(
      args.flag("json")
        ? `${JSON.stringify({ seq, fields })}\n`
        : `erased ${fields} values of entry ${seq}; its proofs stay valid\n`,
    );
  } finally {
    lock.release();
  }
  return 0;
};

const doctor: Command = async (argv, io) => {
  const args = readArguments(argv, 1, ["json", "sessions", ...trustOptions], 1);
  const [named] = args.positionals;
  const dir = named ?? io.records?.ledger;
  if (dir === undefined) throw new UsageError("name the directory of a ledger");
  const root = args.text("sessions") ?? (named === undefined ? io.records?.sessions : undefined);
  if (named === undefined && !existsSync(dir)) {
    refuseLostLedger(dir, root);
    io.stdout(
      args.flag("json") ? `${JSON.stringify({ sessions: [] })}\n` : "no run is on record\n",
    );
    return 0;
  }
  openReader(dir);
  const vkey = named === undefined ? await io.records?.vkey?.() : undefined;
  const report = await verifyLog(dir, await doctorsTrust(args, vkey));
  const sessions = new Map<
    string,
    { session: string; closed: boolean; size: number; present?: boolean }
  >();
  for (const record of readLedger(dir)) {
    if (!("session" in record)) continue;
    const known = sessions.get(record.session) ?? {
      session: record.session,
      closed: false,
      size: 0,
    };
    if ("size" in record) known.size = record.size;
    if (record.type === "session.close") known.closed = true;
    sessions.set(record.session, known);
  }
  for (const known of sessions.values()) {
    if (root === undefined) continue;
    known.present = existsSync(path.join(root, path.basename(known.session), layout.checkpoint));
  }
  const list = [...sessions.values()];
  if (args.flag("json")) {
    io.stdout(jsonLine({ ledger: report, ...(vkey && { vkey }), sessions: list }));
  } else {
    io.stdout(formatReport(report));
    if (vkey) io.stdout(`  key of the ledger, to be kept elsewhere: ${vkey}\n`);
    for (const { session, closed, size, present } of list) {
      const notes = [
        closed ? `${size} entries` : "not closed",
        ...(present === false ? ["MISSING on disk"] : []),
      ];
      io.stdout(`  ${printable(session)}: ${notes.join(", ")}\n`);
    }
  }
  return list.some(({ present }) => present === false) ? 1 : exitCode(report);
};

/** @throws AuditError `ERR_NONO_AUDIT_CORRUPT` when there are sessions without a ledger: each begins in it. */
function refuseLostLedger(ledger: string, sessions: string | undefined): void {
  const kept = sessions === undefined ? [] : listDirectory(sessions, ".");
  if (kept.length === 0) return;
  const message = `the ledger is missing: there is no ${ledger}, and ${kept.length} sessions are in ${sessions}`;
  throw new AuditError("ERR_NONO_AUDIT_CORRUPT", message, { value: ledger });
}

/**
 * Whom a look at one's own records trusts where nobody is named: the host's own key, if it is known. Whether
 * others can believe the ledger is for `verify` to say.
 */
async function doctorsTrust(args: Arguments, vkey: string | undefined): Promise<VerifyPolicy> {
  const trust = await trustOf(args);
  if (trustOptions.some((name) => args.text(name) !== undefined)) return trust;
  return vkey === undefined
    ? { ...trust, require: "INTACT" }
    : { ...trust, ledgerKeys: [vkey], require: "SIGNED" };
}

/** What JSON leaves as it is and a terminal obeys (C1 controls, bidirectional formats) is escaped: the same JSON. */
function jsonLine(value: unknown): string {
  return `${printable(JSON.stringify(value))}\n`;
}

const formats: ReadonlyMap<string, (entry: Entry, origin: string) => unknown> = new Map<
  string,
  (entry: Entry, origin: string) => unknown
>([
  ["jsonl", (entry) => entry],
  ["ocsf", toOcsf],
  ["cloudevents", toCloudEvent],
  ["otlp", (entry, origin) => toOtlpLogs([entry], origin)],
]);

const exportEntries: Command = async (argv, io) => {
  const args = readArguments(argv, 1, ["json", "format", "from", "to"], 1);
  const dir = logOf(args.positionals[0], io);
  const format = formats.get(args.text("format") ?? "jsonl");
  if (!format) throw new UsageError(`--format is one of ${[...formats.keys()].join(", ")}`);
  const { reader, note } = openReader(dir);
  const { origin } = parseCheckpoint(parseNote(note).text);
  for (const { seq, entry } of reader.entries(args.number("from"), args.number("to"))) {
    io.stdout(jsonLine(format(decodeEntry(entry, seq), origin)));
  }
  return 0;
};

/** The commands by name. */
export const commands: ReadonlyMap<string, Command> = new Map([
  ["verify", verify],
  ["show", show],
  ["tail", tail],
  ["prove", prove],
  ["redact", redact],
  ["anchor", anchor],
  ["export", exportEntries],
  ["doctor", doctor],
]);
