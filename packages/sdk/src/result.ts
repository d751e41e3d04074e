import type { RunResult } from "@nono/core";
import type { Change } from "@nono/rollback";
import type { AuditRecord } from "./audit.ts";

/** What became of a command, with what it left. */
export interface SandboxResult<T extends string | Buffer = string> extends RunResult<T> {
  /** Where the run is on record; undefined with `audit: false`. */
  readonly audit: AuditRecord | undefined;
  /** What differs from before the first command, with `enableRollback`. */
  changes(): AsyncIterable<Change>;
}
