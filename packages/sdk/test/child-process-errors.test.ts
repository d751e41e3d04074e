// What goes wrong, asked of node:child_process and of a sandbox: callers that look for ENOENT find it.
import nodeChildProcess, { type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { promisify } from "node:util";
import { afterAll, beforeAll, expect, test, vi } from "vitest";
import { type ChildProcessApi, inSandbox } from "../src/child_process.ts";
import { Sandbox } from "../src/index.ts";
import { useOwnState } from "./support/state.ts";

useOwnState();

let sandbox: Sandbox;
let sandboxed: ChildProcessApi;
beforeAll(() => {
  // A directory of PATH that this user may not enter makes another error of a program that is in none.
  vi.stubEnv("PATH", "/usr/bin:/bin");
  sandbox = new Sandbox({ audit: false }).use("shell");
  sandboxed = inSandbox(sandbox);
});
afterAll(async () => {
  await sandbox.close();
  vi.unstubAllEnvs();
});

type Told = Record<string, unknown>;

/** What programs look at in an error; its words are nono's own. */
function told(error: unknown): Told {
  const { name, code, errno, syscall, path, spawnargs, cmd, killed, signal, stdout, stderr } =
    error as Error & Told;
  return { name, code, errno, syscall, path, spawnargs, cmd, killed, signal, stdout, stderr };
}

async function failureOf(work: () => unknown): Promise<Told> {
  try {
    await work();
  } catch (error) {
    return told(error);
  }
  throw new Error("it did not fail");
}

/** How a child ends that can't be started. */
async function unstarted(child: ChildProcess): Promise<unknown> {
  const errors: Told[] = [];
  child.on("error", (error) => errors.push(told(error)));
  let output = "";
  const read = (async () => {
    for await (const chunk of child.stdout ?? []) output += String(chunk);
  })();
  const close = await new Promise((resolve) => {
    child.once("close", (...how) => resolve(how));
  });
  await read;
  return { errors, close, output, pid: child.pid, killed: child.kill() };
}

const odd = (value: unknown): string => value as string;

const cases: Readonly<Record<string, (api: ChildProcessApi) => unknown>> = {
  "a program that is not there": ({ spawn }) => unstarted(spawn("no-such-program", ["1", "2"])),
  "a file that is no program": ({ spawn }) => unstarted(spawn("/etc/passwd")),
  "a directory that is not there": ({ spawn }) => unstarted(spawn("ls", { cwd: "/no/such" })),
  "a shell that is not there": ({ spawn }) => unstarted(spawn("ls", { shell: "/no/shell" })),
  "execFile of nothing": ({ execFile }) => failureOf(() => promisify(execFile)("no-such", ["1"])),
  "an exit status": ({ exec }) => failureOf(() => promisify(exec)("echo a; echo b >&2; exit 3")),
  "a signal": ({ exec }) => failureOf(() => promisify(exec)("kill -9 $$")),
  "a timeout": ({ exec }) =>
    failureOf(() => promisify(exec)("sleep 9", { timeout: 300, killSignal: "SIGINT" })),
  "too much output": ({ execFile }) =>
    failureOf(() => promisify(execFile)("sh", ["-c", "printf 12345; sleep 9"], { maxBuffer: 3 })),
  "too much of stderr": ({ exec }) =>
    failureOf(() => promisify(exec)("printf 12345 >&2; sleep 9", { maxBuffer: 3 })),
  "an aborted call": ({ execFile }) =>
    failureOf(() => promisify(execFile)("sleep", ["9"], { signal: AbortSignal.timeout(300) })),
  "no program": ({ spawn }) => failureOf(() => spawn("")),
  "a number as program": ({ spawn }) => failureOf(() => spawn(odd(5))),
  "a text as arguments": ({ spawn }) => failureOf(() => spawn("ls", odd("-l") as never)),
  "a number as argument": ({ execFile }) => promisify(execFile)("echo", [odd(7)]),
  "a NUL byte": ({ spawn }) => failureOf(() => spawn("ls", ["a\0b"])),
  "a negative timeout": ({ spawn }) => failureOf(() => spawn("ls", { timeout: -1 })),
  "no such signal": ({ spawn }) =>
    failureOf(() => spawn("ls", { killSignal: odd("SIGNO") as "SIGHUP" })),
};

test.for(Object.keys(cases))("%s", async (name) => {
  const ask = cases[name];
  expect(await ask?.(sandboxed)).toEqual(await ask?.(nodeChildProcess));
});

test("a program that is not allowed is one without permission, and nono's error says so", async () => {
  const [error] = (await once(sandboxed.spawn("su"), "error")) as [Error];
  expect(error).toMatchObject({
    code: "EACCES",
    syscall: "spawn su",
    cause: { code: "ERR_NONO_EXEC_NOT_ALLOWED" },
  });
});

test("a listener that throws is no error of the child", async () => {
  const child = sandboxed.spawn("true");
  const errors: unknown[] = [];
  child.on("error", (error) => errors.push(error));
  const thrown = new Promise((resolve) => process.once("unhandledRejection", resolve));
  child.on("exit", () => {
    throw new Error("of the caller");
  });
  expect(await thrown).toMatchObject({ message: "of the caller" });
  expect(errors).toEqual([]);
});

test("promises have their child; values of variables are texts; unsaid streams are none", async () => {
  const { execFile, spawn } = sandboxed;
  const promise = promisify(execFile)("sh", ["-c", "echo $N"], {
    env: { N: 5 as unknown as string, U: undefined },
  });
  expect(promise.child.spawnfile).toBe("sh");
  expect((await promise).stdout).toBe("5\n");
  const child = spawn("true", { stdio: [null, undefined, "pipe", null] });
  const streams = child.stdio.map((stream) => stream !== null);
  await once(child, "close");
  expect(streams).toEqual([true, true, true, false]);
});

test("whoever waits for a child is told of the end of its sandbox", async () => {
  const own = new Sandbox({ audit: false }).use("shell");
  const child = inSandbox(own).spawn("sleep", ["60"]);
  await once(child, "spawn");
  const closed = once(child, "close");
  await own.close();
  expect(await closed).toEqual([null, "SIGKILL"]);
});
