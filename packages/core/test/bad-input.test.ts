import { chmodSync, symlinkSync, writeFileSync } from "node:fs";
import process from "node:process";
import { expect, test } from "vitest";
import {
  ArgumentError,
  type Capabilities,
  CapabilitiesError,
  createSandbox,
  ExecError,
  NonoError,
  PathError,
  type Path,
  type RunOptions,
  type SandboxOptions,
  type SpawnOptions,
} from "../src/index.ts";
import { childrenOf, openFiles } from "./processes.ts";
import { sandboxIn, Workspace } from "./workspace.ts";

/** What is wrong with the value may be more than the types allow: callers write JavaScript too. */
type Wrong<T> = { [K in keyof T]?: unknown } & Record<string, unknown>;

async function refusal(attempt: () => Promise<unknown>): Promise<NonoError> {
  try {
    await attempt();
  } catch (error) {
    if (error instanceof NonoError) return error;
    throw error;
  }
  throw new Error("it was not refused");
}

const missing = "/nonexistent/nono";

test.for<[string, Wrong<Capabilities>, string, typeof NonoError]>([
  ["a relative path", { read: ["src"] }, "ERR_NONO_INVALID_PATH", PathError],
  ["an empty path", { read: [""] }, "ERR_NONO_INVALID_PATH", PathError],
  ["a NUL byte", { write: ["/tmp\0/x"] }, "ERR_NONO_INVALID_PATH", PathError],
  ["a missing path to read", { read: [missing] }, "ERR_NONO_PATH_NOT_FOUND", PathError],
  ["a missing path to write", { write: [missing] }, "ERR_NONO_PATH_NOT_FOUND", PathError],
  ["a program not in PATH", { exec: ["no-such-program"] }, "ERR_NONO_EXEC_NOT_FOUND", ExecError],
  ["a string for a list", { read: "/etc" }, "ERR_NONO_INVALID_CAPABILITIES", CapabilitiesError],
  ["a number for a path", { read: [1] }, "ERR_NONO_INVALID_CAPABILITIES", CapabilitiesError],
  ["a misspelt key", { denny: ["/x"] }, "ERR_NONO_INVALID_CAPABILITIES", CapabilitiesError],
  ["an unknown network", { network: "off" }, "ERR_NONO_INVALID_CAPABILITIES", CapabilitiesError],
  [
    "a limit of 0",
    { limits: { processes: 0 } },
    "ERR_NONO_INVALID_CAPABILITIES",
    CapabilitiesError,
  ],
  [
    "a number for a variable",
    { env: { set: { A: 1 } } },
    "ERR_NONO_INVALID_CAPABILITIES",
    CapabilitiesError,
  ],
])("capabilities with %s are refused", async ([, capabilities, code, family]) => {
  const before = { files: openFiles().length, children: childrenOf(process.pid) };
  const error = await refusal(() => createSandbox(capabilities as Capabilities));
  expect(error.code).toBe(code);
  expect(error).toBeInstanceOf(family);
  expect(error.remedy).not.toBe("");
  expect(error).toHaveProperty("value");
  expect(openFiles()).toHaveLength(before.files);
  expect(childrenOf(process.pid)).toEqual(before.children);
});

test("capabilities that are no object are refused", async () => {
  for (const wrong of [null, 1, "read", []]) {
    const error = await refusal(() => createSandbox(wrong as Capabilities));
    expect(error.code).toBe("ERR_NONO_INVALID_CAPABILITIES");
  }
});

test("a dangling symbolic link is a missing path", async () => {
  using workspace = new Workspace();
  symlinkSync(missing, workspace.at("link"));
  const error = await refusal(() => createSandbox({ read: [workspace.at("link")] }));
  expect(error.code).toBe("ERR_NONO_PATH_NOT_FOUND");
});

test("options that do not exist are refused", async () => {
  for (const options of [
    { tier: "vm" },
    { allowDegraded: "net-tcp" },
    { observe: "some" },
    { observer: 1 },
  ]) {
    const error = await refusal(() => createSandbox({}, options as SandboxOptions));
    expect(error).toMatchObject({ code: "ERR_NONO_INVALID_OPTION" });
  }
});

