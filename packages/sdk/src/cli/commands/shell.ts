import path from "node:path";
import process from "node:process";
import type { Sandbox, SandboxSettings } from "../../sandbox.ts";
import type { Policy } from "../../policy/policy.ts";
import type { Command } from "../command.ts";
import { tellRefusals } from "../refusals.ts";
import { runFlags, runInSandbox } from "../run-in-sandbox.ts";
import { programPath, sandboxFlags, sandboxFrom, workspaceOf } from "../sandbox-flags.ts";

/** What a shell reads and writes when a person types into it; its history is not kept. */
function forTyping(program: string): Policy {
  // fish complains at every prompt where it can't write.
  const isFish = path.basename(program) === "fish";
  const ownPlaces = isFish ? { XDG_CONFIG_HOME: "$SCRATCH", XDG_DATA_HOME: "$SCRATCH" } : {};
  return {
    extends: "shell",
    read: ["/etc/zsh?", "/etc/fish?"],
    env: { set: { HISTFILE: "", ...ownPlaces } },
  };
}

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
        .use(forTyping(program), { workspace })
        .setEnv({ SHELL: program })
        .allowRead(workspace);
    // Its exit status is that of what was typed last: it says nothing about the shell.
    return runInSandbox(makeSandbox, [program], values, tellRefusals);
  },
};
