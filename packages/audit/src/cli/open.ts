// The log a command is about.
import { existsSync } from "node:fs";
import path from "node:path";
import { parseCheckpoint } from "../checkpoint.ts";
import type { AuditIo } from "../cli.ts";
import { readRegular } from "../files.ts";
import { layout } from "../layout.ts";
import { parseNote } from "../note.ts";
import { LogReader } from "../reader.ts";
import { lastRun } from "./last-run.ts";
import { UsageError } from "./usage.ts";

/** The directory that was named, or that of the last run. */
export function logOf(named: string | undefined, { records }: AuditIo): string {
  if (named !== undefined) return named;
  if (records) return lastRun(records);
  throw new UsageError("name the directory of a log");
}

/** The log as its last checkpoint shows it. */
export function openReader(dir: string): { reader: LogReader; note: string } {
  const file = path.join(dir, layout.checkpoint);
  if (!existsSync(file)) throw new UsageError(`${dir} is not a log: it has no checkpoint`);
  const note = readRegular(file).toString("utf8");
  return { reader: new LogReader(dir, parseCheckpoint(parseNote(note).text).size), note };
}