test.for<[string, readonly unknown[], Wrong<SpawnOptions>, string]>([
  ["an empty argv", [], {}, "ERR_NONO_INVALID_ARGV"],
  ["an empty program", [""], {}, "ERR_NONO_INVALID_ARGV"],
  ["a NUL byte in the program", ["tr\0ue"], {}, "ERR_NONO_INVALID_ARGV"],
  ["a NUL byte in an argument", ["true", "a\0b"], {}, "ERR_NONO_INVALID_ARGV"],
  ["a number as argument", ["true", 1], {}, "ERR_NONO_INVALID_ARGV"],
  ["a program that is not there", [missing], {}, "ERR_NONO_PATH_NOT_FOUND"],
  ["a program not in PATH", ["no-such-program"], {}, "ERR_NONO_EXEC_NOT_FOUND"],
  ["a program that is not allowed", ["/usr/bin/od", "/dev/null"], {}, "ERR_NONO_EXEC_NOT_ALLOWED"],
  ["a relative cwd", ["true"], { cwd: "src" }, "ERR_NONO_INVALID_CWD"],
  ["a cwd that is not there", ["true"], { cwd: missing }, "ERR_NONO_INVALID_CWD"],
  ["a file as cwd", ["true"], { cwd: "/etc/passwd" }, "ERR_NONO_INVALID_CWD"],
  ["a NUL byte in a variable", ["true"], { env: { A: "a\0b" } }, "ERR_NONO_INVALID_ENV"],
  ["a = in a variable's name", ["true"], { env: { "A=B": "1" } }, "ERR_NONO_INVALID_ENV"],
  ["a number as variable", ["true"], { env: { A: 1 } }, "ERR_NONO_INVALID_ENV"],
  ["an unknown stdio", ["true"], { stdio: "tty" }, "ERR_NONO_INVALID_OPTION"],
  ["a negative descriptor", ["true"], { stdio: [-1] }, "ERR_NONO_INVALID_OPTION"],
  ["a misspelt option", ["true"], { dir: "/" }, "ERR_NONO_INVALID_OPTION"],
  ["a signal that is none", ["true"], { signal: {} }, "ERR_NONO_INVALID_OPTION"],
  ["a negative grace", ["true"], { killGrace: -1 }, "ERR_NONO_INVALID_OPTION"],
])("a command with %s is refused", async ([, argv, options, code]) => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const before = { files: openFiles().length, children: childrenOf(sandbox.pid) };
  const error = await refusal(
    () => sandbox.spawn(argv as Path[], { stdio: "ignore", ...options } as SpawnOptions).started,
  );
  expect(error).toMatchObject({ code });
  expect(error.remedy).not.toBe("");
  expect(childrenOf(sandbox.pid)).toEqual(before.children);
  expect(openFiles()).toHaveLength(before.files);
  expect((await sandbox.run(["true"])).exitCode).toBe(0);
});

test("a descriptor that is not open is refused", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const error = await refusal(() => sandbox.spawn(["true"], { stdio: [0, 987, 987] }).started);
  expect(error.code).toMatch(/ERR_NONO_(INVALID_OPTION|SPAWN_FAILED|INVALID_ARGV)/);
});

// Root enters any directory; the run as an ordinary user covers this.
test.skipIf(process.getuid?.() === 0)("a cwd that may not be entered is refused", async () => {
  using workspace = new Workspace();
  const closed = workspace.mkdir("closed");
  chmodSync(closed, 0o000);
  await using sandbox = await sandboxIn(workspace);
  const error = await refusal(() => sandbox.spawn(["true"], { cwd: closed }).started);
  chmodSync(closed, 0o700);
  expect(error.code).toBe("ERR_NONO_INVALID_CWD");
});

test("a file that is no program fails at execve, with the reason", async () => {
  using workspace = new Workspace();
  const file = workspace.at("program");
  writeFileSync(file, "\u007fELF but not really", { mode: 0o755 });
  await using sandbox = await sandboxIn(workspace, { exec: [file] });
  const error = await refusal(() => sandbox.spawn([file]).started);
  expect(error).toMatchObject({ code: "ERR_NONO_SPAWN_FAILED", details: { errno: "ENOEXEC" } });
});

test.for<[string, Wrong<RunOptions>]>([
  ["timeout", { timeout: -1 }],
  ["timeout", { timeout: Number.NaN }],
  ["timeout", { timeout: 2 ** 31 }],
  ["maxOutput", { maxOutput: 1.5 }],
  ["encoding", { encoding: "latin1" }],
  ["input", { input: 1 }],
  ["stdin", { stdin: "pipe" }],
  ["stdin", { stdin: "ignore", input: "text" }],
])("run refuses a wrong %s", async ([, options]) => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const error = await refusal(() => sandbox.run(["true"], options as { encoding?: "utf8" }));
  expect(error).toBeInstanceOf(ArgumentError);
});

test("a signal that does not exist is refused", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const child = sandbox.spawn(["sleep", "60"], { stdio: "ignore" });
  expect(() => child.kill("SIGNONE" as NodeJS.Signals)).toThrow(ArgumentError);
  expect(() => child.kill(65)).toThrow(ArgumentError);
  expect((await child.terminate()).signal).toBe("SIGTERM");
});
