// Presets of agents, which talk to a local server in place of their model.
import { accessSync, constants, readFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { expect, test } from "vitest";
import { startModelServer, type Turn } from "../../../examples/model-server/main.ts";
import { type Policy, support } from "../src/index.ts";
import { isSecondUser, nonoMeanwhile } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";
import { toolDirectory } from "./support/tools.ts";
import { useWorkspace } from "./support/workspace.ts";

useOwnState();
const workspace = useWorkspace();

/** How an agent is told to work once, without asking, with the model at `host`. */
interface Agent {
  readonly preset: string;
  readonly variable: string;
  readonly argv: (host: string) => readonly string[];
  readonly turns: readonly Turn[];
  /** Default: the strongest that works. */
  readonly tier?: "flat";
  readonly files?: (host: string) => Readonly<Record<string, string>>;
  readonly env?: (host: string) => Readonly<Record<string, string>>;
}

const command = "echo made > made.txt";
const end: Turn = { say: "It is made." };
const claude: Agent = {
  preset: "claude-code",
  variable: "ANTHROPIC_API_KEY",
  argv: () => ["claude", "--print", "Make a file", "--allowedTools", "Bash"],
  turns: [{ tool: "Bash", arguments: { command, description: "Make it" } }, end],
  env: (host) => ({ ANTHROPIC_BASE_URL: `http://${host}` }),
};
const agents: readonly Agent[] = [
  claude,
  { ...claude, tier: "flat" },
  {
    preset: "codex",
    variable: "OPENAI_API_KEY",
    argv: (host) => [
      "codex",
      "exec",
      "--skip-git-repo-check",
      "--dangerously-bypass-approvals-and-sandbox",
      "-c",
      'model_provider="local"',
      "-c",
      `model_providers.local={name="local",base_url="http://${host}/v1",env_key="OPENAI_API_KEY",wire_api="responses"}`,
      "Make a file",
    ],
    turns: [{ tool: "exec_command", arguments: { cmd: command } }, end],
  },
  {
    preset: "opencode",
    variable: "OPENAI_API_KEY",
    argv: () => ["opencode", "run", "Make a file"],
    turns: [{ tool: "bash", arguments: { command, description: "Make it" } }, end],
    files: (host) => {
      const options = { baseURL: `http://${host}/v1`, apiKey: "{env:OPENAI_API_KEY}" };
      const local = { npm: "@ai-sdk/openai-compatible", options, models: { model: {} } };
      const config = { model: "local/model", small_model: "local/model", provider: { local } };
      return { "opencode.json": JSON.stringify(config) };
    },
  },
  {
    preset: "aider",
    variable: "OPENAI_API_KEY",
    argv: (host) => [
      "aider",
      "--model",
      "openai/model",
      "--openai-api-base",
      `http://${host}/v1`,
      "--yes-always",
      "--no-git",
      "--map-tokens",
      "0",
      "--edit-format",
      "whole",
      "--no-show-model-warnings",
      "--message",
      "Make a file",
      "made.txt",
    ],
    turns: [{ say: "made.txt\n```\nmade\n```\n" }],
  },
];

test.for(agents)("$preset works, with a key that it never has ($tier)", async (agent, { skip }) => {
  const [program = ""] = agent.argv("");
  const directory = toolDirectory(program) ?? "";
  // The slow ones once: nothing of them depends on the user.
  if (isSecondUser && (program === "opencode" || program === "aider")) skip();
  if (
    !support().tiers.some(({ available }) => available) ||
    !canRun(path.join(directory, program))
  ) {
    console.log(`SKIPPED: the preset ${agent.preset} with its agent: it can't be run here`);
    skip();
  }
  await using server = await startModelServer(agent.turns);
  const host = `127.0.0.1:${server.port}`;
  for (const [name, text] of Object.entries(agent.files?.(host) ?? {})) workspace.file(name, text);
  const scheme = agent.variable.startsWith("ANTHROPIC") ? { header: "x-api-key" } : "bearer";
  const policy: Policy = {
    extends: agent.preset,
    network: { allow: [host] },
    credentials: [
      { name: agent.variable, proxyTo: `http://${host}`, scheme, from: { env: "THE_REAL_KEY" } },
    ],
    env: { set: { ...agent.env?.(host) } },
  };
  const policyFile = path.join(workspace.directory, "nono.json");
  workspace.file("nono.json", JSON.stringify(policy));
  const env = {
    PATH: `${directory}:${process.env["PATH"]}`,
    THE_REAL_KEY: "sk-the-real-one",
    // The user's own shell has nothing to say inside.
    SHELL: "/usr/bin/zsh",
  };
  const tier = agent.tier === undefined ? [] : ["--tier", agent.tier];
  const run = ["run", ...tier, "-p", policyFile, "--", ...agent.argv(host)];
  const outcome = await nonoMeanwhile(run, { cwd: workspace.directory, env });

  expect(outcome.status, outcome.stderr).toBe(0);
  expect(outcome.stderr, "what is refused is not its own").not.toMatch(/^nono:.*\/nono-scratch-/m);
  expect(readFileSync(path.join(workspace.directory, "made.txt"), "utf8")).toBe("made\n");
  expect(new Set(server.requests.map(({ credential }) => credential))).toEqual(
    new Set(["sk-the-real-one"]),
  );
  expect(JSON.stringify(server.requests.map(({ body }) => body))).not.toContain("sk-the-real-one");
});

/** Programs of virtual environments name their interpreter by a path that not every user can read. */
function canRun(program: string): boolean {
  try {
    const head = readFileSync(program).subarray(0, 256).toString("latin1");
    accessSync(/^#!(\S+)/.exec(head)?.[1] ?? program, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}
