import { spawn, spawnSync, type SpawnSyncReturns } from "node:child_process";
import { once } from "node:events";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir, userInfo } from "node:os";
import path from "node:path";
import process from "node:process";
import type { Readable } from "node:stream";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { stateDirectory } from "../src/state.ts";
import { useOwnState } from "./support/state.ts";

useOwnState();

const main = path.resolve(import.meta.dirname, "../dist/cli/main.js");
let workspace = "";
beforeAll(() => {
  workspace = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-cli-")));
});
afterAll(() => rmSync(workspace, { recursive: true, force: true }));

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function nono(...args: string[]): Outcome {
  return spawnSync(process.execPath, [main, ...args], { cwd: workspace, encoding: "utf8" });
}

const writable = ["--allow-write", "."];

test("the command runs, its program is allowed by itself, and stdout is its own", () => {
  const { status, stdout, stderr } = nono("run", ...writable, "--", "sh", "-c", "echo it");
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: "it\n", stderr: "" });
});

test("relative paths are taken from the current directory, which is the command's too", () => {
  expect(nono("run", ...writable, "--", "sh", "-c", "pwd; echo x > made").stdout).toBe(
    `${workspace}\n`,
  );
  expect(readFileSync(path.join(workspace, "made"), "utf8")).toBe("x\n");
});

test("what is not declared is refused", () => {
  const outside = mkdtempSync(path.join(tmpdir(), "nono-outside-"));
  const file = path.join(outside, "file");
  const script = `echo x > ${file}`;
  expect(nono("run", ...writable, "--", "sh", "-c", script).status).not.toBe(0);
  expect(existsSync(file)).toBe(false);
  expect(nono("run", "--allow-write", outside, ...writable, "--", "sh", "-c", script).status).toBe(
    0,
  );
  expect(existsSync(file)).toBe(true);
  expect(nono("run", ...writable, "--", "sh", "-c", "/usr/bin/od -An /dev/null").status).toBe(126);
  rmSync(outside, { recursive: true });
});

test("the exit status is the command's, or 128 and its signal", () => {
  expect(nono("run", ...writable, "--", "sh", "-c", "exit 42").status).toBe(42);
  expect(nono("run", ...writable, "--", "sh", "-c", "kill -KILL $$").status).toBe(128 + 9);
  expect(nono("run", ...writable, "--timeout", "0.2", "--", "sleep", "60").status).toBe(124);
});

test("stdin goes to the command", () => {
  const args = [main, "run", ...writable, "--", "cat"];
  const options = { cwd: workspace, input: "typed", encoding: "utf8" } as const;
  expect(spawnSync(process.execPath, args, options).stdout).toBe("typed");
});

function inShell(line: string): string {
  const options = { cwd: workspace, encoding: "utf8" } as const;
  const { stdout, stderr } = spawnSync("sh", ["-c", line], options);
  expect(stderr).toBe("");
  return stdout.trim();
}

test("a command may write and wait as it likes: the pipes of the caller stay blocking", () => {
  const run = `"${process.execPath}" "${main}" run --allow-exec head --allow-write .`;
  // More than a pipe holds, to a reader that begins late.
  const flood = "head -c 1000000 /dev/zero";
  expect(inShell(`${run} -- ${flood} | (sleep 2; wc -c)`)).toBe("1000000");
  expect(inShell(`${run} -- sh -c '${flood} >&2' 2>&1 | (sleep 2; wc -c)`)).toBe("1000000");
  expect(inShell(`(sleep 2; echo late) | ${run} -- cat`)).toBe("late");
});

test("the environment is an allow-list", () => {
  const env = { ...process.env, SECRET_TOKEN: "s", PASSED: "p" };
  const args = [main, "run", ...writable, "--allow-env", "PASS*", "--env", "SET=1", "--", "env"];
  const { stdout } = spawnSync(process.execPath, args, { cwd: workspace, env, encoding: "utf8" });
  expect(stdout).toMatch(/^PASSED=p$/m);
  expect(stdout).toMatch(/^SET=1$/m);
  expect(stdout).not.toContain("SECRET_TOKEN");
});

