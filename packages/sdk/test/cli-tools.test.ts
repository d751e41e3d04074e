// The commands around a run: doctor, keychain, completions, shell.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { has, main, nono } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";
import { onTerminal as typedInto } from "./support/terminal.ts";

useOwnState();

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(path.join(tmpdir(), "nono-cli-tools-"));
  const shim = `#!/bin/sh\nexec ${process.execPath} ${main} "$@"\n`;
  writeFileSync(path.join(directory, "nono"), shim, { mode: 0o755 });
});
afterAll(() => rmSync(directory, { recursive: true, force: true }));

const withNono = (): NodeJS.ProcessEnv => ({
  ...process.env,
  PATH: `${directory}:${process.env["PATH"]}`,
});

function shellCommand(shell: string, ...args: string[]): string {
  const options = { env: withNono(), encoding: "utf8", cwd: directory } as const;
  const { stdout, stderr, status } = spawnSync(shell, args, options);
  expect(status, stderr).toBe(0);
  return stdout;
}

/** What a script prints in a session with an unlocked keychain. */
function inSession(script: string): string {
  const unlock = "echo password | gnome-keyring-daemon --unlock --components=secrets >&2";
  const env = { ...withNono(), HOME: directory, XDG_DATA_HOME: directory };
  const session = ["--", "sh", "-c", `${unlock}\n${script}`];
  return spawnSync("dbus-run-session", session, { env, encoding: "utf8" }).stdout;
}

