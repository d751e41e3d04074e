import process from "node:process";
import type { ForeignCommand } from "../command.ts";
import { ownFailure } from "../exit-status.ts";
import { withProgress } from "../progress.ts";

/** `nono diff`. */
export const diff: ForeignCommand = fromRollback("diff", "show what a run has changed");
/** `nono rollback`. */
export const rollback: ForeignCommand = fromRollback(
  "rollback",
  "bring back what was before a run",
);
/** `nono commit`. */
export const commit: ForeignCommand = fromRollback("commit", "keep what a run has changed");
/** `nono checkpoint`. */
export const checkpoint: ForeignCommand = fromRollback(
  "checkpoint",
  "keep the state of a directory, without a run",
);
/** `nono checkpoints`. */
export const checkpoints: ForeignCommand = fromRollback(
  "checkpoints",
  "list the states that are kept",
  false,
);
/** `nono recover`. */
export const recover: ForeignCommand = fromRollback(
  "recover",
  "finish what a crash has interrupted",
  false,
);

/** One of the commands of `@nono/rollback`. */
function fromRollback(name: string, summary: string, takesPaths = true): ForeignCommand {
  return {
    name,
    summary,
    ...(takesPaths && { complete: "path" }),
    async runRaw(args) {
      const { runRollbackCommand } = await import("@nono/rollback/cli");
      const work = runRollbackCommand([name, ...args], process);
      const status = await withProgress(`${name} is under way`, work);
      return status === 0 ? 0 : ownFailure;
    },
  };
}
