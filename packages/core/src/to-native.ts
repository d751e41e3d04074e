// Copies plain data for the native addon, refusing what is not of the declared shape. Strict because
// the caller may be JavaScript or a parsed file: a misspelt `deny`, or the string "/etc" where a
// list belongs, must not silently become a weaker policy.
import { Readable } from "node:stream";
import type {
  NativeCapabilities,
  NativeCommand,
  NativeMount,
  NativeOptions,
  NativeQuestion,
  NativeTerminalSize,
} from "./binding.gen.ts";
import type { Capabilities, Path, SandboxOptions } from "./capabilities.ts";
import { ArgumentError, CapabilitiesError, type NonoError } from "./errors.ts";
import type { Question } from "./explain.ts";
import type { SpawnOptions, StdioOption } from "./process.ts";
import type { RunOptions } from "./run.ts";
import { guaranteeNames } from "./support.ts";

type Refuse = (what: string, value: unknown, expected: string) => NonoError;

const refuseCapability: Refuse = (what, value, expected) =>
  new CapabilitiesError("ERR_NONO_INVALID_CAPABILITIES", `${what} is not ${expected}`, {
    value,
    remedy: `Give ${expected}.`,
  });

const refuseOption: Refuse = (what, value, expected) =>
  new ArgumentError("ERR_NONO_INVALID_OPTION", `${what} is not ${expected}`, {
    value,
    remedy: `Give ${expected}.`,
  });

const refuseArgv: Refuse = (what, value, expected) =>
  new ArgumentError("ERR_NONO_INVALID_ARGV", `${what} is not ${expected}`, {
    value,
    remedy: `Give ${expected}: the program first, then its arguments.`,
  });

const refuseEnv: Refuse = (what, value, expected) =>
  new ArgumentError("ERR_NONO_INVALID_ENV", `${what} is not ${expected}`, {
    value,
    remedy: `Give ${expected}.`,
  });

/** The argument of the native `createSandbox`. */
export function toNativeCapabilities(capabilities: Capabilities): NativeCapabilities {
  const refuse = refuseCapability;
  const known = [
    "read",
    "write",
    "exec",
    "deny",
    "protect",
    "scratch",
    "network",
    "gatePorts",
    "localhostPorts",
    "publish",
    "unixSockets",
    "env",
    "limits",
    "privateTmp",
    "baseProfile",
  ];
  const given = fields(capabilities, "The capabilities", known, refuse);
  const { read, write, exec, deny, protect, network, gatePorts, localhostPorts, publish } = given;
  const { scratch, unixSockets, env, limits, privateTmp, baseProfile } = given;
  return {
    ...(read !== undefined && { read: paths(read, "read", refuse) }),
    ...(write !== undefined && { write: paths(write, "write", refuse) }),
    ...(exec !== undefined && { exec: paths(exec, "exec", refuse) }),
    ...(deny !== undefined && { deny: paths(deny, "deny", refuse) }),
    ...(protect !== undefined && { protect: flag(protect, "protect", refuse) }),
    ...(network !== undefined && {
      network: oneOf(network, "network", ["blocked", "gate", "open"], refuse),
    }),
    ...(gatePorts !== undefined && { gatePorts: ports(gatePorts, "gatePorts", refuse) }),
    ...(localhostPorts !== undefined && {
      localhostPorts: ports(localhostPorts, "localhostPorts", refuse),
    }),
    ...(publish !== undefined && { publish: ports(publish, "publish", refuse) }),
    ...(scratch !== undefined && { scratch: paths(scratch, "scratch", refuse) }),
    ...(unixSockets !== undefined && { unixSockets: paths(unixSockets, "unixSockets", refuse) }),
    ...(env !== undefined && { env: environment(env) }),
    ...(limits !== undefined && { limits: numbers(limits) }),
    ...(privateTmp !== undefined && { privateTmp: flag(privateTmp, "privateTmp", refuse) }),
    ...(baseProfile !== undefined && { baseProfile: flag(baseProfile, "baseProfile", refuse) }),
  };
}

/** The options of the native `createSandbox`. */
export function toNativeOptions(options: SandboxOptions): NativeOptions {
  const refuse = refuseOption;
  const known = ["tier", "allowDegraded", "observe", "mounts", "onRequest", "approvalTimeout"];
  const given = fields(options, "The options", known, refuse);
  const { tier, allowDegraded, observe, mounts, onRequest, approvalTimeout } = given;
  if (onRequest !== undefined && typeof onRequest !== "function") {
    throw refuse("onRequest", onRequest, "a function");
  }
  if (approvalTimeout !== undefined) milliseconds(approvalTimeout, "approvalTimeout");
  return {
    ...(mounts !== undefined && {
      mounts: list(mounts, "mounts", refuse).map((item, index) => mount(item, `mounts[${index}]`)),
    }),
    ...(observe !== undefined && {
      observe: oneOf(observe, "observe", ["off", "changes", "all"], refuse),
    }),
    ...(tier !== undefined && { tier: oneOf(tier, "tier", ["namespaces", "flat"], refuse) }),
    ...(allowDegraded !== undefined && {
      allowDegraded: list(allowDegraded, "allowDegraded", refuse).map((name, index) =>
        oneOf(name, `allowDegraded[${index}]`, guaranteeNames, refuse),
      ),
    }),
  };
}

