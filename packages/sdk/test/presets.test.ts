// Each preset with the real tool; compilers and agents have files of their own.
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { describe, expect, test } from "vitest";
import { Sandbox, support } from "../src/index.ts";
import { checkPolicy } from "../src/policy/parse.ts";
import { presets } from "../src/policy/presets/index.ts";
import { resolvePolicy } from "../src/policy/resolve.ts";
import { has, main, nono, type Outcome } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";
import { useWorkspace } from "./support/workspace.ts";

useOwnState();
const workspace = useWorkspace();

const tiers = support()
  .tiers.filter(({ available }) => available)
  .map(({ name }) => name);

describe.for(tiers)("in the tier %s", (tier) => {
  const run = (preset: string, ...argv: string[]): Outcome =>
    nono(["run", "--tier", tier, "-p", preset, "--allow-write", ".", "--", ...argv], {
      cwd: workspace.directory,
    });

  test.runIf(has("node", "the preset of node"))("node runs a program, and npm a script", () => {
    workspace.file("main.js", 'console.log(require("node:os").tmpdir().includes("nono-scratch"))');
    workspace.file("package.json", '{ "scripts": { "hello": "echo from a script" } }');
    expect(run("node", "node", "main.js").stdout).toBe("true\n");
    expect(run("node", "npm", "run", "hello").stdout).toContain("from a script");
  });

  test.runIf(has("python3", "the preset of python3"))(
    "python runs a program with its library, and pip",
    () => {
      workspace.file("main.py", "import json, ssl, sqlite3; print(json.dumps([1]))");
      expect(run("python", "python3", "main.py").stdout).toBe("[1]\n");
      const pip = run("python", "python3", "-m", "pip", "--version");
      // Debian has a Python without pip.
      if (!pip.stderr.includes("No module named pip")) expect(pip.stdout).toMatch(/^pip \d/);
    },
  );

  test.runIf(has("git", "the preset of git"))("git makes a repository and a commit", () => {
    const who = ["-c", "user.name=a", "-c", "user.email=a@example.test"];
    expect(run("git", "git", "init", "--quiet").status).toBe(0);
    workspace.file("file", "text\n");
    expect(run("git", "git", "add", "file").status).toBe(0);
    const commit = run("git", "git", ...who, "commit", "--quiet", "--message=First");
    expect(commit).toMatchObject({ status: 0 });
    expect(run("git", "git", "log", "--format=%s").stdout).toBe("First\n");
  });

  test.runIf(has("sh", "the preset of sh"))("shell runs a pipe", () => {
    const script = "printf 'b\\na\\n' | sort | head -n 1";
    expect(run("shell", "sh", "-c", script).stdout).toBe("a\n");
  });
});

test("aider in an environment whose Python is not there is no reason to fail", () => {
  const program = path.join(workspace.directory, "bin", "aider");
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
  const resolved = resolvePolicy(name, { workspace: workspace.directory });
  expect(checkPolicy(resolved, name)).toEqual(resolved);
  expect(JSON.stringify(resolved)).not.toMatch(/\$(WORKSPACE|HOME|PATH)|\?"/);
});
