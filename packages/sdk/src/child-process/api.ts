import type {
  ChildProcess,
  exec as nodeExec,
  execFile as nodeExecFile,
  ExecFileException,
  ExecFileOptions,
  spawn as nodeSpawn,
  SpawnOptions,
} from "node:child_process";
import { promisify } from "node:util";
import type { Sandbox } from "../sandbox.ts";
import { SandboxedChild } from "./child.ts";
import { wrongType } from "./options.ts";

/** The type of Node's `spawn`. */
export type SpawnFunction = typeof nodeSpawn;
/** The type of Node's `execFile`. */
export type ExecFileFunction = typeof nodeExecFile;
/** The type of Node's `exec`. */
export type ExecFunction = typeof nodeExec;

/**
 * What `node:child_process` has, and can be had in a sandbox.
 *
 * @example
 * ```ts
 * const api: ChildProcessApi = inSandbox(new Sandbox().use("python").allowWrite("/workspace"));
 * const { stdout } = await promisify(api.execFile)("python3", ["agent.py"], { cwd: "/workspace" });
 * ```
 */
export interface ChildProcessApi {
  /** Starts a program whose streams the caller reads and writes. */
  readonly spawn: SpawnFunction;
  /** Runs a program and calls back with its output. */
  readonly execFile: ExecFileFunction;
  /** Runs a command line by `/bin/sh` and calls back with its output. */
  readonly exec: ExecFunction;
}

type Callback = (
  error: ExecFileException | null,
  stdout: string | Buffer,
  stderr: string | Buffer,
) => void;

/** The functions, for the sandbox that `sandboxFor` gives when the first of them is called. */
export function childProcessApi(sandboxFor: () => Sandbox): ChildProcessApi {
  const spawn = (file: string, ...rest: unknown[]): ChildProcess => {
    const { args, options } = split(rest);
    return new SandboxedChild(sandboxFor(), file, args, options).asChildProcess();
  };
  const execFile = (file: string, ...rest: unknown[]): ChildProcess => {
    const { args, options, callback } = split(rest);
    const child = new SandboxedChild(sandboxFor(), file, args, { ...options, stdio: "pipe" });
    if (callback) child.collect([file, ...args].join(" "), options, callback);
    return child.asChildProcess();
  };
  const exec = (command: string, ...rest: unknown[]): ChildProcess => {
    const { options, callback } = split(rest);
    return execFile(command, { shell: true, ...options }, callback);
  };
  // The overloads are Node's; what they have in common is checked above.
  return {
    spawn: spawn as SpawnFunction,
    execFile: withPromise(execFile) as unknown as ExecFileFunction,
    exec: withPromise(exec) as unknown as ExecFunction,
  };
}

/** `(args?, options?, callback?)`, each of which may be left out. */
function split(rest: readonly unknown[]): {
  args: readonly string[];
  options: SpawnOptions & ExecFileOptions;
  callback: Callback | undefined;
} {
  const wrong = rest.find((value) => !["object", "undefined", "function"].includes(typeof value));
  if (wrong !== undefined) throw wrongType("args", "object", wrong);
  return {
    // Node, too, makes a text of whatever it is given.
    args: (rest.find((value): value is unknown[] => Array.isArray(value)) ?? []).map(String),
    options: rest.find(isOptions) ?? {},
    callback: rest.find((value) => typeof value === "function") as Callback | undefined,
  };
}

function isOptions(value: unknown): value is object {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** `util.promisify` resolves to both streams, as Node documents it for these functions. */
function withPromise(
  run: (file: string, ...rest: unknown[]) => ChildProcess,
): (file: string, ...rest: unknown[]) => ChildProcess {
  const asPromise = (file: string, ...rest: unknown[]): Promise<unknown> => {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    const child = run(file, ...rest, ((error, stdout, stderr) => {
      if (error) reject(Object.assign(error, { stdout, stderr }));
      else resolve({ stdout, stderr });
    }) satisfies Callback);
    return Object.assign(promise, { child });
  };
  return Object.assign(run, { [promisify.custom]: asPromise });
}
