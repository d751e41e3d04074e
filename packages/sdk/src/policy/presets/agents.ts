// Coding agents. Each works in $WORKSPACE, keeps its own files in $SCRATCH, reaches its model's API and
// nothing else, and uses a key from the keychain that it never has. Its settings at home are not
// readable: they may hold tokens, and are programs for the next run outside.
import type { Policy } from "../policy.ts";
import type { Host } from "../host.ts";
import { realpathSync } from "node:fs";
import path from "node:path";
import { installationOf } from "./installation.ts";
import type { Preset } from "./preset.ts";
import { environmentParts } from "./python.ts";

const openAi = { name: "OPENAI_API_KEY", proxyTo: "api.openai.com" };
const anthropic = {
  name: "ANTHROPIC_API_KEY",
  proxyTo: "api.anthropic.com",
  scheme: { header: "x-api-key" },
};

/** What all of them need: a workspace, a shell, git. */
const work: Policy = { write: ["$WORKSPACE"], rollback: true };
const tools = ["shell", "git"];

/** Anthropic's Claude Code. */
export const claudeCode: Preset = {
  summary: "Claude Code: $WORKSPACE, a shell, git, api.anthropic.com",
  policy: (host) => ({
    ...work,
    extends: ["node", ...tools],
    exec: ["claude?", "rg?"],
    read: packageOf(host, "claude"),
    network: { allow: ["api.anthropic.com"] },
    credentials: [anthropic],
    env: {
      set: {
        CLAUDE_CONFIG_DIR: "$SCRATCH/claude",
        CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC: "1",
        DISABLE_AUTOUPDATER: "1",
      },
    },
  }),
};

/** OpenAI's Codex. Its own sandbox has no room in this one: run it with that switched off. */
export const codex: Preset = {
  summary: "Codex: $WORKSPACE, a shell, git, api.openai.com",
  policy: (host) => ({
    ...work,
    extends: ["node", ...tools],
    exec: ["codex?", ...packageOf(host, "codex"), "rg?"],
    read: packageOf(host, "codex"),
    network: { allow: ["api.openai.com"] },
    credentials: [openAi],
    env: { set: { CODEX_HOME: "$SCRATCH" } },
  }),
};

/** opencode, with whichever of the two APIs its configuration names. */
export const opencode: Preset = {
  summary: "opencode: $WORKSPACE, a shell, git, api.anthropic.com, api.openai.com",
  policy: (host) => ({
    ...work,
    extends: ["node", ...tools],
    exec: ["opencode?", ...packageOf(host, "opencode"), "rg?"],
    read: packageOf(host, "opencode"),
    network: { allow: ["api.anthropic.com", "api.openai.com", "models.dev"] },
    credentials: [anthropic, openAi],
    env: {
      set: {
        XDG_CONFIG_HOME: "$SCRATCH/config",
        XDG_DATA_HOME: "$SCRATCH/data",
        XDG_STATE_HOME: "$SCRATCH/state",
        OPENCODE_DISABLE_AUTOUPDATE: "1",
      },
    },
  }),
};

/** aider, with whichever of the two APIs its model needs. */
export const aider: Preset = {
  summary: "aider: $WORKSPACE, git, Python, api.anthropic.com, api.openai.com",
  policy: (host) => ({
    ...work,
    extends: ["python", ...tools],
    exec: ["aider?"],
    read: environmentOf(host, "aider"),
    network: { allow: ["api.anthropic.com", "api.openai.com"] },
    credentials: [anthropic, openAi],
    env: {
      set: { AIDER_ANALYTICS: "false", AIDER_CHECK_UPDATE: "false", AIDER_GITIGNORE: "false" },
    },
  }),
};

/** The virtual environment that a program belongs to, and the Python that the environment is made of. */
function environmentOf(host: Host, program: string): string[] {
  const file = host.program(program);
  if (file === undefined) return [];
  const environment = path.dirname(path.dirname(file));
  const interpreter = realPath(path.join(environment, "bin", "python3"));
  if (interpreter === undefined) return [];
  return [...environmentParts(environment), ...installationOf(host, interpreter)];
}

/** Undefined: it is not there, or not for this user. */
function realPath(name: string): string | undefined {
  try {
    return realpathSync(name);
  } catch {
    return undefined;
  }
}

/**
 * The npm package that a program belongs to, with its platform's own package beside it. What is none is
 * one file, and that may be executed anyway.
 */
function packageOf(host: Host, program: string): string[] {
  const file = host.program(program) ?? "";
  const modules = file.indexOf("/node_modules/");
  return modules < 0 ? [] : [file.slice(0, modules + "/node_modules".length)];
}