test.for([
  [["run"], "ERR_NONO_INVALID_ARGV"],
  [["run", "--no-such-flag", "--", "true"], "ERR_NONO_INVALID_OPTION"],
  [["run", "--network", "maybe", "--", "true"], "ERR_NONO_INVALID_OPTION"],
  [["run", "--timeout", "soon", "--", "true"], "ERR_NONO_INVALID_OPTION"],
  [["run", "--limit", "processes", "--", "true"], "ERR_NONO_INVALID_OPTION"],
  [["run", "--limit", "colour=1", "--", "true"], "ERR_NONO_INVALID_CAPABILITIES"],
  [["run", "--json-fd", "1", "--", "true"], "ERR_NONO_INVALID_OPTION"],
  [["run", "--allow-read", "missing", "--", "true"], "ERR_NONO_PATH_NOT_FOUND"],
  [["run", "--", "no-such-program"], "ERR_NONO_EXEC_NOT_FOUND"],
  [["run", "--network", "open", "--allow-net", "a.test", "--", "true"], "ERR_NONO_INVALID_OPTION"],
] as const)("nono %j is an error of nono itself: 125", ([args, code]) => {
  const { status, stdout, stderr } = nono(...args);
  expect({ status, stdout }).toEqual({ status: 125, stdout: "" });
  expect(stderr).toContain(code);
});

test("an unknown command or flag names what was meant", () => {
  const misspelt = nono("rnu");
  expect(misspelt).toMatchObject({ status: 125, stdout: "" });
  expect(misspelt.stderr).toContain("Did you mean run?");
  expect(nono("run", "--alow-read", ".", "--", "true").stderr).toContain("--allow-read?");
});

test("without a command the usage is on stderr; with --help on stdout", () => {
  expect(nono()).toMatchObject({ status: 125, stdout: "" });
  expect(nono("--help")).toMatchObject({ status: 0, stderr: "" });
  expect(nono("--version").stdout).toMatch(/^\d+\.\d+\.\d+/);
});

test("each command's help names its flags, in 80 columns", () => {
  const names = [...nono("--help").stdout.matchAll(/^ {2}(\w+) {2}/gm)].map(([, name]) => name);
  expect(names).toEqual(expect.arrayContaining(["run", "shell", "policy", "doctor", "keychain"]));
  for (const name of ["run", "shell", "policy", "doctor", "keychain", "completions"]) {
    const { status, stdout } = nono(name, "--help");
    expect(status).toBe(0);
    expect(stdout).toContain(`Usage: nono ${name}`);
    expect(Math.max(...stdout.split("\n").map((line) => line.length)), name).toBeLessThanOrEqual(
      80,
    );
  }
});

test("flags end where the program begins", () => {
  expect(nono("run", ...writable, "sh", "-c", "echo $0", "--help").stdout).toBe("--help\n");
});

test("--json reports the result on stderr as one line", () => {
  const { stdout, stderr } = nono("run", ...writable, "--json", "--", "sh", "-c", "echo o; exit 3");
  expect(stdout).toBe("o\n");
  const result = JSON.parse(stderr) as { guarantees: { name: string }[] };
  expect(result).toMatchObject({ exitCode: 3, signal: null, timedOut: false });
  expect(result.guarantees.map(({ name }) => name)).toContain("fs-read");
  const failed = nono("run", "--json", "--", "no-such-program").stderr.split("\n")[0] ?? "";
  expect(JSON.parse(failed)).toMatchObject({ error: { code: "ERR_NONO_EXEC_NOT_FOUND" } });
});

