// The same program against node:child_process and @nono/sdk/child_process: what a caller sees is the same.
import nodeChildProcess, { type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type ChildProcessApi,
  inSandbox,
  spawn as spawnByEnvironment,
} from "../src/child_process.ts";
import { Sandbox } from "../src/index.ts";
import { useOwnState } from "./support/state.ts";

useOwnState();

let workspace: string;
let sandbox: Sandbox;
let sandboxed: ChildProcessApi;
beforeAll(() => {
  workspace = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-cp-")));
  sandbox = new Sandbox().use("shell").allowWrite(workspace);
  sandboxed = inSandbox(sandbox);
});
afterAll(async () => {
  await sandbox.close();
  rmSync(workspace, { recursive: true, force: true });
});

const both = [
  ["node:child_process", (): ChildProcessApi => nodeChildProcess],
  ["a sandbox", (): ChildProcessApi => sandboxed],
] as const;

/** What a caller can see of a child, in order. */
async function observe(child: ChildProcess): Promise<unknown[]> {
  const seen: unknown[] = [];
  let output = "";
  for (const event of ["spawn", "exit", "close"]) {
    child.on(event, (...values: unknown[]) => seen.push([event, ...values]));
  }
  child.stdout?.on("data", (chunk) => (output += String(chunk)));
  await once(child, "close");
  return [...seen, output, child.exitCode, child.signalCode, child.killed];
}

describe.for(both)("%s", ([, api]) => {
  test("events, output and exit code", async () => {
    const child = api().spawn("sh", ["-c", "cat; exit 3"], { cwd: workspace });
    child.stdin.end("typed");
    expect(await observe(child)).toEqual([
      ["spawn"],
      ["exit", 3, null],
      ["close", 3, null],
      "typed",
      3,
      null,
      false,
    ]);
    expect(child.pid).toBeGreaterThan(0);
  });

  test("a signal, even one that is sent at once", async () => {
    const child = api().spawn("sleep", ["60"]);
    expect(child.kill()).toBe(true);
    const seen = await observe(child);
    expect(seen).toContainEqual(["close", null, "SIGTERM"]);
    expect(child.killed).toBe(true);
    expect(child.kill()).toBe(false);
  });

  test("a timeout", async () => {
    const child = api().spawn("sleep", ["60"], { timeout: 200, killSignal: "SIGKILL" });
    expect(await observe(child)).toContainEqual(["exit", null, "SIGKILL"]);
  });

  test("an aborted signal", async () => {
    const controller = new AbortController();
    const child = api().spawn("sleep", ["60"], { signal: controller.signal });
    const errors: Error[] = [];
    child.on("error", (error) => errors.push(error));
    child.once("spawn", () => controller.abort());
    const signal = await new Promise((resolve) => {
      child.once("close", (_, name) => resolve(name));
    });
    expect(signal).toBe("SIGTERM");
    expect(errors).toMatchObject([{ name: "AbortError", code: "ABORT_ERR" }]);
  });

  test("a program that does not exist is an error event", async () => {
    const child = api().spawn("no-such-program");
    const [error] = (await once(child, "error")) as [Error];
    expect(error.message).toContain("no-such-program");
    expect(child.pid).toBeUndefined();
  });

  test("exec and execFile call back, or promise", async () => {
    const { exec, execFile } = api();
    const asked = await promisify(execFile)("sh", ["-c", "echo out; echo err >&2"]);
    expect(asked).toEqual({ stdout: "out\n", stderr: "err\n" });
    await expect(promisify(exec)("exit 7")).rejects.toMatchObject({ code: 7, killed: false });
    const line = await new Promise((resolve) => {
      exec("printf a | tr a b", (error, stdout) => resolve([error, stdout]));
    });
    expect(line).toEqual([null, "b"]);
    const flood = promisify(execFile)("sh", ["-c", "yes | head -c 100000"], { maxBuffer: 1000 });
    await expect(flood).rejects.toMatchObject({ code: "ERR_CHILD_PROCESS_STDIO_MAXBUFFER" });
  });
});

test("only what the caller has set is passed on of the environment", async () => {
  process.env["CP_SECRET"] = "secret";
  const env = { ...process.env, CP_SET: "set" };
  const { stdout } = await promisify(sandboxed.execFile)("env", [], { env });
  delete process.env["CP_SECRET"];
  expect(stdout).toContain("CP_SET=set");
  expect(stdout).not.toContain("CP_SECRET");
});

test("it is a sandbox", async () => {
  const read = promisify(sandboxed.exec)("cat /etc/shadow");
  await expect(read).rejects.toMatchObject({ code: 1 });
  await expect(once(sandboxed.spawn("su"), "spawn")).rejects.toMatchObject({ code: "EACCES" });
});

test("what can't be had is refused at once", () => {
  for (const options of [{ uid: 0 }, { argv0: "x" }, { stdio: ["ipc" as const] }]) {
    expect(() => sandboxed.spawn("true", [], options)).toThrow("can't be had in a sandbox");
  }
});

test("by import alone, the policy comes from the environment, and must", async () => {
  expect(() => spawnByEnvironment("true")).toThrow("NONO_POLICY");
  process.env["NONO_POLICY"] = "shell";
  try {
    const child = spawnByEnvironment("sh", ["-c", "echo it"], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    expect(await observe(child)).toContain("it\n");
  } finally {
    delete process.env["NONO_POLICY"];
  }
});
