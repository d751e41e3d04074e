// The log that is meant where a command names none.
import { existsSync } from "node:fs";
import path from "node:path";
import { parseCheckpoint } from "../checkpoint.ts";
import type { HostRecords } from "../cli.ts";
import { AuditError } from "../errors.ts";
import { readRegular } from "../files.ts";
import { layout } from "../layout.ts";
import { decodeRecord } from "../ledger.ts";
import { parseNote } from "../note.ts";
import { LogReader } from "../reader.ts";
import { tileWidth } from "../tiles.ts";
import { UsageError } from "./usage.ts";

/**
 * Directory of the session that was opened last, as the ledger has it: the times of directories change, and a
 * session that is missing must not make an older one pass for the last.
 *
 * @throws AuditError `ERR_NONO_AUDIT_CORRUPT` when that session is no longer there.
 */
export function lastRun({ ledger, sessions }: HostRecords): string {
  for (const { type, session } of backwards(ledger)) {
    if (type !== "session.open") continue;
    const dir = path.join(sessions, path.basename(session));
    if (existsSync(dir)) return dir;
    throw new AuditError(
      "ERR_NONO_AUDIT_CORRUPT",
      `the last run on record, ${session}, is missing: there is no ${dir}`,
      { value: session },
    );
  }
  throw new UsageError(`no run is on record in ${ledger}; name the directory of a log`);
}

/** Records of sessions, the latest first. */
function* backwards(ledger: string): Generator<{ type: string; session: string }> {
  const checkpoint = path.join(ledger, layout.checkpoint);
  if (!existsSync(checkpoint)) return;
  const { size } = parseCheckpoint(parseNote(readRegular(checkpoint)).text);
  const reader = new LogReader(ledger, size);
  for (let index = Math.ceil(size / tileWidth) - 1; index >= 0; index -= 1) {
    const bundle = reader.bundle(index);
    for (let at = bundle.length - 1; at >= 0; at -= 1) {
      const record = decodeRecord(bundle[at] as Buffer, index * tileWidth + at);
      if ("session" in record) yield record;
    }
  }
}
