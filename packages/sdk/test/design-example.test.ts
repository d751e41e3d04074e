// The example of the README, as printed, but for where /workspace is: with a keychain that has the token,
// and with api.github.com answered by a server in a network namespace of the test's own.
import { execFileSync, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { expect, test } from "vitest";
import { has } from "./support/nono.ts";

const isRoot = process.getuid?.() === 0;
const tools = [
  "dbus-run-session",
  "gnome-keyring-daemon",
  "unshare",
  "openssl",
  "ip",
  "/usr/bin/python3",
  "/usr/bin/git",
];
const missing = tools.filter((tool) => !has(tool, "the README's example"));
if (!isRoot)
  console.log(
    "SKIPPED: the README's example as printed: a network namespace with port 443 needs root",
  );

const agent = (script: string): string => `
import os, pathlib, subprocess, urllib.request
token = os.environ["GITHUB_TOKEN"]
request = urllib.request.Request("https://api.github.com/user", headers={"Authorization": "Bearer " + token})
print(urllib.request.urlopen(request, timeout=200).read().decode().replace(token, "STAND-IN"))
pathlib.Path("output/result").write_text("made by " + subprocess.run(["/usr/bin/git", "--version"], capture_output=True, text=True).stdout)
${script}
`;

test.runIf(isRoot && missing.length === 0).for([
  ["keeps what an agent made that stayed within its policy", "", true],
  ["undoes what an agent made that did not", "open('/etc/nono-test', 'w')", false],
] as const)("the README's example %s", ([, script, isKept]) => {
  const directory = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-design-")));
  try {
    const workspace = path.join(directory, "workspace");
    mkdirSync(path.join(workspace, "output"), { recursive: true });
    writeFileSync(path.join(workspace, "agent.py"), agent(script));
    execFileSync("git", ["init", "--quiet", workspace]);
    const readme = readFileSync(path.resolve(import.meta.dirname, "../../../README.md"), "utf8");
    const printed = /^```ts\n(.*?)^```/ms.exec(readme)?.[1] ?? "";
    expect(printed).toContain("if (result.violatedPolicy) await sandbox.rollback();");
    const example = `${printed.replaceAll("/workspace", workspace)}\nconsole.log(result.stdout + result.stderr);\n`;
    mkdirSync(path.join(directory, "node_modules/@nono"), { recursive: true });
    symlinkSync(
      path.resolve(import.meta.dirname, ".."),
      path.join(directory, "node_modules/@nono/sdk"),
    );
    writeFileSync(path.join(directory, "example.mts"), example);

    const token = "ghp_the_real_token_of_the_readme";
    const inSession = `echo password | gnome-keyring-daemon --unlock --components=secrets >&2
      printf ${token} | ${process.execPath} ${path.resolve(import.meta.dirname, "../bin/nono.js")} keychain set GITHUB_TOKEN >&2
      exec ${process.execPath} ${path.join(directory, "example.mts")}`;
    const server = path.join(import.meta.dirname, "support/github.ts");
    const argv = [
      "--mount",
      "--net",
      process.execPath,
      server,
      directory,
      "dbus-run-session",
      "--",
      "sh",
      "-c",
      inSession,
    ];
    const env = {
      ...process.env,
      HOME: directory,
      XDG_DATA_HOME: directory,
      XDG_STATE_HOME: path.join(directory, "state"),
    };
    const { status, stdout, stderr } = spawnSync("unshare", argv, {
      env,
      encoding: "utf8",
      timeout: 240_000,
    });
    expect(status, stdout + stderr).toBe(0);
    const seen = path.join(directory, "seen");
    expect(existsSync(seen) && readFileSync(seen, "utf8"), stdout + stderr).toBe(
      `Bearer ${token}\n`,
    );
    expect(stdout).toContain("hello Bearer ");
    expect(stdout).not.toContain(token);
    expect(existsSync(path.join(workspace, "output/result"))).toBe(isKept);
    if (isKept)
      expect(readFileSync(path.join(workspace, "output/result"), "utf8")).toContain("git version");
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
