import type { Guarantee, RunResult } from "@nono/core";
import type { Change } from "@nono/rollback";
import type { AuditRecord } from "./audit.ts";
import type { PolicyViolation } from "./violation.ts";

/**
 * What became of a command, with what it left.
 *
 * @example
 * ```ts
 * const result = await sandbox.run(["npm", "test"]);
 * for (const { operation, rule } of result.violations) console.log(operation, rule);
 * for await (const { kind, path } of result.changes()) console.log(kind, path);
 * ```
 */
export interface SandboxResult<T extends string | Buffer = string> extends Omit<
  RunResult<T>,
  "violations"
> {
  /** What was refused to it and its children; at the gate: to the sandbox while it ran. */
  readonly violations: readonly PolicyViolation[];
  /** Each promise of the sandbox, and how far it holds on this machine. */
  readonly guarantees: readonly Guarantee[];
  /** Whether `onViolation: "rollback"` has brought the directories back. */
  readonly rolledBack: boolean;
  /** Where the run is on record; undefined with `audit: false`. */
  readonly audit: AuditRecord | undefined;
  /** What differs from before the first command, with `enableRollback`. */
  changes(): AsyncIterable<Change>;
}
