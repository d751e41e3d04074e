import process from "node:process";
import type { Sandbox, SandboxSettings } from "../../sandbox.ts";
import type { Command } from "../command.ts";
import { runFlags, runInSandbox } from "../run-in-sandbox.ts";
import { programPath, sandboxFlags, sandboxFrom, workspaceOf } from "../sandbox-flags.ts";

/** `nono shell`. */
export const shell: Command = {
  name: "shell",
  summary: "open a shell in a sandbox, to see what an agent would see",
  operands: "[SHELL]",
  complete: "program",
  about: `The shell is $SHELL, or sh. The current directory may be read; the preset
"shell" says which programs there are.`,
  flags: [...sandboxFlags, ...runFlags],
  run(values, [name]) {
    const program = programPath(name ?? process.env["SHELL"] ?? "sh");
    const workspace = workspaceOf(values);
    const makeSandbox = (settings: SandboxSettings): Sandbox =>
      sandboxFrom(values, program, settings)
        .use("shell", { workspace })
        .setEnv({ SHELL: program })
        .allowRead(workspace);
    return runInSandbox(makeSandbox, [program], values);
  },
};
