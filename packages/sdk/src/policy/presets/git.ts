import { readFileSync } from "node:fs";
import path from "node:path";
import type { Host } from "../host.ts";
import { holdsSecrets, withoutSecrets } from "./git-secrets.ts";
import { developerTools, installationOf } from "./installation.ts";
import type { Preset } from "./preset.ts";

/** Git, its own programs, and the user's configuration; not the stored credentials. */
export const git: Preset = {
  summary: "git, with the user's configuration but not the stored credentials",
  policy: (host) => {
    const program = host.program("git");
    const said = host.askPath("git", ["--exec-path"]);
    const own = said && !host.isTooWide(said) ? said : "/usr/lib/git-core?";
    const { files, env } = configuration(host);
    return {
      extends: "scratch",
      // Hooks, aliases and `git rebase -i` run by sh.
      exec: ["git", own, "sh", ...developerTools],
      read: [
        own,
        ...(program === undefined ? [] : installationOf(host, program)),
        ...developerTools,
        ...repositoryOf(host.workspace),
        ...files.map((file) => `${file}?`),
      ],
      env: {
        allow: ["GIT_AUTHOR_*", "GIT_COMMITTER_*", "GIT_CONFIG_GLOBAL", "XDG_CONFIG_HOME"],
        set: { GIT_PAGER: "cat", GIT_TERMINAL_PROMPT: "0", ...env },
      },
    };
  },
};

interface Configuration {
  /** What may be read. */
  readonly files: readonly string[];
  /** What stands in for files that may not be. */
  readonly env: Readonly<Record<string, string>>;
}

/** The files of the user's configuration (git-config(1), "FILES"), and those that they name. */
function configuration(host: Host): Configuration {
  const own = path.join(host.named("XDG_CONFIG_HOME") ?? path.join(host.home, ".config"), "git");
  const global = host.named("GIT_CONFIG_GLOBAL");
  const files =
    global && !host.isTooWide(global)
      ? [global]
      : [path.join(own, "config"), path.join(host.home, ".gitconfig")];
  const named = files.flatMap((file) => namedIn(host, file, 0));
  const lists = [path.join(own, "ignore"), path.join(own, "attributes")];
  const settings = [...files, ...named].filter((file) => holdsSecrets(host, file));
  if (settings.length === 0) return { files: [...files, ...lists, ...named], env: {} };
  const others = named.filter((file) => !settings.includes(file));
  return { files: [...lists, ...others], env: withoutSecrets(host, files) };
}

/**
 * The repository of a linked worktree (gitrepository-layout(5)), to be read: who may change it is for others
 * to say. The file that names it may be what commands have made of it, so the repository has to name it too.
 */
function repositoryOf(workspace: string): string[] {
  try {
    const link = path.join(workspace, ".git");
    const directory = /^gitdir: (.+\/worktrees\/[^/]+)$/.exec(firstLine(link))?.[1];
    if (directory === undefined || firstLine(path.join(directory, "gitdir")) !== link) return [];
    return [path.resolve(directory, firstLine(path.join(directory, "commondir")))];
  } catch {
    return []; // no worktree, or no file
  }
}

function firstLine(file: string): string {
  return readFileSync(file, "utf8").split("\n")[0] ?? "";
}

/** Git's own bound of nested inclusion (config.c, MAX_INCLUDE_DEPTH). */
const deepest = 10;
const keys = String.raw`^(include(if\..*)?\.path|core\.(excludesfile|attributesfile)|commit\.template)$`;

/** What a file includes, whatever the condition, and other files that it names. Without them git may end. */
function namedIn(host: Host, file: string, depth: number): string[] {
  if (depth > deepest || !mentionsFiles(file)) return [];
  const args = ["config", "--file", file, "--null", "--type=path", "--get-regexp", keys];
  const entries = host.ask("git", args)?.split("\0") ?? [];
  return entries.flatMap((entry) => {
    const at = entry.indexOf("\n");
    if (at < 0) return [];
    const named = path.resolve(path.dirname(file), entry.slice(at + 1));
    if (host.isTooWide(named)) return [];
    return [named, ...(entry.startsWith("include") ? namedIn(host, named, depth + 1) : [])];
  });
}

/** So that git is asked only about files that say something of the kind. */
function mentionsFiles(file: string): boolean {
  try {
    return /\[\s*include|excludesfile|attributesfile|template/i.test(readFileSync(file, "utf8"));
  } catch {
    return false;
  }
}
