// Each preset with the real tool. Agents talk to a local server in place of their model.
import { execFile, spawnSync } from "node:child_process";
import {
  accessSync,
  constants,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { startModelServer, type Turn } from "../../../examples/model-server/main.ts";
import { type Policy, Sandbox, support } from "../src/index.ts";
import { checkPolicy } from "../src/policy/parse.ts";
import { resolvePolicy } from "../src/policy/resolve.ts";
import { presets } from "../src/policy/presets/index.ts";
import { isSecondUser } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";
import { toolDirectory } from "./support/tools.ts";

useOwnState();

const main = path.resolve(import.meta.dirname, "../dist/cli/main.js");
const tiers = support()
  .tiers.filter(({ available }) => available)
  .map(({ name }) => name);

let workspace: string;
beforeEach(() => {
  workspace = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-preset-")));
});
afterEach(() => rmSync(workspace, { recursive: true, force: true }));

interface Outcome {
  readonly status: number | string | null | undefined;
  readonly stdout: string;
  readonly stderr: string;
}

async function nono(args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<Outcome> {
  return new Promise((resolve) => {
    const options = { cwd: workspace, env: { ...process.env, ...env }, timeout: 240_000 };
    const child = execFile(process.execPath, [main, ...args], options, (error, stdout, stderr) => {
      resolve({ status: error?.code ?? 0, stdout, stderr });
    });
    child.stdin?.end();
  });
}

function file(name: string, text: string): void {
  writeFileSync(path.join(workspace, name), text);
}

function has(program: string): boolean {
  if (spawnSync("sh", ["-c", `command -v ${program}`]).status === 0) return true;
  console.log(`SKIPPED: the preset of ${program}: ${program} is not installed`);
  return false;
}

describe.for(tiers)("in the tier %s", (tier) => {
  const run = (preset: string, ...argv: string[]): Promise<Outcome> =>
    nono(["run", "--tier", tier, "-p", preset, "--allow-write", ".", "--", ...argv]);

  test.runIf(has("node"))("node runs a program, and npm a script", async () => {
    file("main.js", 'console.log(require("node:os").tmpdir().includes("nono-scratch"))');
    file("package.json", '{ "scripts": { "hello": "echo from a script" } }');
    expect((await run("node", "node", "main.js")).stdout).toBe("true\n");
    expect((await run("node", "npm", "run", "hello")).stdout).toContain("from a script");
  });

  test.runIf(has("python3"))("python runs a program with its library, and pip", async () => {
    file("main.py", "import json, ssl, sqlite3; print(json.dumps([1]))");
    expect((await run("python", "python3", "main.py")).stdout).toBe("[1]\n");
    const pip = await run("python", "python3", "-m", "pip", "--version");
    // Debian has a Python without pip.
    if (!pip.stderr.includes("No module named pip")) expect(pip.stdout).toMatch(/^pip \d/);
  });

  test.runIf(has("git"))("git makes a repository and a commit", async () => {
    const who = ["-c", "user.name=a", "-c", "user.email=a@example.test"];
    expect((await run("git", "git", "init", "--quiet")).status).toBe(0);
    file("file", "text\n");
    expect((await run("git", "git", "add", "file")).status).toBe(0);
    const commit = await run("git", "git", ...who, "commit", "--quiet", "--message=First");
    expect(commit).toMatchObject({ status: 0 });
    expect((await run("git", "git", "log", "--format=%s")).stdout).toBe("First\n");
  });

  test.runIf(has("sh"))("shell runs a pipe", async () => {
    const script = "printf 'b\\na\\n' | sort | head -n 1";
    expect((await run("shell", "sh", "-c", script)).stdout).toBe("a\n");
  });
});

test.runIf(has("cargo"))(
  "rust builds, runs and tests",
  async () => {
    spawnSync("cargo", ["init", "--quiet", "--vcs=none", "--name=hello"], { cwd: workspace });
    const inSandbox = ["run", "-p", "rust", "--allow-write", ".", "--", "cargo"];
    expect((await nono([...inSandbox, "run", "-q", "--offline"])).stdout).toBe("Hello, world!\n");
    expect(await nono([...inSandbox, "test", "-q", "--offline"])).toMatchObject({ status: 0 });
  },
  120_000,
);

test.runIf(!isSecondUser && has("go"))(
  "go builds, runs and tests",
  async () => {
    file("go.mod", "module hello\n\ngo 1.22\n");
    file("main.go", 'package main\n\nfunc main() { println("hello") }\n');
    file("main_test.go", 'package main\n\nimport "testing"\n\nfunc TestNothing(*testing.T) {}\n');
    // One sandbox for both, so that the standard library is compiled once.
    await using sandbox = new Sandbox({ observe: "all" })
      .use("go", { workspace })
      .allowWrite(workspace);
    const inWorkspace = { cwd: workspace };
    const { stderr, violations } = await sandbox.run(["go", "run", "."], inWorkspace);
    expect(stderr).toBe("hello\n");
    // Go's runtime sizes itself by the limits of its control group.
    expect(JSON.stringify(violations)).not.toContain('"/sys/');
    expect((await sandbox.run(["go", "test"], inWorkspace)).stdout).toContain("PASS");
  },
  240_000,
);

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
  if (tiers.length === 0 || !canRun(path.join(directory, program))) {
    console.log(`SKIPPED: the preset ${agent.preset} with its agent: it can't be run here`);
    skip();
  }
  await using server = await startModelServer(agent.turns);
  const host = `127.0.0.1:${server.port}`;
  for (const [name, text] of Object.entries(agent.files?.(host) ?? {})) file(name, text);
  const scheme = agent.variable.startsWith("ANTHROPIC") ? { header: "x-api-key" } : "bearer";
  const policy: Policy = {
    extends: agent.preset,
    network: { allow: [host] },
    credentials: [
      { name: agent.variable, proxyTo: `http://${host}`, scheme, from: { env: "THE_REAL_KEY" } },
    ],
    env: { set: { ...agent.env?.(host) } },
  };
  const policyFile = path.join(workspace, "nono.json");
  file("nono.json", JSON.stringify(policy));
  const env = {
    PATH: `${directory}:${process.env["PATH"]}`,
    THE_REAL_KEY: "sk-the-real-one",
    // The user's own shell has nothing to say inside.
    SHELL: "/usr/bin/zsh",
  };
  const tier = agent.tier === undefined ? [] : ["--tier", agent.tier];
  const run = ["run", ...tier, "-p", policyFile, "--", ...agent.argv(host)];
  const outcome = await nono(run, env);

  expect(outcome.status, outcome.stderr).toBe(0);
  expect(outcome.stderr, "what is refused is not its own").not.toMatch(/^nono:.*\/nono-scratch-/m);
  expect(readFileSync(path.join(workspace, "made.txt"), "utf8")).toBe("made\n");
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

test("aider in an environment whose Python is not there is no reason to fail", () => {
  const program = path.join(workspace, "bin", "aider");
  mkdirSync(path.dirname(program));
  writeFileSync(program, "#!/bin/sh\n", { mode: 0o755 });
  const env = { ...process.env, PATH: `${path.dirname(program)}:${process.env["PATH"]}` };
  const checked = spawnSync(process.execPath, [main, "policy", "check", "aider"], { env });
  expect(String(checked.stderr)).toBe("");
});

test("a program of Node that asks how much memory there is is refused nothing", async () => {
  await using sandbox = new Sandbox({ audit: false }).use("node");
  const script = "console.log(process.constrainedMemory(), process.availableMemory())";
  const { exitCode, violations } = await sandbox.run(["node", "-e", script]);
  expect({ exitCode, violations }).toEqual({ exitCode: 0, violations: [] });
});

test.for(Object.keys(presets))("the preset %s resolves here to what is of the schema", (name) => {
  const resolved = resolvePolicy(name, { workspace });
  expect(checkPolicy(resolved, name)).toEqual(resolved);
  expect(JSON.stringify(resolved)).not.toMatch(/\$(WORKSPACE|HOME|PATH)|\?"/);
});
