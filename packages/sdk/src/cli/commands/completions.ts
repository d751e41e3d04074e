import { ArgumentError } from "@nono/core";
import type { Command } from "../command.ts";
import { bash, fish, zsh } from "../completion-scripts.ts";
import { printText } from "../output.ts";
import { allCommands } from "./index.ts";

const scripts: Readonly<Record<string, () => Promise<string>>> = {
  bash: async () => bash(await allCommands()),
  zsh: async () => zsh(await allCommands()),
  fish: async () => fish(await allCommands()),
};

/** `nono completions`. */
export const completions: Command = {
  name: "completions",
  summary: "print the completions for a shell",
  operands: "bash | zsh | fish",
  complete: Object.keys(scripts),
  about: `bash  source <(nono completions bash)             in ~/.bashrc
zsh   source <(nono completions zsh)              in ~/.zshrc, after compinit
fish  nono completions fish | source              in ~/.config/fish/config.fish`,
  flags: [],
  async run(_, [name = ""]) {
    const script = Object.hasOwn(scripts, name) ? scripts[name] : undefined;
    if (script === undefined) {
      throw new ArgumentError(
        "ERR_NONO_INVALID_ARGV",
        name === "" ? "nono completions needs a shell" : `There are no completions for ${name}`,
        {
          value: name,
          remedy: `Name one of ${Object.keys(scripts).join(", ")}.`,
        },
      );
    }
    printText((await script()).trimEnd());
    return 0;
  },
};
