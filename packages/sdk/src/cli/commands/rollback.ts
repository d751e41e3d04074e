import process from "node:process";
import type { ForeignCommand } from "../command.ts";
import { ownFailure } from "../exit-status.ts";
import { withProgress } from "../progress.ts";

const summaries = {
  diff: "show what a run has changed",
  rollback: "bring back what was before a run",
  commit: "keep what a run has changed",
  checkpoint: "keep the state of a directory, without a run",
  checkpoints: "list the states that are kept",
  recover: "finish what a crash has interrupted",
};

/** `nono diff`, `nono rollback` …: the commands of `@nono/rollback`. */
export const rollbackCommands: readonly ForeignCommand[] = Object.entries(summaries).map(
  ([name, summary]) => ({
    name,
    summary,
    async runRaw(args) {
      const { runRollbackCommand } = await import("@nono/rollback/cli");
      const work = runRollbackCommand([name, ...args], process);
      const status = await withProgress(`${name} is under way`, work);
      return status === 0 ? 0 : ownFailure;
    },
  }),
);
