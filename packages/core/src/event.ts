import { constants } from "node:os";
import type { NativeEvent, NativeEvents, NativeProcess, NativeSuggestion } from "./binding.gen.ts";
import type { Path } from "./capabilities.ts";

/** What a command can attempt. */
export type Operation = NativeEvent["operation"];

/** A process inside a sandbox, as it was when it attempted something. */
export interface EventProcess {
  /** Its process id outside the sandbox. */
  readonly pid: number;
  /** Its program; empty if the kernel would not say. */
  readonly executable: Path;
  /** Its arguments. Only of violations, as is all below; at most 64 of them. */
  readonly arguments: readonly Path[];
  /** Its working directory. */
  readonly cwd: Path;
  /** The programs of its parents, up to the command. */
  readonly chain: readonly Path[];
  /**
   * Where in its code: `module+offset` of the return addresses found on its stack, innermost first,
   * for a symbolizer. At most 16; old addresses may be among them.
   */
  readonly frames: readonly string[];
}

/** One attempt of a command, allowed or refused. */
export interface SandboxEvent {
  /** What was attempted. */
  readonly operation: Operation;
  /**
   * The path that it was about, as the kernel names it: without symbolic links. Of a script that was
   * executed, its interpreter.
   */
  readonly path?: Path;
  /** The path as the command named it; of a script that was executed, the script. */
  readonly asked?: Path;
  /** The second path of a rename or link. */
  readonly to?: Path;
  /** The address of a socket. */
  readonly address?: string;
  /**
   * The name of a system call that sandboxes refuse whatever it is about; of a socket with its kind, such
   * as `socket(AF_INET, SOCK_RAW)`.
   */
  readonly systemCall?: string;
  /** The code that a process ends with by itself (`"exit"`). What a signal ends is no attempt. */
  readonly exitCode?: number;
  /** `"denied"`: a rule of the sandbox refused it. What failed by itself counts as allowed. */
  readonly verdict: "allowed" | "denied";
  /**
   * Why the kernel let it fail, such as `"ENOENT"`; null: it succeeded. Undefined: nobody looked, since
   * no rule refuses it (reading, giving a socket an address, a connection that takes its time).
   */
  readonly errno?: string | null;
  /** True: a rule would have refused it, and `onRequest` let it pass. */
  readonly approved?: true;
  /** Who attempted it. */
  readonly process: EventProcess;
  /** How many attempts this stands for: more than one when they came faster than they were read. */
  readonly count: number;
  /** When the first of them was made, in milliseconds since 1970. */
  readonly time: number;
  /** The same in milliseconds since the machine started. */
  readonly monotonic: number;
}

/** A change of the capabilities that would let a refused attempt pass. */
export interface Suggestion {
  /** The member of `Capabilities` to add to; `"deny"`: to take something out of. */
  readonly capability: "read" | "write" | "exec" | "unixSockets" | "network" | "deny";
  /** What to add or take out. */
  readonly value: Path;
  /** The same as a call of `Sandbox` of `@nono/sdk`, for people. */
  readonly call: string;
}

/** An attempt that a rule of the sandbox refused. */
export interface Violation extends SandboxEvent {
  readonly verdict: "denied";
  /** What refused it. */
  readonly layer: "landlock" | "mounts" | "supervisor" | "seccomp";
  /**
   * `"not-granted"`: nothing allows it. `"denied"`: a `deny` holds for it. `"protected"`: programs
   * outside the sandbox take orders from this path.
   */
  readonly reason: "not-granted" | "denied" | "protected";
  /** The rule in words. */
  readonly rule: string;
  /**
   * The narrowest grant that would let it pass. Undefined: there is none, or it would open so much
   * (a home directory as a whole) that nobody should grant it.
   */
  readonly suggestion?: Suggestion;
}

/** Attempts that nobody read in time: they were counted, but not kept. */
export interface EventGap {
  /** Attempts that were not refused. */
  readonly allowed: number;
  /** Violations. */
  readonly denied: number;
}

/** An event together with what its process belongs to. */
export interface AttributedEvent {
  readonly event: SandboxEvent | Violation;
  /** Process ids inside of which one may be a command's. */
  readonly commands: readonly number[];
}

/**
 * Whether a rule of the sandbox refused it.
 *
 * @example
 * ```ts
 * for await (const event of sandbox.events) {
 *   if (isViolation(event)) console.error(event.operation, String(event.path), event.rule);
 * }
 * ```
 */
export function isViolation(event: SandboxEvent): event is Violation {
  return event.verdict === "denied";
}

/** Events of the native addon in this package's terms. */
export function fromNative({ events, processes }: NativeEvents): AttributedEvent[] {
  const callers = processes.map(callerOf);
  return events.map((native) => {
    const { process, commands } = callers[native.process]!;
    return { event: eventOf(native, process), commands };
  });
}

function callerOf({ command, session, ...process }: NativeProcess): {
  process: EventProcess;
  commands: readonly number[];
} {
  return { process, commands: [command, session].filter((pid) => pid > 0) };
}

function eventOf(native: NativeEvent, process: EventProcess): SandboxEvent | Violation {
  const { operation, path, asked, to, address, systemCall, exitCode, errno, refused } = native;
  const common: Omit<SandboxEvent, "verdict"> = {
    operation,
    ...(path !== undefined && { path }),
    ...(asked !== undefined && { asked }),
    ...(to !== undefined && { to }),
    ...(address !== undefined && { address }),
    ...(systemCall !== undefined && { systemCall }),
    ...(exitCode !== undefined && { exitCode }),
    ...(errno !== undefined && { errno: errnoName(errno) }),
    ...(native.approved && { approved: true as const }),
    process,
    count: native.count,
    time: native.time,
    monotonic: native.monotonic,
  };
  if (refused === undefined) return { ...common, verdict: "allowed" };
  const { layer, reason, rule, suggestion } = refused;
  return {
    ...common,
    verdict: "denied",
    layer,
    reason,
    rule,
    ...(suggestion !== undefined && { suggestion: describe(suggestion) }),
  };
}

const methods: Record<Suggestion["capability"], string> = {
  read: "allowRead",
  write: "allowWrite",
  exec: "allowExec",
  unixSockets: "allowUnixSocket",
  network: "allowNetwork",
  deny: "deny",
};

/** A suggestion with the call that people would write. */
export function describe({ capability, value }: NativeSuggestion): Suggestion {
  const call = `${methods[capability]}(${JSON.stringify(String(value))})`;
  return { capability, value, call: capability === "deny" ? `without ${call}` : call };
}

/** Of a number with two names, the first is the one that Node's own errors have. */
const errnoNames = new Map(
  Object.entries(constants.errno)
    .toReversed()
    .map(([name, value]) => [value, name]),
);

function errnoName(errno: number): string | null {
  return errno === 0 ? null : (errnoNames.get(errno) ?? `E${errno}`);
}
