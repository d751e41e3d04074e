// Presets of compilers: they execute what they have built.
import { spawnSync } from "node:child_process";
import { expect, test } from "vitest";
import { Sandbox } from "../src/index.ts";
import { has, isSecondUser, nono, type Outcome } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";
import { useWorkspace } from "./support/workspace.ts";

useOwnState();
const workspace = useWorkspace();

test.runIf(has("cargo", "the preset of cargo"))(
  "rust builds, runs and tests",
  () => {
    const inWorkspace = { cwd: workspace.directory };
    spawnSync("cargo", ["init", "--quiet", "--vcs=none", "--name=hello"], inWorkspace);
    const cargo = (...args: string[]): Outcome =>
      nono(["run", "-p", "rust", "--allow-write", ".", "--", "cargo", ...args], inWorkspace);
    expect(cargo("run", "-q", "--offline").stdout).toBe("Hello, world!\n");
    expect(cargo("test", "-q", "--offline")).toMatchObject({ status: 0 });
  },
  120_000,
);

test.runIf(!isSecondUser && has("go", "the preset of go"))(
  "go builds, runs and tests",
  async () => {
    workspace.file("go.mod", "module hello\n\ngo 1.22\n");
    workspace.file("main.go", 'package main\n\nfunc main() { println("hello") }\n');
    workspace.file(
      "main_test.go",
      'package main\n\nimport "testing"\n\nfunc TestNothing(*testing.T) {}\n',
    );
    // One sandbox for both, so that the standard library is compiled once.
    await using sandbox = new Sandbox({ observe: "all" })
      .use("go", { workspace: workspace.directory })
      .allowWrite(workspace.directory);
    const inWorkspace = { cwd: workspace.directory };
    // Nor optimized, which takes a third of the time.
    const quickly = "-gcflags=all=-N -l";
    const { stderr, violations } = await sandbox.run(["go", "run", quickly, "."], inWorkspace);
    expect(stderr).toBe("hello\n");
    // Go's runtime sizes itself by the limits of its control group.
    expect(JSON.stringify(violations)).not.toContain('"/sys/');
    expect((await sandbox.run(["go", "test", quickly], inWorkspace)).stdout).toContain("PASS");
  },
  240_000,
);