/** What bash offers for the last of the words. */
function bashOffers(...words: string[]): string[] {
  const script = `source <(nono completions bash)
    COMP_WORDS=(${words.map((word) => `'${word}'`).join(" ")}); COMP_CWORD=${words.length - 1}
    _nono; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return shellCommand("bash", "-c", script).trim().split("\n");
}

function fishOffers(line: string): string {
  const script = `nono completions fish | source; complete -C '${line}'`;
  return shellCommand("fish", "--no-config", "-c", script);
}

/** What a terminal shows of a command line into which `typed` is typed. */
function onTerminal(line: string, typed: string): string {
  const args = ["--quiet", "--return", "--command", line, "/dev/null"];
  const options = { env: withNono(), encoding: "utf8", input: typed, cwd: directory } as const;
  return spawnSync("script", args, options).stdout;
}

test("doctor names each gap with what to do", () => {
  const { status, stdout } = nono(["doctor"]);
  expect(status).toBe(0);
  expect(stdout).toMatch(/\+ landlock: ABI \d+/);
  expect(stdout).toContain("guarantees in the tier");
  expect(stdout).not.toContain("\u001B["); // no colour but on a terminal
  const { findings, tiers } = JSON.parse(nono(["doctor", "--json"]).stdout) as {
    findings: { what: string; status: string; remedy?: string }[];
    tiers: Record<string, { name: string }[]>;
  };
  expect(findings.map(({ what }) => what)).toEqual(
    expect.arrayContaining(["node", "landlock", "seccomp", "namespaces", "keychain", "records"]),
  );
  for (const finding of findings) if (finding.status !== "ok") expect(finding.remedy).toBeTruthy();
  expect(
    Object.values(tiers)
      .flat()
      .map(({ name }) => name),
  ).toContain("fs-write");
});

// As in a container with parts of its /proc hidden, and no profile that refuses namespaces.
test.skipIf(process.getuid?.() !== 0)("doctor says why a user namespace is not enough", () => {
  const doctor = [process.execPath, main, "doctor", "--json"];
  const script = 'mount --bind /dev/null /proc/version && exec "$0" "$@"';
  const args = ["--mount", "sh", "-c", script, ...doctor];
  const { stdout } = spawnSync("unshare", args, { encoding: "utf8" });
  const { findings } = JSON.parse(stdout) as { findings: { what: string; status: string }[] };
  expect(findings.find(({ what }) => what === "namespaces")).toMatchObject({
    status: "gap",
    detail: expect.stringMatching(/mounting a private \/proc: .*; the tier flat is used$/),
    remedy: expect.any(String),
  });
});

describe.runIf(
  has("dbus-run-session", "nono keychain") && has("gnome-keyring-daemon", "nono keychain"),
)("keychain, with a real one", () => {
  test("set, list and rm", () => {
    const script = `
      echo first-secret | nono keychain set FIRST
      printf second | nono keychain set SECOND --json
      nono keychain list --json
      nono keychain rm FIRST; echo $?
      nono keychain rm FIRST; echo $?
      nono keychain list`;
    expect(inSession(script).split("\n")).toEqual([
      "FIRST is stored",
      '{"stored":"SECOND","service":"nono"}',
      '["FIRST","SECOND"]',
      "FIRST is removed",
      "0",
      "there is no FIRST",
      "1",
      "SECOND",
      "",
    ]);
  });
});

test("who has no keychain is told where else a credential can be", () => {
  const env = { DBUS_SESSION_BUS_ADDRESS: "unix:path=/none" };
  const { status, stdout, stderr } = nono(["keychain", "set", "KEY"], { env, input: "secret" });
  expect({ status, stdout }).toEqual({ status: 125, stdout: "" });
  expect(stderr).toContain("(ERR_NONO_CREDENTIAL_STORE)");
  expect(stderr).toContain("a policy takes credentials from env, file or command");
});

function ask(...args: string[]): ReturnType<typeof nono> {
  return nono(["why", "-p", "shell", ...args]);
}

test("why answers by the code that decides, and nothing is run", () => {
  expect(ask("--read", "/etc/shadow")).toMatchObject({ status: 1 });
  expect(ask("--read", "/etc/shadow").stdout).toContain(
    'would pass with allowRead("/etc/shadow")\non the command line: --allow-read /etc/shadow\nbetter not allowed: it is, or holds, a secret\n',
  );
  expect(ask("--exec", "cat")).toMatchObject({ status: 0, stderr: "" });
  expect(ask("--write", directory, "--allow-write", directory)).toMatchObject({ status: 0 });
  expect(ask("--variable", "NO_SUCH_VARIABLE")).toMatchObject({ status: 1 });
  const host = ask("--host", "b.test:443", "--allow-net", "a.test", "--json");
  expect(JSON.parse(host.stdout)).toMatchObject({
    allowed: false,
    suggestion: { call: 'allowNetwork("b.test:443")' },
  });
  expect(ask()).toMatchObject({ status: 125, stdout: "" });
});

test("a command that fails because it was refused something is told what", () => {
  const script = "echo x > /etc/nono-test";
  const run = ["run", "--no-audit", "-p", "shell", "--allow-read", directory, "--cwd", directory];
  const failed = nono([...run, "--", "sh", "-c", script]);
  expect(failed.stderr).toContain("nono:   create /etc/nono-test: nothing grants it");
  expect(failed.stderr).toContain("(nothing narrow enough to be allowed would let it pass)");
  expect(failed.stderr).toContain("1 attempt was refused");
  const protectedName = path.join(directory, ".envrc");
  const write = [...run, "--allow-write", directory];
  const orders = nono([...write, "--", "sh", "-c", `echo x > ${protectedName}`]);
  expect(orders.stderr).toMatch(/take orders from .*\.envrc \(better not allowed\)/);
  const plain = nono([...run, "--", "sh", "-c", "cat /etc/login.defs"]);
  expect(plain.stderr).toContain("(would pass with --allow-read /etc/login.defs)");
  const report = nono([...run, "--json", "--", "sh", "-c", `${script}; exit 0`]);
  const line = report.stderr.split("\n").find((one) => one.startsWith("{")) ?? "";
  expect(JSON.parse(line)).toMatchObject({
    exitCode: 0,
    violations: [
      {
        operation: "create",
        path: "/etc/nono-test",
        layer: expect.any(String),
        reason: "not-granted",
        process: { arguments: ["sh", "-c", expect.any(String)], cwd: directory },
      },
    ],
  });
  expect(report.stderr).not.toContain("refused:");
});

test("a script that chooses a program is told as that", () => {
  const shims = path.join(directory, "shims");
  mkdirSync(shims);
  writeFileSync(path.join(shims, "made"), "#!/bin/sh\nexec /usr/bin/env made\n", { mode: 0o755 });
  const run = ["run", "--no-audit", "--cwd", "/", "--", path.join(shims, "made")];
  expect(nono(run).stderr).toMatch(/shims\/made is a script that chooses a program/);
});

test("a network that is closed is told as that", () => {
  const run = [
    "run",
    "--no-audit",
    "--cwd",
    "/",
    "--",
    "curl",
    "-s",
    "-m",
    "60",
    "https://b.test/",
  ];
  expect(nono(run).stderr).toMatch(
    /system-call socket\(AF_INET6?, SOCK_[A-Z]+\): .*the network is closed; --allow-net/,
  );
});

test("what is refused at the gate is told with the flag that would allow it", () => {
  const run = ["run", "--no-audit", "--allow-net", "a.test", "--cwd", "/"];
  const command = ["--", "curl", "-s", "-m", "60", "https://b.test/"];
  expect(nono([...run, ...command]).stderr).toMatch(
    /net\.dns b\.test: .*would pass with --allow-net b\.test/,
  );
  const report = JSON.parse(nono([...run, "--json", ...command]).stderr) as object;
  expect(report).toMatchObject({
    violations: expect.arrayContaining([
      expect.objectContaining({ layer: "gate", code: "ERR_NONO_HOST_DENIED", value: "b.test" }),
    ]),
  });
});

test("a credential that can't be had is told when it is missed, once", () => {
  const run = ["run", "--no-audit", "--credential", "TOKEN=a.test", "--allow-net", "a.test"];
  const twice =
    'for i in 1 2; do curl -s -o /dev/null -H "x: $TOKEN" https://a.test/; done; exit 1';
  const flags = ["-p", "shell", "--allow-exec", "curl", "--cwd", "/"];
  const { stderr } = nono([...run, ...flags, "--", "sh", "-c", twice], {
    env: { DBUS_SESSION_BUS_ADDRESS: "unix:path=/none" },
  });
  expect(stderr).toMatch(
    /^nono: a\.test: The keychain cannot be reached[^\n]*nono\/TOKEN[^\n]*\n$/,
  );
});

test("a command that failed although nothing was refused to it is told so", () => {
  const run = ["run", "--no-audit", "--allow-read", directory, "--cwd", directory];
  const own = nono([...run, "--", "cat", path.join(directory, "no-such-file")]);
  expect(own.status).toBe(1);
  expect(own.stderr).toContain("nothing was refused to it: the sandbox did not cause this failure");
  const fine = nono([...run, "--", "cat", path.join(directory, "nono")]);
  expect(fine).toMatchObject({ status: 0, stderr: "" });
});

test("a directory that the sandbox does not have is named with what to do", () => {
  const { status, stderr } = nono(["run", "--no-audit", "--", "true"], { cwd: directory });
  // The tier flat has every directory of the machine.
  if (status === 0) return;
  expect(stderr).toContain(`The sandbox does not have the directory ${directory}`);
  expect(stderr).toContain(`allowRead(${JSON.stringify(directory)})`);
});

test("keychain refuses what is not a value, and says where there is no keychain", () => {
  expect(nono(["keychain", "set", "NAME"], { input: "" }).stderr).toContain("The value is empty");
  expect(nono(["keychain", "set"], { input: "x" }).stderr).toContain("There is no name");
  const without = nono(["keychain", "list", "--json"], {
    env: { DBUS_SESSION_BUS_ADDRESS: "unix:path=/none" },
  });
  expect(without.status).toBe(125);
  expect(JSON.parse(without.stdout)).toMatchObject({
    error: { code: "ERR_NONO_CREDENTIAL_STORE", remedy: expect.stringContaining("Secret Service") },
  });
});

describe("completions", () => {
  test.runIf(has("bash", "completions of bash"))("bash", () => {
    expect(bashOffers("nono", "do")).toEqual(["doctor"]);
    expect(bashOffers("nono", "run", "--allow-w")).toEqual(["--allow-write"]);
    expect(bashOffers("nono", "run", "--policy", "claude")).toEqual(["claude-code"]);
    expect(bashOffers("nono", "run", "--tier", "")).toEqual(["namespaces", "flat"]);
    expect(bashOffers("nono", "policy", "che")).toEqual(["check"]);
    expect(bashOffers("nono", "run", "--", "printen")).toContain("printenv");
    expect(bashOffers("nono", "run", "--", "cat", "--")).toEqual([""]);
    expect(bashOffers("nono", "diff", "/etc/passw")).toContain("/etc/passwd");
  });

  test.runIf(has("bash", "completions of bash"))("bash, whatever files are called", () => {
    const names = ["a file", "a $(touch made)", "a *"].map((name) => path.join(directory, name));
    for (const name of names) writeFileSync(name, "");
    const offered = bashOffers("nono", "diff", path.join(directory, "a"));
    expect(offered.toSorted()).toEqual(names.toSorted());
    // A policy file needs a slash.
    expect(bashOffers("nono", "run", "-p", "a")).toEqual(["aider"]);
    expect(bashOffers("nono", "run", "-p", `${directory}/a f`)).toEqual([names[0]]);
    for (const name of names) rmSync(name);
  });

  test.runIf(has("zsh", "completions of zsh"))("zsh", () => {
    const script =
      "autoload -Uz compinit; compinit -D -u; source <(nono completions zsh); print $_comps[nono]";
    expect(shellCommand("zsh", "-f", "-c", script)).toBe("_nono\n");
  });

  test.runIf(has("zsh", "completions of zsh") && has("script", "completions of zsh"))(
    "zsh, as one types",
    async () => {
      writeFileSync(path.join(directory, "a policy.json"), "");
      const setUp =
        "autoload -Uz compinit; compinit -D -u; source <(nono completions zsh); " +
        "nono() { print -r -- got: $* }; PS1=$'r\\x65ady> '\r";
      const shown = await typedInto(
        "zsh -f -i",
        [
          ["\u001B[?2004h", setUp], // it reads keys
          ["ready> ", "nono run --policy clau\t\r"],
          ["got: run --policy claude-code", "nono run --policy ./a\t\r"],
          ["got: run --policy ./a policy.json", "nono policy chec\t\r"],
          ["got: policy check", "exit\r"],
        ],
        { cwd: directory, env: withNono() },
      );
      rmSync(path.join(directory, "a policy.json"));
      expect(shown).toContain("got: policy check");
      expect(shown).not.toContain("_arguments:");
    },
    20_000,
  );

  test.runIf(has("fish", "completions of fish"))("fish", () => {
    expect(fishOffers("nono do")).toContain("doctor\t");
    expect(fishOffers("nono run --allow-w")).toContain("--allow-write\t");
    expect(fishOffers("nono run --policy cod")).toContain("codex");
  });
});

describe.runIf(has("script", "commands on a terminal"))("on a terminal", () => {
  test("a command has a terminal of its own", () => {
    const script = "test -t 0 && test -t 1 && test -t 2 && echo yes";
    expect(onTerminal(`nono run --no-audit --allow-read . -- sh -c '${script}'`, "")).toContain(
      "yes",
    );
  });

  test("what nono says afterwards is to be read, whatever the command has left", () => {
    const script = "printf '\\033[8m\\033[24;24r'; cat /etc/shadow; exit 1";
    writeFileSync(path.join(directory, "hide"), script);
    const shown = onTerminal("nono run --no-audit -p shell --allow-read . -- sh hide", "");
    const between = shown.slice(shown.indexOf("\u001B[24;24r"), shown.indexOf("nono: "));
    expect(between.replaceAll("\u001B", "^")).toContain("^[r^8^[?7h^[4l^[?25h^[0m");
    expect(shown).toContain("read /etc/shadow");
  });

  test("nono shell is a shell to type into", () => {
    const shown = onTerminal("nono shell --no-audit sh", "echo $((40 + 2))\nexit\n");
    expect(shown).toContain("42");
  });

  test("the status of nono shell is what was typed last, and no failure of it", () => {
    const quiet = onTerminal("nono shell --no-audit sh; echo status $?", "exit 3\n");
    expect(quiet).toContain("status 3");
    expect(quiet).not.toContain("nono:");
    if (has("bash", "nono shell with bash")) {
      const shown = onTerminal("nono shell --no-audit bash", "echo it\nexit\n");
      expect(shown).not.toContain("_history");
    }
    if (has("fish", "nono shell with fish")) {
      const shown = onTerminal("nono shell --no-audit fish", "echo it\nexit\n");
      expect(shown).not.toMatch(/error:|warning/);
    }
    const told = onTerminal("nono shell --no-audit sh", ": < /etc/shadow\nexit 0\n");
    expect(told).toContain("read /etc/shadow: nothing grants it");
  });
});
