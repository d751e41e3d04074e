// Policies are learned from real programs, each in a home and a workspace of its own. Not below /tmp: the
// tier namespaces has another one.
import { execFileSync, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import process from "node:process";
import { listCheckpoints } from "@nono/rollback";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from "vitest";
import {
  formatPolicy,
  learn,
  type LearnedPolicy,
  type LearnOptions,
  Sandbox,
  support,
} from "../src/index.ts";
import { foldPaths } from "../src/learn/fold.ts";
import { Never } from "../src/learn/never.ts";
import { has, isSecondUser, main, nono } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";

useOwnState();

const tiers = support()
  .tiers.filter(({ available }) => available)
  .map(({ name }) => name as "namespaces" | "flat");
const environment = { HOME: process.env["HOME"], PATH: process.env["PATH"] };

let directory: string;
let home: string;
let workspace: string;
beforeEach(() => {
  directory = realpathSync(mkdtempSync("/var/tmp/nono-learn-"));
  [home, workspace] = [path.join(directory, "home"), path.join(directory, "work", "project")];
  for (const name of [home, workspace]) mkdirSync(name, { recursive: true });
  // Whoever runs the tests may have shims of version managers first in the path.
  Object.assign(process.env, { HOME: home, PATH: "/usr/local/bin:/usr/bin:/bin" });
});
afterEach(() => {
  Object.assign(process.env, environment);
  rmSync(directory, { recursive: true, force: true });
});

/** The programs of a virtual environment with pytest; the tests of one user are enough for it. */
let venv = "";
let hasPytest = false;
beforeAll(() => {
  if (isSecondUser) return;
  venv = realpathSync(mkdtempSync("/var/tmp/nono-learn-venv-"));
  try {
    execFileSync("/usr/bin/python3", ["-m", "venv", venv], { stdio: "pipe" });
    const flags = ["--quiet", "--disable-pip-version-check"];
    execFileSync(`${venv}/bin/pip`, ["install", ...flags, "pytest"], { stdio: "pipe" });
    hasPytest = true;
  } catch (error) {
    console.log(`SKIPPED: learning from pytest: pip can't install it: ${String(error)}`);
  }
}, 120_000);
afterAll(() => rmSync(venv, { recursive: true, force: true }));

/** Writes files below the test's directory. */
function files(contents: Readonly<Record<string, string>>): void {
  for (const [name, text] of Object.entries(contents)) {
    const file = path.join(directory, name);
    mkdirSync(path.dirname(file), { recursive: true });
    writeFileSync(file, text);
  }
}

/** Every entry of the test's directory, with what shows whether it is still the same. */
function state(): string[] {
  return readdirSync(directory, { recursive: true, encoding: "utf8" })
    .toSorted()
    .map((name) => {
      const { mode, mtimeMs, size } = lstatSync(path.join(directory, name));
      const isFile = (mode & 0o170_000) === 0o100_000;
      // Of a file that is written back by its contents, the time is kept to a microsecond.
      return `${name} ${mode} ${isFile ? `${size} ${Math.round(mtimeMs / 100)}` : ""}`;
    });
}

const options = (more: LearnOptions = {}): LearnOptions => ({
  workspace,
  audit: false,
  timeout: 240_000,
  ...more,
});

describe.for(tiers)("in the tier %s", (tier) => {
  /** Learns, sees that nothing has stayed, and runs the command once more under what was learned. */
  async function learnAndRun(
    argv: readonly string[],
    more: LearnOptions = {},
  ): Promise<LearnedPolicy> {
    const before = state();
    const { ino } = statSync(workspace);
    const learned = await learn(argv, options({ tier, ...more }));
    expect(state()).toEqual(before);
    expect(statSync(workspace).ino, "the shell's working directory").toBe(ino);
    await using sandbox = new Sandbox({ tier, audit: false, observe: "all" }).use(learned.policy, {
      workspace,
    });
    const result = await sandbox.run(argv, { cwd: workspace, timeout: 240_000 });
    expect(result, result.stderr).toMatchObject({ exitCode: 0 });
    expect(learned.exitCode).toBe(0);
    // A checkpoint that stays is what `nono rollback` would go back to.
    expect(await listCheckpoints()).toEqual([]);
    const refused = result.violations.filter(
      (violation) =>
        !("path" in violation) || !/^\/proc\/\d+\//.test(String(violation.path)) || tier !== "flat",
    );
    expect(refused).toEqual([]);
    return learned;
  }

  test("git commit", async () => {
    files({ "home/.gitconfig": "[user]\nname = a\nemail = a@b.test\n", "work/project/file": "1" });
    execFileSync("git", ["init", "--quiet"], { cwd: workspace });
    execFileSync("git", ["add", "."], { cwd: workspace });
    const { policy, complete, refused } = await learnAndRun(["git", "commit", "-m", "first"]);
    expect({ complete, refused }).toEqual({ complete: true, refused: [] });
    expect(policy.read).toEqual([path.join(home, ".gitconfig"), workspace]);
    expect(policy.write).toEqual([path.join(workspace, ".git")]);
    expect(policy.exec).toContain("git");
    const log = execFileSync("git", ["log", "--format=%s"], { cwd: workspace, encoding: "utf8" });
    expect(log, "under the policy it has been made").toBe("first\n");
  });

  test.skipIf(!has("gcc", "learning from make"))("make", async () => {
    files({
      "work/project/Makefile":
        "all: build/prog\n\t./build/prog > build/out\nbuild/prog: prog.c\n\tgcc -o $@ $<\n",
      "work/project/prog.c": "int main() { return 0; }\n",
      "work/project/build/.keep": "",
    });
    const { policy, complete } = await learnAndRun(["make"]);
    expect(complete).toBe(true);
    expect(policy.write).toEqual([path.join(workspace, "build")]);
    expect(policy.exec).toEqual(expect.arrayContaining(["make", "gcc", "sh", "as", "ld"]));
    expect(existsSync(path.join(workspace, "build", "out"))).toBe(true);
    rmSync(path.join(workspace, "build", "prog"));

    const atOnce = await learnAndRun(["make"], { permissive: true });
    expect(atOnce.complete).toBe(true);
    expect(atOnce.policy.write).toEqual(policy.write);
    expect(atOnce.policy.exec).toHaveLength(policy.exec?.length ?? 0);
    expect(atOnce.rounds).toBeLessThan(5);
  });

  test.skipIf(isSecondUser || !has("npm", "learning from npm"))(
    "npm install of a local package",
    async () => {
      files({
        "home/.npm/.keep": "",
        "work/project/package.json": '{ "name": "project", "version": "1.0.0" }',
        "work/lib/package.json": '{ "name": "lib", "version": "1.0.0", "main": "lib.js" }',
        "work/lib/lib.js": "exports.answer = 42;\n",
      });
      const argv = ["npm", "install", "--offline", "--no-audit", "--no-fund", "../lib"];
      const base = { env: { set: { npm_config_update_notifier: "false" } } };
      const permissive = tier === "flat";
      const { policy, refused } = await learnAndRun(argv, { base, permissive });
      // In the tier flat, /proc is the machine's, and a process's own part of it has another name each time.
      expect(refused.filter(({ why }) => why !== "volatile" || tier !== "flat")).toEqual([]);
      expect(policy.write).toContain(workspace);
      expect(policy.read).not.toContain(home);
      expect(existsSync(path.join(workspace, "node_modules", "lib", "lib.js"))).toBe(true);
    },
  );

  test.skipIf(isSecondUser)("pytest", async ({ skip }) => {
    if (!hasPytest) skip();
    files({ "work/project/test_it.py": "def test_it(tmp_path):\n    (tmp_path / 'x').touch()\n" });
    const permissive = tier === "flat";
    const argv = [path.join(venv, "bin/pytest"), "-q"];
    const { policy, complete, refused } = await learnAndRun(argv, { permissive });
    expect({ complete, refused }).toEqual({ complete: true, refused: [] });
    expect(policy.read).toEqual([venv]);
    expect(policy.write).toEqual([workspace]);
  });

  test("what is asked for and never granted is told", async () => {
    files({
      "home/.ssh/id_ed25519": "key",
      "home/.netrc": "password",
      "home/.config/gh/hosts.yml": "token",
      "home/keys/host.pem": "-----BEGIN PRIVATE KEY-----\n",
      "home/keys/ca.pem": "-----BEGIN CERTIFICATE-----\n",
      "home/app/one": "1",
      "home/app/two": "2",
      "home/app/three": "3",
    });
    const script = `cat ~/.ssh/id_ed25519 ~/.netrc ~/.config/gh/hosts.yml ~/keys/host.pem ~/keys/ca.pem;
      cat ~/app/one ~/app/two ~/app/three /etc/shadow; ls ~ ~/keys /etc; echo > ~/made; echo > .envrc;
      echo > /etc/nono-learn; true`;
    const before = state();
    const learned = await learn(["sh", "-c", script], options({ tier }));
    const atOnce = await learn(["sh", "-c", script], options({ tier, permissive: true }));
    expect(state()).toEqual(before);
    for (const { policy, refused, complete } of [learned, atOnce]) {
      expect(complete).toBe(false);
      const read = [path.join(home, "app"), path.join(home, "keys/ca.pem"), workspace];
      expect(policy.read).toEqual(expect.arrayContaining(read));
      expect(policy.read).toHaveLength(read.length);
      expect(policy.write ?? []).toEqual([]);
      const told = Object.fromEntries(refused.map(({ value, why }) => [value, why]));
      expect(told).toMatchObject({
        [path.join(home, ".ssh/id_ed25519")]: "secret",
        [path.join(home, ".netrc")]: "secret",
        [path.join(home, ".config/gh/hosts.yml")]: "secret",
        [path.join(home, "keys/host.pem")]: "secret",
        [path.join(home, "keys")]: "secret",
        [home]: "too-broad",
        [path.join(home, "made")]: "too-broad",
        "/etc": "too-broad",
        [path.join(workspace, ".envrc")]: "protected",
      });
    }
  });

  test("what is written outside the workspace is undone too", async () => {
    files({ "home/.cache/tool/state": "before", "home/.tool/log": "line\n" });
    const script =
      "echo after > ~/.cache/tool/state; rm -f ~/.cache/tool/new; echo > ~/.cache/tool/new;";
    const { policy, complete } = await learnAndRun(["sh", "-c", `${script} echo x >> ~/.tool/log`]);
    expect(complete).toBe(true);
    expect(policy.write).toEqual([path.join(home, ".cache/tool"), path.join(home, ".tool/log")]);
  });

  test("hosts are told, and reached only when that is asked for", async () => {
    const argv = ["curl", "-sS", "-m", "60", "https://host.test:8443/"];
    const { policy, refused } = await learn(argv, options({ tier }));
    expect(policy.network).toBeUndefined();
    expect(refused).toContainEqual(
      expect.objectContaining({ operation: "host", value: "host.test", why: "network" }),
    );
    const reached = await learn(argv, options({ tier, network: true, maxRounds: 5 }));
    expect(reached.policy.network?.allow).toContain("host.test:8443");
  });
});

test("a command that does not end by itself is ended", async () => {
  files({ "home/app/one": "1" });
  const argv = ["sh", "-c", "cat ~/app/one; exec sleep 60"];
  const learned = await learn(argv, options({ timeout: 5000, permissive: true }));
  expect(learned).toMatchObject({ exitCode: null, complete: true });
  expect(learned.policy.read).toContain(path.join(home, "app/one"));
  expect(learned.policy.exec).toContain("sleep");
});

test("a socket of the machine is learned, one that commands it is not", async () => {
  const [own, control] = [path.join(home, "own.sock"), path.join(home, "docker.sock")];
  const servers = [own, control].map((name) => createServer((peer) => peer.end()).listen(name));
  try {
    const script = `import socket
for name in ${JSON.stringify([own, control])}:
    try: socket.socket(socket.AF_UNIX).connect(name)
    except OSError: pass`;
    const { policy, refused } = await learn(["/usr/bin/python3", "-c", script], options());
    expect(policy.unixSockets).toEqual([own]);
    expect(refused).toEqual([expect.objectContaining({ value: control, why: "control" })]);
  } finally {
    for (const server of servers) server.close();
  }
});

test("a link to nothing is no obstacle to learning all at once", () => {
  files({ "home/.local/state/file": "" });
  symlinkSync("/nowhere", path.join(home, ".gone"));
  const env = { XDG_STATE_HOME: path.join(home, ".local/state") };
  const argv = ["learn", "--permissive", "--", "true"];
  const { status, stderr } = nono(argv, { cwd: workspace, env });
  expect(status, stderr).toBe(0);
});

test("what others make and delete meanwhile is no obstacle either", async () => {
  files({ "home/.local/state/file": "" });
  const churn = `cd ${home}; while :; do for n in 1 2 3 4 5 6 7 8; do : > .tmp$n; rm .tmp$n; done; done`;
  const other = spawn("sh", ["-c", churn], { stdio: "ignore" });
  vi.stubEnv("XDG_STATE_HOME", path.join(home, ".local/state"));
  try {
    expect((await learn(["true"], options({ permissive: true }))).exitCode).toBe(0);
  } finally {
    vi.unstubAllEnvs();
    other.kill("SIGKILL");
  }
});

/** Folds files below the test's directory, which it makes. */
function fold(names: readonly string[]): string[] {
  files(Object.fromEntries(names.map((name) => [name, "1"])));
  const paths = names.map((name) => path.join(directory, name));
  return foldPaths(paths, new Never(workspace)).map((name) => path.relative(directory, name));
}

test("a pipe that is called like a key is not waited for", () => {
  const pipe = path.join(directory, "host.pem");
  execFileSync("mkfifo", [pipe]);
  expect(new Never(directory).reading(pipe)).toBe("secret");
});

describe("many paths", () => {
  test.for([
    ["a package", ["lib/node_modules/x/package.json"], ["lib/node_modules/x"]],
    ["a package of a scope", ["lib/node_modules/@a/x/main.js"], ["lib/node_modules/@a/x"]],
    ["packages of Python", ["py/site-packages/x/main.py"], ["py/site-packages"]],
    ["an environment of Python", ["env/pyvenv.cfg", "env/a/b"], ["env"]],
    ["neighbours", ["data/a", "data/b", "data/c"], ["data"]],
    [
      "neighbours of neighbours",
      "123".split("").flatMap((at) => [`d/${at}/a`, `d/${at}/b`, `d/${at}/c`]),
      ["d"],
    ],
    [
      "files of a cache",
      "01234567".split("").map((at) => `home/.cache/tool/${at}/x`),
      ["home/.cache/tool"],
    ],
    ["two files", ["data/a", "data/b"], ["data/a", "data/b"]],
    [
      "what has a secret beside it",
      ["data/a", "data/b", "data/c", "data/x/server.key"],
      ["data/a", "data/b", "data/c", "data/x/server.key"],
    ],
    ["files at home", ["home/.a", "home/.b", "home/.c"], ["home/.a", "home/.b", "home/.c"]],
    [
      "tools at home",
      "abc".split("").map((at) => `home/.config/${at}/x`),
      "abc".split("").map((at) => `home/.config/${at}/x`),
    ],
    ["other projects", ["work/a", "work/b", "work/c"], ["work/a", "work/b", "work/c"]],
  ] as const)("%s", ([, paths, folded]) => {
    expect(fold(paths)).toEqual(folded);
  });
});

describe("written down", () => {
  const argv = ["sh", "-c", 'cat ~/app/one; mkdir -p out; echo done > "out/it\'s"'];
  beforeEach(() => files({ "home/app/one": "1\n" }));

  test("as TypeScript, it is a program", async () => {
    const { policy } = await learn(argv, options());
    const program = formatPolicy(policy, "typescript", workspace).replace(
      "@nono/sdk",
      path.resolve(import.meta.dirname, "../dist/index.js"),
    );
    const call = `await sandbox.run(${JSON.stringify(argv)}, { cwd: ${JSON.stringify(workspace)} })`;
    files({
      "program.mts": `${program}const { exitCode, violations } = ${call};\n
      console.log(JSON.stringify({ exitCode, violations }));\n`,
    });
    const { stdout, stderr } = spawnSync(process.execPath, ["program.mts"], {
      cwd: directory,
      encoding: "utf8",
    });
    expect(stdout, stderr).toBe('{"exitCode":0,"violations":[]}\n');
  });

  test("as a policy file, it holds in another place", async () => {
    const learned = nono(["learn", "--format", "json", "--", ...argv], { cwd: workspace });
    expect(learned.status, learned.stderr).toBe(0);
    expect(JSON.parse(learned.stdout)).toMatchObject({
      read: ["$HOME/app/one"],
      write: ["$WORKSPACE"],
    });
    files({ "policy.json": learned.stdout, "other/file": "", "away/app/one": "2\n" });
    const file = path.join(directory, "policy.json");
    expect(nono(["policy", "check", file], { cwd: workspace }).status).toBe(0);
    const [cwd, env] = [path.join(directory, "other"), { HOME: path.join(directory, "away") }];
    const { stdout, status } = nono(["run", "--policy", file, "--", ...argv], { cwd, env });
    expect({ stdout, status }).toEqual({ stdout: "2\n", status: 0 });
    expect(existsSync(path.join(directory, "other/out/it's"))).toBe(true);
  });

  test("a name that ends in ? is itself, and no mark of a policy", async () => {
    files({ "home/app/token": "password\n", "home/app/token?": "asked for\n" });
    const other = path.join(home, "app/token");
    const asked = `${other}?`;
    const { policy, complete } = await learn(["cat", asked], options());
    expect(complete).toBe(true);
    await using sandbox = new Sandbox({ audit: false }).use(policy, { workspace });
    const { stdout } = await sandbox.run(["cat", asked, other], { cwd: workspace });
    expect(stdout).toBe("asked for\n");
    expect(formatPolicy(policy, "json", workspace)).toContain('"$HOME/app/token??"');
    expect(formatPolicy(policy, "typescript", workspace)).toContain(`"${asked}"`);
    expect(formatPolicy(policy, "flags", workspace)).toContain(`'${asked}'`);
  });

  test("as flags, it is for a shell", async () => {
    const { policy } = await learn(argv, options({ base: { env: { set: { NAME: "it's" } } } }));
    const flags = formatPolicy(policy, "flags", workspace).trimEnd();
    const script = `exec "$0" "$1" run ${flags} \\\n --json -- sh -c 'cat ~/app/one; echo "$NAME"'`;
    const { stdout, stderr } = spawnSync("sh", ["-c", script, process.execPath, main], {
      cwd: workspace,
      encoding: "utf8",
    });
    expect(stdout, stderr).toBe("1\nit's\n");
    expect(JSON.parse(stderr)).toMatchObject({ exitCode: 0, violations: [] });
  });
});

describe("nono learn", () => {
  test("says on stderr what it does not grant, and in its status", () => {
    files({ "home/.netrc": "password" });
    const { status, stdout, stderr } = nono(["learn", "--", "sh", "-c", "cat ~/.netrc; true"], {
      cwd: workspace,
    });
    expect(status).toBe(1);
    expect(stdout).toContain(`.allowRead(${JSON.stringify(workspace)})`);
    expect(stdout).not.toContain(".netrc");
    expect(stderr).toContain(`not granted: read ${home}/.netrc: it is, or holds, a secret`);
  });

  test("prints all it has learned with --json", () => {
    const argv = ["learn", "--json", "--allow-env", "LANG", "--", "sh", "-c", "exit 3"];
    const { status, stdout } = nono(argv, { cwd: workspace });
    expect(status).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      policy: { exec: ["sh"], env: { allow: ["LANG"] } },
      complete: true,
      refused: [],
      exitCode: 3,
    });
  });

  test("undoes what the command did when it is interrupted", async () => {
    files({ "work/project/file": "before\n" });
    const before = state();
    const script = "echo after > file; echo > new; cat /etc/login.defs; exec sleep 60";
    const argv = [main, "learn", "--output", "--allow-exec", "cat", "--allow-exec", "sleep", "--"];
    const child = spawn(process.execPath, [...argv, "sh", "-c", script], {
      cwd: workspace,
      stdio: ["ignore", "ignore", "pipe"],
    });
    await once(child.stderr, "data");
    expect(existsSync(path.join(workspace, "new"))).toBe(true);
    child.kill("SIGINT");
    expect(await once(child, "exit")).toEqual([125, null]);
    expect(state()).toEqual(before);
    expect(readFileSync(path.join(workspace, "file"), "utf8")).toBe("before\n");
  });

  test.for([[], ["--format", "yaml", "--", "true"], ["--rounds", "0", "--", "true"]])(
    "refuses %j",
    (argv) => {
      const { status, stderr } = nono(["learn", ...argv], { cwd: workspace });
      expect(status).toBe(125);
      expect(stderr).toContain("ERR_NONO_INVALID");
    },
  );
});