function mount(value: unknown, what: string): NativeMount {
  const refuse = refuseOption;
  const known = ["type", "target", "lower", "upper", "work"];
  const { type, target, lower, upper, work } = fields(value, what, known, refuse);
  oneOf(type, `${what}.type`, ["overlay"], refuse);
  if (String(lower) !== String(target)) {
    throw refuse(`${what}.lower`, lower, "the same path as the target");
  }
  return {
    target: aPath(target, `${what}.target`, refuse),
    upper: aPath(upper, `${what}.upper`, refuse),
    work: aPath(work, `${what}.work`, refuse),
  };
}

/** The argument of the native `explain`. */
export function toNativeQuestion(question: Question): NativeQuestion {
  const refuse = refuseOption;
  const known = ["path", "access", "exec", "port", "unixSocket", "env"];
  const given = fields(question, "The question", known, refuse);
  const { path, access, exec, port, unixSocket, env } = given;
  const subjects = [path, exec, port, unixSocket, env].filter((subject) => subject !== undefined);
  if (subjects.length !== 1) {
    throw refuse("The question", question, "about one of path, exec, port, unixSocket and env");
  }
  if (access !== undefined && path === undefined) {
    throw refuse("access", access, "together with a path");
  }
  return {
    ...(path !== undefined && { path: aPath(path, "path", refuse) }),
    ...(access !== undefined && {
      access: oneOf(access, "access", ["read", "write", "execute"], refuse),
    }),
    ...(exec !== undefined && { exec: aPath(exec, "exec", refuse) }),
    ...(port !== undefined && { port: ports([port], "port", refuse)[0] as number }),
    ...(unixSocket !== undefined && { unixSocket: aPath(unixSocket, "unixSocket", refuse) }),
    ...(env !== undefined && { env: strings([env], "env", refuse)[0] as string }),
  };
}

/** The argument of the native `spawn`. */
export function toNativeCommand(argv: readonly Path[], options: SpawnOptions): NativeCommand {
  const known = ["cwd", "env", "stdio", "pty", "signal", "killGrace"];
  const given = fields(options, "The options", known, refuseOption);
  const { cwd, env, stdio, pty = false, signal, killGrace } = given;
  if (signal !== undefined) abortSignal(signal);
  if (killGrace !== undefined) milliseconds(killGrace, "killGrace");
  const command = paths(argv, "argv", refuseArgv);
  if (command.length === 0) throw refuseArgv("argv", argv, "a list with at least the program");
  return {
    argv: command,
    ...(cwd !== undefined && { cwd: aPath(cwd, "cwd", refuseOption) }),
    ...(env !== undefined && { env: variables(env, "env", refuseEnv) }),
    ...(pty === false
      ? { stdio: toNativeStdio(stdio as SpawnOptions["stdio"]) }
      : { stdio: [], terminal: terminal(pty, stdio) }),
  };
}

/** The argument of the native `resize`. */
export function toNativeTerminalSize(size: unknown, what: string): NativeTerminalSize {
  const { columns, rows } = fields(size, what, ["columns", "rows"], refuseOption);
  if (isPositiveUint16(columns) && isPositiveUint16(rows)) return { columns, rows };
  throw refuseOption(what, size, "{ columns, rows } with whole numbers from 1 to 65535");
}

function terminal(pty: unknown, stdio: unknown): NativeTerminalSize {
  if (stdio !== undefined) throw refuseOption("stdio", stdio, "absent where there is a pty");
  if (pty === true) return { columns: 80, rows: 24 };
  return toNativeTerminalSize(pty, "pty");
}

/** Refuses options of `run` that are not of the declared shape; those of `spawn` follow later. */
export function checkRunOptions(options: RunOptions): void {
  const ofSpawn = ["cwd", "env", "pty", "signal", "killGrace"];
  const streams = ["input", "stdin", "stdout", "stderr"];
  const known = [...ofSpawn, ...streams, "timeout", "maxOutput", "encoding"];
  const given = fields(options, "The options", known, refuseOption);
  const { input, timeout, maxOutput, encoding, signal, pty = false, stdin, stdout, stderr } = given;
  if (pty !== false && (stdin ?? stdout ?? stderr) !== undefined) {
    const stream = stdin ?? stdout ?? stderr;
    throw refuseOption("stdin, stdout or stderr", stream, "absent where there is a pty");
  }
  if (stdin === "pipe" || (stdin !== undefined && input !== undefined)) {
    throw refuseOption(
      "stdin",
      stdin,
      '"ignore", "inherit" or a descriptor, and absent with input',
    );
  }
  if (timeout !== undefined) milliseconds(timeout, "timeout");
  if (maxOutput !== undefined && !(Number.isSafeInteger(maxOutput) && (maxOutput as number) >= 0)) {
    throw refuseOption("maxOutput", maxOutput, "a whole number of bytes");
  }
  if (encoding !== undefined) oneOf(encoding, "encoding", ["utf8", "buffer"], refuseOption);
  if (signal !== undefined) abortSignal(signal);
  const isInput =
    input === undefined ||
    typeof input === "string" ||
    input instanceof Uint8Array ||
    input instanceof Readable;
  if (!isInput) throw refuseOption("input", input, "a string, a Uint8Array or a Readable");
}

