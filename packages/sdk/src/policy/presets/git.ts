import { execFileSync } from "node:child_process";
import type { Preset } from "./preset.ts";

/** Git, its own programs, and the user's configuration; not the stored credentials. */
export const git: Preset = {
  summary: "git, with the user's configuration but not the stored credentials",
  policy: (host) => {
    const program = host.program("git");
    const own =
      program === undefined
        ? "/usr/lib/git-core?"
        : execFileSync(program, ["--exec-path"], { encoding: "utf8", timeout: 10_000 }).trim();
    return {
      extends: "scratch",
      // Hooks, aliases and `git rebase -i` run by sh.
      exec: ["git", own, "sh"],
      read: [own, "$HOME/.gitconfig?", "$HOME/.config/git/config?", "$HOME/.config/git/ignore?"],
      env: {
        allow: ["GIT_AUTHOR_*", "GIT_COMMITTER_*"],
        set: { GIT_PAGER: "cat", GIT_TERMINAL_PROMPT: "0" },
      },
    };
  },
};
