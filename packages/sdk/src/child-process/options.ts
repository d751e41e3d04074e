// Node's options as the sandbox understands them.
import type { IOType, SpawnOptions, StdioOptions } from "node:child_process";
import { constants } from "node:os";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { ArgumentError, type SpawnOptions as CommandOptions, type StdioOption } from "@nono/core";
import { invalidArgument } from "./node-errors.ts";

/**
 * Refuses what Node refuses at once.
 *
 * @throws TypeError, RangeError with Node's codes.
 */
export function checkCall(file: string, args: readonly string[], options: SpawnOptions): void {
  if (typeof file !== "string") throw wrongType("file", "string", file);
  if (file === "") {
    throw invalidArgument("ERR_INVALID_ARG_VALUE", "The argument 'file' cannot be empty");
  }
  for (const [at, text] of [file, ...args].entries()) {
    const name = at === 0 ? "file" : `args[${at - 1}]`;
    if (!text.includes("\0")) continue;
    const message = `The argument '${name}' must be a string without null bytes`;
    throw invalidArgument("ERR_INVALID_ARG_VALUE", message);
  }
  const { timeout, killSignal } = options;
  if (timeout !== undefined && timeout !== null && !(Number.isInteger(timeout) && timeout >= 0)) {
    const message = 'The value of "timeout" is out of range. It must be an unsigned integer';
    throw Object.assign(new RangeError(message), { code: "ERR_OUT_OF_RANGE" });
  }
  if (killSignal !== undefined && killSignal !== null) knownSignal(killSignal);
}

/** What is neither arguments, options nor a callback. */
export function wrongType(name: string, type: string, value: unknown): TypeError {
  const message = `The "${name}" argument must be of type ${type}. Received type ${typeof value}`;
  return invalidArgument("ERR_INVALID_ARG_TYPE", message);
}

/**
 * A signal that there is, in whatever case.
 *
 * @throws TypeError `ERR_UNKNOWN_SIGNAL`, as Node.
 */
export function knownSignal(signal: NodeJS.Signals | number): NodeJS.Signals | number {
  const name = typeof signal === "string" ? signal.toUpperCase() : signal;
  const isKnown =
    typeof name === "string"
      ? Object.hasOwn(constants.signals, name)
      : name === 0 || Object.values(constants.signals).includes(name);
  if (isKnown) return name as NodeJS.Signals | number;
  throw invalidArgument("ERR_UNKNOWN_SIGNAL", `Unknown signal: ${signal}`);
}

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
  const given = Object.entries(env).filter(([, value]) => value !== undefined);
  // Node, too, makes a text of whatever it is given.
  const texts = given.map(([name, value]) => [name, String(value)] as const);
  return Object.fromEntries(texts.filter(([name, text]) => process.env[name] !== text));
}

function stdioOf(stdio: StdioOptions = "pipe"): StdioOption[] {
  if (typeof stdio === "string") return [one(stdio), one(stdio), one(stdio)];
  const [stdin, stdout, stderr, ...more] = stdio;
  return [
    ...[stdin, stdout, stderr].map(one),
    // Beyond the three, what is not said is nothing.
    ...more.map((option) => one(option ?? "ignore")),
  ];
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
