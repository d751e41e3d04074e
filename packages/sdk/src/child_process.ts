/**
 * `spawn`, `execFile` and `exec` of `node:child_process`, in a sandbox: existing runners switch by
 * changing one import.
 *
 * ```ts
 * import { spawn } from "@nono/sdk/child_process"; // was "node:child_process"
 * ```
 *
 * The policy is the one that the variable `NONO_POLICY` of this process's environment names, with the
 * current directory as `$WORKSPACE`; without it, nothing is started. {@link inSandbox} gives the same
 * functions for a sandbox of one's own.
 *
 * What differs from Node: `pid` is undefined until `"spawn"`, and is the number inside the sandbox. Of
 * `env`, only what is not the same in this process's own environment is passed on: the rest is for the
 * policy to allow. A program that the policy does not allow is one without permission (`EACCES`); `cause` of an
 * error is nono's own, with its code and remedy. `detached` is always so, as everything ends with the sandbox.
 * Pipes beyond stderr can only be read. There is no IPC channel, no `uid`, `gid` and `argv0`, nothing
 * synchronous, and what is returned is no instance of Node's `ChildProcess`.
 *
 * @packageDocumentation
 */
import type { ChildProcess } from "node:child_process";
import process from "node:process";
import { ArgumentError } from "@nono/core";
import { type ChildProcessApi, childProcessApi } from "./child-process/api.ts";
import { Sandbox } from "./sandbox.ts";

export type {
  ChildProcessApi,
  ExecFunction,
  ExecFileFunction,
  SpawnFunction,
} from "./child-process/api.ts";
export type { ChildProcess };

/**
 * `spawn`, `execFile` and `exec` that run commands in `sandbox`. Close the sandbox to end them all.
 *
 * @example
 * ```ts
 * const { spawn } = inSandbox(new Sandbox().use("node").allowWrite("/workspace"));
 * const child = spawn("node", ["agent.js"], { cwd: "/workspace", stdio: "inherit" });
 * child.on("exit", (code) => console.log(code));
 * ```
 */
export function inSandbox(sandbox: Sandbox): ChildProcessApi {
  return childProcessApi(() => sandbox);
}

let shared: Sandbox | undefined;

function sandboxOfEnvironment(): Sandbox {
  if (shared) return shared;
  const policy = process.env["NONO_POLICY"];
  if (policy === undefined || policy === "") {
    throw new ArgumentError("ERR_NONO_INVALID_OPTION", "NONO_POLICY names no policy", {
      value: policy,
      remedy: "Set it to a preset or to the path of a policy file, or use inSandbox(sandbox).",
    });
  }
  shared = new Sandbox().use(policy);
  return shared;
}

const api: ChildProcessApi = childProcessApi(sandboxOfEnvironment);

/**
 * As `spawn` of `node:child_process`.
 *
 * @example
 * ```ts
 * const child = spawn("ls", ["-l"]);
 * child.stdout?.on("data", (chunk) => console.log(String(chunk)));
 * ```
 */
export const spawn: ChildProcessApi["spawn"] = api.spawn;

/**
 * As `execFile` of `node:child_process`; `util.promisify` gives its promise.
 *
 * @example
 * ```ts
 * execFile("ls", ["-l"], (error, stdout) => console.log(error, stdout));
 * ```
 */
export const execFile: ChildProcessApi["execFile"] = api.execFile;

/**
 * As `exec` of `node:child_process`: a command line for `/bin/sh`, which the policy must allow.
 *
 * @example
 * ```ts
 * exec("ls | wc -l", (error, stdout) => console.log(error, stdout));
 * ```
 */
export const exec: ChildProcessApi["exec"] = api.exec;