test("an answer that can't be written is an error in words", () => {
  const script = `${process.execPath} ${main} policy list > /dev/full`;
  const { status, stderr } = spawnSync("sh", ["-c", script], { encoding: "utf8" });
  expect(status).toBe(125);
  expect(stderr).toMatch(/^nono: stdout can't be written \(ENOSPC.*\n$/);
});

test.for(["policy", "keychain", "completions"])(
  "nono %s alone says that something is missing",
  (name) => {
    expect(nono(name).stderr).toMatch(new RegExp(`^nono: nono ${name} needs an? `));
  },
);

test("a command loads no other one", () => {
  const hook = `import { registerHooks } from "node:module";
    registerHooks({ load(url, context, next) {
      if (/\\/dist\\/|opentelemetry/.test(url)) process.stderr.write(url + "\\n");
      return next(url, context);
    } });`;
  const flags = ["--import", `data:text/javascript,${encodeURIComponent(hook)}`, main];
  const options = { cwd: workspace, encoding: "utf8" } as const;
  const args = [...flags, "run", "--no-audit", ...writable, "--", "true"];
  const loaded = spawnSync(process.execPath, args, options).stderr;
  expect(loaded).toContain("sdk/dist/cli/commands/run.js");
  expect(loaded).not.toMatch(
    /(audit|proxy|rollback)\/dist|opentelemetry|commands\/(learn|doctor|keychain|why)|learn\/learn/,
  );
});

test("a shell in a directory that is gone is told so", () => {
  const gone = mkdtempSync(path.join(tmpdir(), "nono-gone-"));
  const script = `cd ${gone} && rmdir ${gone} && exec ${process.execPath} ${main} run -- true`;
  const { status, stderr } = spawnSync("sh", ["-c", script], { encoding: "utf8" });
  expect(status).toBe(125);
  expect(stderr).toContain("ERR_NONO_INVALID_CWD");
  expect(stderr).toContain('cd "$PWD"');
});

test.for([
  ["why", 1, "--read", "/etc/shadow"],
  ["policy", 0, "check", "node"],
  ["policy", 0, "print", "node"],
  ["policy", 0, "list"],
  ["policy", 0, "schema"],
  ["policy", 125, "check", "./no-such-file.json"],
  ["doctor", 0],
  ["keychain", 125, "set"],
  ["checkpoints", 0],
  ["recover", 0],
  ["diff", 125],
  ["commit", 125],
  ["rollback", 125],
  ["audit", 3, "verify", "no-such-directory"],
] as const)("nono %s --json answers in JSON on stdout, its status is %i: %s", (given) => {
  const [command, expected, ...args] = given;
  const state = mkdtempSync(path.join(tmpdir(), "nono-state-"));
  const env = { ...process.env, XDG_STATE_HOME: state };
  const argv = [main, command, ...args, "--json"];
  const { status, stdout } = spawnSync(process.execPath, argv, { env, encoding: "utf8" });
  rmSync(state, { recursive: true });
  const answer = JSON.parse(stdout) as { error?: { code: string } };
  expect(status).toBe(expected);
  if (expected === 125) expect(answer.error?.code).toMatch(/^ERR_NONO_/);
});

test("--json-fd reports it elsewhere", async () => {
  const args = [main, "run", ...writable, "--json-fd", "3", "--", "true"];
  const stdio = ["ignore", "ignore", "inherit", "pipe"] as const;
  const child = spawn(process.execPath, args, { cwd: workspace, stdio: [...stdio] });
  const [line] = (await once(child.stdio[3] as Readable, "data")) as [Buffer];
  expect(JSON.parse(line.toString())).toMatchObject({ exitCode: 0 });
});

test("a signal to nono goes to the command, which decides", async () => {
  const script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.05; done";
  const args = [main, "run", ...writable, "--allow-exec", "sleep", "--", "sh", "-c", script];
  const child = spawn(process.execPath, args, {
    cwd: workspace,
    stdio: ["ignore", "pipe", "ignore"],
  });
  await once(child.stdout, "data");
  child.kill("SIGTERM");
  expect((await once(child, "exit"))[0]).toBe(9);
});

test("no place for the record is said in words, with what to do", () => {
  const env = { ...process.env, XDG_STATE_HOME: "/dev/null/state" };
  const args = [main, "run", ...writable, "--", "true"];
  const ran = spawnSync(process.execPath, args, { cwd: workspace, env, encoding: "utf8" });
  expect(ran).toMatchObject({ status: 125, stdout: "" });
  expect(ran.stderr).toMatch(
    /^nono: no record can be kept in \/dev\/null\/state.*XDG_STATE_HOME.*\n$/,
  );
  expect(ran.stderr).toContain("(ERR_NONO_AUDIT_WRITE)");
});

test("no place for the record in /proc is said in the same way, and at once", () => {
  const env = { ...process.env, XDG_STATE_HOME: "/proc/none" };
  const options = { cwd: workspace, env, encoding: "utf8", timeout: 20_000 } as const;
  const inProc = (...args: string[]): Outcome =>
    // A loop in JavaScript takes no notice of other signals.
    spawnSync(process.execPath, [main, ...args], { ...options, killSignal: "SIGKILL" });
  const ran = inProc("run", ...writable, "--", "sh", "-c", "echo it; echo x > never");
  expect(ran).toMatchObject({ status: 125, stdout: "" });
  expect(ran.stderr).toMatch(/^nono: no record can be kept in \/proc\/none.*XDG_STATE_HOME.*\n$/);
  expect(existsSync(path.join(workspace, "never"))).toBe(false);
  expect(inProc("doctor").stdout).toMatch(/! records: \/proc\/none\S* can't be written \(ENOENT\)/);
  expect(inProc("checkpoint", workspace).status).toBe(125);
});

function nameEndingIn(start: string, byte: number): Buffer {
  return Buffer.concat([Buffer.from(start), Buffer.of(byte)]);
}

function asUnknownUser(env: NodeJS.ProcessEnv): SpawnSyncReturns<string> {
  const user = ["--reuid=54321", "--regid=54321", "--clear-groups"];
  const flags = ["--no-audit", "--policy", "node"];
  const command = [process.execPath, main, "run", ...flags, "--", "id", "-u"];
  return spawnSync("setpriv", [...user, ...command], { cwd: "/", env, encoding: "utf8" });
}

// As in a container that is started for a number (docker run --user).
describe.skipIf(process.getuid?.() !== 0)("a user that the machine does not know", () => {
  test("runs commands", () => {
    const { stdout, stderr } = asUnknownUser({ PATH: process.env["PATH"], HOME: "/" });
    expect({ stdout, stderr }).toEqual({ stdout: "54321\n", stderr: "" });
  });

  test("is told if it has no home", () => {
    const { status, stderr } = asUnknownUser({ PATH: process.env["PATH"] });
    expect(status).toBe(125);
    expect(stderr).toMatch(/^nono: there is no home directory: .*54321.*\nnono: Set HOME .*\n$/);
  });
});

test.for(["", "relative"])("with HOME=%j nothing is kept in the current directory", (home) => {
  vi.stubEnv("HOME", home);
  vi.stubEnv("XDG_STATE_HOME", undefined);
  expect(stateDirectory()).toBe(path.join(userInfo().homedir, ".local/state/nono"));
  vi.unstubAllEnvs();
});

test("names that are not UTF-8 are in base64, each another one", () => {
  const outside = realpathSync(mkdtempSync("/var/tmp/nono-outside-"));
  const work = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-work-")));
  const run = (...args: string[]): Outcome =>
    spawnSync(process.execPath, [main, ...args], { cwd: work, encoding: "utf8" });
  try {
    writeFileSync(nameEndingIn(`${outside}/a`, 0xff), "");
    const script = String.raw`: > ä; : > "$(printf 'a\377')"; : > "$(printf 'a\376')"
      : < "$(printf '${outside}/a\377')"`;
    const flags = ["--rollback", "--allow-write", ".", "--json"];
    const { violations } = JSON.parse(
      run("run", ...flags, "--", "sh", "-c", script)
        .stderr.split("\n")
        .at(-2) ?? "",
    ) as {
      violations: object[];
    };
    const refused = nameEndingIn(`${outside}/a`, 0xff).toString("base64");
    expect(violations).toMatchObject([
      {
        operation: "read",
        path_b64: refused,
        suggestion: { capability: "read", value_b64: refused },
      },
    ]);
    expect(violations).not.toMatchObject([{ path: expect.anything() }]);
    expect(JSON.parse(run("diff", "--json").stdout)).toEqual(
      expect.arrayContaining([
        { kind: "added", dir: work, path: "ä" },
        { kind: "added", dir: work, path_b64: nameEndingIn("a", 0xff).toString("base64") },
        { kind: "added", dir: work, path_b64: nameEndingIn("a", 0xfe).toString("base64") },
      ]),
    );
  } finally {
    rmSync(outside, { recursive: true });
    rmSync(work, { recursive: true });
  }
});

test("a run is on record, and can be looked at and brought back by commands", () => {
  const state = mkdtempSync(path.join(tmpdir(), "nono-state-"));
  const work = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-work-")));
  const env = { ...process.env, XDG_STATE_HOME: state };
  const run = (...args: string[]): Outcome =>
    spawnSync(process.execPath, [main, ...args], { cwd: work, env, encoding: "utf8" });
  try {
    writeFileSync(path.join(work, "file"), "before\n");
    const script = "echo after > file";
    const ran = run("run", "--rollback", "--allow-write", ".", "--", "sh", "-c", script);
    expect(ran).toEqual({ ...ran, status: 0, stdout: "", stderr: "" });
    expect(run("diff").stdout).toContain("file");
    expect(JSON.parse(run("diff", "--json").stdout)).toMatchObject([
      { kind: "modified", path: "file" },
    ]);
    expect(JSON.parse(run("checkpoints", "--json").stdout)).toMatchObject([{ dirs: [work] }]);
    expect(run("diff", "--help")).toMatchObject({ status: 0, stderr: "" });
    const unknown = run("rollback", "--checkpoint", "none", "--json");
    expect(unknown.status).toBe(125);
    expect(JSON.parse(unknown.stdout)).toMatchObject({ error: { code: expect.any(String) } });
    // Its own process was in the directory too, and is nothing to be warned of.
    expect(run("rollback")).toMatchObject({ status: 0, stdout: `rolled back ${work}\n` });
    expect(readFileSync(path.join(work, "file"), "utf8")).toBe("before\n");

    const sessions = path.join(state, "nono", "audit", "sessions");
    const log = path.join(sessions, readdirSync(sessions)[0] ?? "");
    expect(run("audit", "show", log).stdout).toContain("process.exec");
    const verdict = run("audit", "verify", log);
    expect(verdict.stdout).toContain("INTACT");
    // No directory is the last run, whatever ran before it.
    expect(run("run", "--allow-write", ".", "--", "true").status).toBe(0);
    const last = readdirSync(sessions).find((session) => !log.endsWith(session)) ?? "";
    for (const command of ["show", "tail", "verify"])
      expect(run("audit", command).stdout).toBe(
        run("audit", command, path.join(sessions, last)).stdout,
      );
    expect(run("audit", "doctor").stdout).toContain(last);
    expect(run("audit", "doctor").status).toBe(0);
    const bundle = path.join(log, "tile", "entries", "000.p");
    const [name = ""] = readdirSync(bundle);
    const bytes = readFileSync(path.join(bundle, name));
    bytes[bytes.length - 9]! ^= 1;
    writeFileSync(path.join(bundle, name), bytes);
    expect(run("audit", "verify", log).status).toBe(1);
  } finally {
    rmSync(state, { recursive: true });
    rmSync(work, { recursive: true });
  }
});
