// The presets, one tool a file. They grant what a tool needs to work in `$WORKSPACE`; who may write there
// is for the policy that extends them to say, except where the tool is an agent.
import { aider, claudeCode, codex, opencode } from "./agents.ts";
import { git } from "./git.ts";
import { go } from "./go.ts";
import { mcpServer } from "./mcp-server.ts";
import { node } from "./node.ts";
import type { Preset } from "./preset.ts";
import { python } from "./python.ts";
import { cratesIo, github, goProxy, npmRegistry, pypi } from "./registries.ts";
import { rust } from "./rust.ts";
import { scratch } from "./scratch.ts";
import { shell } from "./shell.ts";

/** By name. */
export const presets: Readonly<Record<string, Preset>> = {
  node,
  python,
  git,
  rust,
  go,
  shell,
  scratch,
  "npm-registry": npmRegistry,
  pypi,
  "crates-io": cratesIo,
  "go-proxy": goProxy,
  github,
  "claude-code": claudeCode,
  codex,
  opencode,
  aider,
  "mcp-server": mcpServer,
};
