// The command when it is held wrongly, or stands where it can't work.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { main, nono } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";

useOwnState();

let workspace: string;
beforeAll(() => {
  workspace = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-edges-")));
});
afterAll(() => rmSync(workspace, { recursive: true, force: true }));

const run = (...flags: string[]): ReturnType<typeof nono> => {
  const command = ["--", "sh", "-c", "echo x > ran"];
  return nono(["run", "--no-audit", "--allow-write", ".", ...flags, ...command], {
    cwd: workspace,
  });
};

test.for([
  ["--timeout", "0"],
  ["--timeout", "1e99"],
  ["--timeout", "2147484"],
  ["--json-fd", "99"],
  ["--json-fd", "1"],
  ["--credential", "X"],
  ["--limit", "processes"],
  ["--nope"],
])("nothing is run with %s", (flags) => {
  const { status, stdout, stderr } = run(...flags);
  expect({ status, stdout }).toEqual({ status: 125, stdout: "" });
  expect(stderr).toMatch(/^nono: .* \(ERR_NONO_INVALID_OPTION\)\nnono: .+\n$/);
  expect(existsSync(path.join(workspace, "ran"))).toBe(false);
});

describe("errors are JSON too", () => {
  test.for(["run", "shell"])("on stderr, in the first line: nono %s", (name) => {
    const { stdout, stderr } = nono([name, "--json", "--nope"]);
    expect(stdout).toBe("");
    const error = { code: "ERR_NONO_INVALID_OPTION", message: "there is no flag --nope" };
    expect(JSON.parse(stderr.split("\n")[0] ?? "")).toMatchObject({ error });
  });

  test("of every layer", () => {
    const env = { ...process.env, XDG_STATE_HOME: "/proc" };
    const flags = ["--no-audit", "--rollback", "--allow-write", ".", "--json"];
    const { stderr } = nono(["run", ...flags, "--", "true"], { cwd: workspace, env });
    const error = { code: "ERR_NONO_ROLLBACK_IO" };
    expect(JSON.parse(stderr.split("\n")[0] ?? "")).toMatchObject({ error });
  });

  test("but what the program is given asks for nothing", () => {
    expect(nono(["run", "--nope", "--", "sh", "--json"]).stderr).not.toContain("{");
  });
});

test("a result that nobody reads, or that has no room, is an error of nono's own", () => {
  const command = `${process.execPath} ${main} run --no-audit --allow-read .`;
  const statusOf = (line: string): string =>
    spawnSync("bash", ["-c", `${line}; echo $?`], { cwd: workspace, encoding: "utf8" }).stdout;
  expect(statusOf(`${command} --json-fd 3 -- true 3>/dev/full 2>told`)).toBe("125\n");
  const told = readFileSync(path.join(workspace, "told"), "utf8");
  expect(told).toMatch(/^nono: The result can't be written to descriptor 3 \(ENOSPC\) .*\n.*\n$/);
  expect(statusOf(`${command} --json -- true 2>/dev/full`)).toBe("125\n");
  expect(statusOf(`${command} --json -- true 2> >(true)`)).toBe("125\n");
  expect(statusOf(`${command} -- false 2>/dev/full`)).toBe("1\n");
});

test("a guarantee that there is none of is no gap that can be accepted", () => {
  const { status, stdout, stderr } = nono(["run", "--allow-degraded", "net-tpc", "--", "true"]);
  expect({ status, stdout }).toEqual({ status: 125, stdout: "" });
  expect(stderr).toContain("there is no guarantee net-tpc (ERR_NONO_INVALID_OPTION)");
  expect(stderr).toContain("Did you mean net-tcp?");
});

test("help of a command is had by its name, too", () => {
  expect(nono(["help", "why"])).toEqual(nono(["why", "--help"]));
  expect(nono(["help", "nope"]).stdout).toBe(nono(["--help"]).stdout);
});

test("a directory whose name is not UTF-8 is said to be that", () => {
  const name = Buffer.concat([Buffer.from(`${workspace}/n`), Buffer.from([0xff])]);
  mkdirSync(name);
  const script = `cd ${workspace}/n* && ${process.execPath} ${main} run --allow-write . -- true`;
  const { status, stderr } = spawnSync("sh", ["-c", script], { encoding: "utf8" });
  expect(status).toBe(125);
  expect(stderr).toContain("is not UTF-8, and Node can't tell it (ERR_NONO_INVALID_CWD)");
});