function ports(value: unknown, what: string, refuse: Refuse): number[] {
  if (Array.isArray(value) && value.every(isPositiveUint16)) return value;
  throw refuse(what, value, "a list of port numbers from 1 to 65535");
}

function isPositiveUint16(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) > 0 && (value as number) <= 65_535;
}

function milliseconds(value: unknown, what: string): void {
  // More than this, and Node's timers fire at once.
  if (typeof value === "number" && value >= 0 && value <= 2 ** 31 - 1) return;
  throw refuseOption(what, value, "a number of milliseconds from 0 to 2147483647");
}

function abortSignal(value: unknown): void {
  if (!(value instanceof AbortSignal)) throw refuseOption("signal", value, "an AbortSignal");
}

function toNativeStdio(stdio: SpawnOptions["stdio"] = "pipe"): (string | number)[] {
  const list = Array.isArray(stdio) ? (stdio as readonly StdioOption[]) : [stdio, stdio, stdio];
  const padded = [...list, ...Array.from({ length: Math.max(0, 3 - list.length) }, () => "pipe")];
  return padded.map((option, fd) => {
    if (option === "inherit") return fd;
    if (option === "pipe" || option === "ignore") return option;
    if (typeof option === "number" && Number.isInteger(option) && option >= 0) return option;
    throw refuseOption(`stdio[${fd}]`, option, '"pipe", "ignore", "inherit" or a file descriptor');
  });
}

function environment(env: unknown): NonNullable<NativeCapabilities["env"]> {
  const { allow, set } = fields(env, "env", ["allow", "set"], refuseCapability);
  return {
    ...(allow !== undefined && { allow: strings(allow, "env.allow", refuseCapability) }),
    ...(set !== undefined && { set: variables(set, "env.set", refuseCapability) }),
  };
}

function numbers(limits: unknown): NonNullable<NativeCapabilities["limits"]> {
  const whole = ["memory", "processes", "openFiles", "fileSize", "cpuSeconds", "wallSeconds"];
  const given = fields(limits, "limits", [...whole, "cpus"], refuseCapability);
  for (const [name, value] of Object.entries(given)) {
    if (name === "cpus") {
      const isNumber = typeof value === "number" && Number.isFinite(value) && value > 0;
      if (!isNumber) throw refuseCapability("limits.cpus", value, "a number of processors");
    } else if (!Number.isSafeInteger(value) || (value as number) <= 0) {
      throw refuseCapability(`limits.${name}`, value, "a positive whole number");
    }
  }
  return given;
}

function fields(
  value: unknown,
  what: string,
  known: readonly string[],
  refuse: Refuse,
): Record<string, unknown> {
  const object = record(value, what, refuse);
  const stray = Object.keys(object).find((key) => !known.includes(key));
  if (stray !== undefined) throw refuse(`"${stray}"`, stray, `one of ${known.join(", ")}`);
  return object;
}

/** The entries that are not undefined: `{ read: undefined }` means the same as `{}`. */
function record(value: unknown, what: string, refuse: Refuse): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw refuse(what, value, "a plain object");
  }
  return Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== undefined));
}

function variables(value: unknown, what: string, refuse: Refuse): Record<string, string> {
  const object = record(value, what, refuse);
  for (const [name, text] of Object.entries(object)) {
    if (typeof text !== "string") throw refuse(`${what}.${name}`, text, "a string");
  }
  return object as Record<string, string>;
}

function list(value: unknown, what: string, refuse: Refuse): readonly unknown[] {
  if (!Array.isArray(value)) throw refuse(what, value, "a list");
  return value;
}

function paths(value: unknown, what: string, refuse: Refuse): (string | Uint8Array)[] {
  return list(value, what, refuse).map((item, index) => aPath(item, `${what}[${index}]`, refuse));
}

function aPath(value: unknown, what: string, refuse: Refuse): string | Uint8Array {
  if (typeof value === "string" || value instanceof Uint8Array) return value;
  throw refuse(what, value, "a string or a Uint8Array");
}

function strings(value: unknown, what: string, refuse: Refuse): string[] {
  return list(value, what, refuse).map((item, index) => {
    if (typeof item !== "string") throw refuse(`${what}[${index}]`, item, "a string");
    return item;
  });
}

function oneOf<const T extends string>(
  value: unknown,
  what: string,
  allowed: readonly T[],
  refuse: Refuse,
): T {
  const found = allowed.find((name) => name === value);
  if (found !== undefined) return found;
  throw refuse(what, value, `one of ${allowed.map((name) => `"${name}"`).join(", ")}`);
}

function flag(value: unknown, what: string, refuse: Refuse): boolean {
  if (typeof value !== "boolean") throw refuse(what, value, "true or false");
  return value;
}
