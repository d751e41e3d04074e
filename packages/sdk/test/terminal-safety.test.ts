// What commands choose (names of files, arguments) can't steer the terminal of whoever reads of it, nor break
// the JSON of programs that do.
import { spawnSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { formatPolicy } from "@nono/sdk";
import { toJson } from "../src/cli/output.ts";
import { nono, type Outcome } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";
import { useWorkspace } from "./support/workspace.ts";

useOwnState();
const workspace = useWorkspace();

/** Escape sequences in 7 and 8 bits, lines of their own, reversed and hidden text. */
const hostile = [
  "\u001B]0;title\u0007",
  "\u001B[2J\u001B[1;1H",
  "\u009B31m",
  "\u202Egpj.exe",
  "\nnono: allowed",
  "\rnono: allowed",
  "\u0085\u2028\u2029",
  "\u007F\b",
  "\u{E0041}\u{E0042}",
].join("x");

const unsafe = /[^\P{C}\n]|[\p{Zl}\p{Zp}]/u;

/** Everything that it has printed, none of which may be more than text. */
function shownBy(args: readonly string[], input = ""): Outcome {
  const outcome = nono(args, { cwd: workspace.directory, input });
  expect(outcome.stdout).not.toMatch(unsafe);
  expect(outcome.stderr).not.toMatch(unsafe);
  expect(`${outcome.stdout}${outcome.stderr}`).not.toMatch(/^nono: allowed/m);
  return outcome;
}

test("JSON means the same, and is one line for every reader of lines", () => {
  const value = { [hostile]: [hostile, "\uD800", "é 日本 🙂"], __proto__: null };
  const json = toJson(value);
  expect(JSON.parse(json)).toEqual({ ...value });
  expect(json).not.toMatch(unsafe);
  expect(json).toContain("é 日本 🙂");
});

test.for([
  "why --read",
  "why --socket",
  "why --exec",
  "why --host",
  "policy check",
  "policy",
  "keychain",
  "keychain set",
  "completions",
  "run --policy",
  "run --limit",
  "run --no-audit --",
  "shell --no-audit",
  "learn --format",
  "audit show",
  "rollback",
])("an argument is shown as text: nono %s", (words) => {
  const [command = "", ...rest] = words.split(" ");
  for (const flags of [[], ["--json"]]) {
    const { stdout } = shownBy([command, ...flags, ...rest, `./x${hostile}`]);
    if (flags.length > 0 && stdout !== "") expect(JSON.parse(stdout)).toBeTypeOf("object");
  }
});

test("so is what is no command", () => {
  const { stdout, stderr } = shownBy([`x${hostile}`, "--json"]);
  expect(JSON.parse(stdout)).toMatchObject({ error: { code: "ERR_NONO_INVALID_ARGV" } });
  expect(stderr).toContain(String.raw`There is no command x\u{1b}]0;title`);
});

test("the schema is one line with --json", () => {
  const { stdout } = nono(["policy", "schema", "--json"]);
  expect(stdout.trimEnd()).not.toContain("\n");
  expect(JSON.parse(stdout)).toHaveProperty("properties");
});

test("a policy with such names is shown as text, and as the same policy", () => {
  workspace.file("hostile.json", JSON.stringify({ read: [`/x${hostile}`] }));
  for (const flags of [[], ["--json"]]) {
    const { stdout } = shownBy(["policy", "print", "./hostile.json", ...flags]);
    expect(JSON.parse(stdout)).toMatchObject({ read: [`/x${hostile}`] });
  }
  workspace.file("wrong.json", JSON.stringify({ [hostile]: 1 }));
  expect(shownBy(["policy", "check", "./wrong.json"]).status).toBe(125);
});

function refused(...flags: readonly string[]): Outcome {
  const secret = path.join(workspace.directory, "secret");
  mkdirSync(secret, { recursive: true });
  writeFileSync(path.join(secret, `x${hostile}`), "");
  mkdirSync(path.join(workspace.directory, "work"), { recursive: true });
  const script =
    'cd ../secret 2>/dev/null; for name in "$1"/*; do cat "$name"; done 2>/dev/null; exit 1';
  const grants = ["--no-audit", "--no-private-tmp", "--policy", "shell", "--cwd", "work"];
  const traverse = ["--allow-read", secret, "--deny", `${secret}/x*`];
  const command = ["--", "sh", "-c", script, "sh", secret];
  return shownBy(["run", ...grants, ...traverse, ...flags, ...command]);
}

describe("what a command was refused", () => {
  test("is text on stderr", () => {
    expect(refused().stderr).toContain(String.raw`x\u{1b}]0;title\u{7}x`);
  });

  test("is one line of JSON with --json", () => {
    const { violations } = JSON.parse(refused("--json").stderr) as {
      violations: { path: string }[];
    };
    expect(violations.map(({ path: name }) => path.basename(name))).toContain(`x${hostile}`);
  });
});

describe("a learned policy", () => {
  const policy = { read: [`/x${hostile}'\\`] };

  test.for(["typescript", "json", "flags"] as const)("is text as %s", (format) => {
    expect(formatPolicy(policy, format, "/workspace")).not.toMatch(unsafe);
  });

  test("is the same policy as JSON and as flags", () => {
    expect(JSON.parse(formatPolicy(policy, "json", "/workspace"))).toEqual(policy);
    const script = `printf '%s\\n' ${formatPolicy(policy, "flags", "/workspace")}`;
    const { stdout } = spawnSync("bash", ["-c", script], { encoding: "utf8" });
    expect(stdout).toBe(`--allow-read\n${policy.read[0]}\n`);
  });
});
