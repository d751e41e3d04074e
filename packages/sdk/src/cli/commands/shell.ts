import process from "node:process";
import type { Sandbox, SandboxSettings } from "../../sandbox.ts";
import type { Command } from "../command.ts";
import { tellRefusals } from "../refusals.ts";
import { runFlags, runInSandbox } from "../run-in-sandbox.ts";
import { programPath, sandboxFlags, sandboxFrom, workspaceOf } from "../sandbox-flags.ts";

/** `nono shell`. */
export const shell: Command = {
  name: "shell",
  summary: "open a shell in a sandbox, to see what an agent would see",
  operands: "[SHELL]",
  complete: "program",
  about: `The shell is $SHELL, or sh. The current directory may be read; the preset
"shell" says which programs there are. What was refused in it is told when it
ends.`,
  flags: [...sandboxFlags, ...runFlags],
  run(values, [name]) {
    const program = programPath(name ?? process.env["SHELL"] ?? "sh");
    const workspace = workspaceOf(values);
    const makeSandbox = (settings: SandboxSettings): Sandbox =>
      sandboxFrom(values, program, settings)
        .use("shell", { workspace })
        .setEnv({ SHELL: program })
        .allowRead(workspace);
    // Its exit status is that of what was typed last: it says nothing about the shell.
    return runInSandbox(makeSandbox, [program], values, tellRefusals);
  },
};
