// What is denied below a directory stays so, whatever the directory is called.
import { mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Sandbox } from "../src/index.ts";
import { nono } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";

useOwnState();

/** Not below /tmp: the tier namespaces has another one. */
let directory: string;
beforeEach(() => {
  directory = realpathSync(mkdtempSync("/var/tmp/nono-deny-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

/** Names whose characters mean something in a pattern. */
const names = ["app[1]", "app{a,b}", "app*", "app?", String.raw`app\d`, "plain"];

/** A workspace of that name, with a secret in it and in a directory of it. */
function workspaceCalled(name: string): string {
  const workspace = path.join(directory, name);
  for (const at of [workspace, path.join(workspace, "inner")]) {
    mkdirSync(at);
    writeFileSync(path.join(at, ".env"), "secret\n");
    writeFileSync(path.join(at, "other"), "other\n");
  }
  symlinkSync("inner", path.join(workspace, "link"));
  return workspace;
}

const files = [".env", "inner/.env", "other", "inner/other"];

test.for(names)("in a workspace called %s", async (name) => {
  const cwd = workspaceCalled(name);
  for (const deny of [
    [".env", "inner/.env"],
    ["$WORKSPACE/.env", "$WORKSPACE/*/.env"],
    ["./.env", "link/.env"],
  ]) {
    const policy = { read: ["$WORKSPACE"], exec: ["cat"], deny };
    await using sandbox = new Sandbox({ audit: false }).use(policy, { workspace: cwd });
    const { exitCode, stdout } = await sandbox.run(["cat", ...files], { cwd });
    expect({ exitCode, stdout }, deny.join()).toEqual({ exitCode: 1, stdout: "other\nother\n" });
  }
  const flags = ["--no-audit", "--allow-read", ".", "--deny", ".env", "--deny", "./inner/*nv"];
  const { status, stdout } = nono(["run", ...flags, "--", "cat", ...files], { cwd });
  expect({ status, stdout }).toEqual({ status: 1, stdout: "other\nother\n" });
});

test("in a home called app[1], secrets are secrets to learning all at once", () => {
  const home = path.join(directory, "app[1]");
  const cwd = path.join(directory, "work");
  for (const made of [home, cwd]) mkdirSync(made);
  writeFileSync(path.join(home, ".netrc"), "password\n");
  const argv = ["learn", "--permissive", "--output", "--", "sh", "-c", "cat ~/.netrc; true"];
  const { stdout, stderr } = nono(argv, { cwd, env: { HOME: home } });
  expect(stdout + stderr).not.toContain("password");
  expect(stderr).toContain("/.netrc: it is, or holds, a secret");
});
