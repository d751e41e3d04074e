// Node's options as the sandbox understands them.
import type { IOType, SpawnOptions, StdioOptions } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { ArgumentError, type SpawnOptions as CommandOptions, type StdioOption } from "@nono/core";

/** The command line; `shell` makes one of it, as Node does. */
export function argvOf(
  file: string,
  args: readonly string[],
  { shell }: Pick<SpawnOptions, "shell">,
): readonly string[] {
  if (shell === undefined || shell === false) return [file, ...args];
  return [shell === true ? "/bin/sh" : shell, "-c", [file, ...args].join(" ")];
}

/**
 * The options of {@link Sandbox.spawn} for those of Node.
 *
 * @throws {@link ArgumentError} for what a sandboxed command can't have.
 */
export function commandOptions(options: SpawnOptions): CommandOptions {
  for (const name of ["uid", "gid", "argv0"] as const) {
    if (options[name] !== undefined) throw unsupported(name, options[name]);
  }
  const { cwd, env, stdio } = options;
  return {
    ...(cwd !== undefined && { cwd: cwd instanceof URL ? fileURLToPath(cwd) : cwd }),
    ...(env && { env: ownVariables(env) }),
    stdio: stdioOf(stdio),
  };
}

/** What the caller has set, as opposed to what it has handed on with `...process.env`. */
function ownVariables(env: NodeJS.ProcessEnv): Record<string, string> {
  const set = Object.entries(env).filter(
    (entry): entry is [string, string] =>
      entry[1] !== undefined && process.env[entry[0]] !== entry[1],
  );
  return Object.fromEntries(set);
}

function stdioOf(stdio: StdioOptions = "pipe"): StdioOption[] {
  if (typeof stdio === "string") return [one(stdio), one(stdio), one(stdio)];
  const [stdin, stdout, stderr, ...more] = stdio;
  return [stdin, stdout, stderr, ...more].map(one);
}

function one(option: Exclude<StdioOptions, IOType>[number]): StdioOption {
  if (option === undefined || option === null || option === "overlapped") return "pipe";
  if (option === "pipe" || option === "ignore" || option === "inherit") return option;
  if (typeof option === "number") return option;
  if (typeof option === "object" && "fd" in option && typeof option.fd === "number")
    return option.fd;
  throw unsupported("stdio", option);
}

function unsupported(name: string, value: unknown): ArgumentError {
  return new ArgumentError("ERR_NONO_INVALID_OPTION", `${name} can't be had in a sandbox`, {
    value,
    remedy: "Leave it out; the module's documentation lists what differs from Node.",
  });
}
