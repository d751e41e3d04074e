import { ArgumentError } from "@nono/core";
import type { Sandbox, SandboxSettings } from "../../sandbox.ts";
import type { Command } from "../command.ts";
import { explainFailure } from "../refusals.ts";
import { runFlags, runInSandbox } from "../run-in-sandbox.ts";
import { programPath, sandboxFlags, sandboxFrom } from "../sandbox-flags.ts";

/** `nono run`. */
export const run: Command = {
  name: "run",
  summary: "run a command with exactly the capabilities that the flags declare",
  operands: "[--] PROGRAM [ARGUMENT...]",
  complete: "program",
  about: `Relative paths are taken from the current directory. Stdin, stdout and stderr
are the command's own, or a terminal of its own; signals to nono go to it.`,
  flags: [...sandboxFlags, ...runFlags],
  runsProgram: true,
  run(values, [name, ...args]) {
    if (name === undefined) {
      throw new ArgumentError("ERR_NONO_INVALID_ARGV", "There is no command to run", {
        remedy: "Put it last, as in: nono run --allow-read . -- ls",
      });
    }
    const program = programPath(name);
    const makeSandbox = (settings: SandboxSettings): Sandbox =>
      sandboxFrom(values, program, settings);
    return runInSandbox(makeSandbox, [program, ...args], values, explainFailure);
  },
};
