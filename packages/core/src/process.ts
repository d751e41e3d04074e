import { constants } from "node:os";
import type { Duplex, Readable, Writable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import type { NativeChild } from "./binding.gen.ts";
import type { Path } from "./capabilities.ts";
import { ArgumentError } from "./errors.ts";
import { native, nativeAsync } from "./native-errors.ts";
import { discardIfUnread, openDuplex, openReadable, openWritable } from "./streams.ts";
import { toNativeTerminalSize } from "./to-native.ts";

/**
 * Where a file descriptor of the command leads: `"pipe"` to a stream of the owner, `"ignore"` to
 * `/dev/null`, `"inherit"` to the owner's descriptor of the same number, a number to that descriptor
 * of the owner (which stays open and the owner's).
 */
export type StdioOption = "pipe" | "ignore" | "inherit" | number;

/** Options of `Sandbox.spawn`. */
export interface SpawnOptions {
  /**
   * Absolute path of the working directory. Default: the first writable directory of the
   * capabilities, else the first readable one, else `/`.
   */
  readonly cwd?: Path;
  /** Variables added to the sandbox's environment for this command. */
  readonly env?: Readonly<Record<string, string>>;
  /**
   * One option for all of stdin, stdout and stderr, or a list by descriptor number. Default:
   * `"pipe"`. A pipe that nobody reads fills up and blocks the command: use `"ignore"` for it.
   */
  readonly stdio?: StdioOption | readonly StdioOption[];
  /**
   * Runs the command on a terminal of its own, which is its stdin, stdout, stderr and controlling
   * terminal; the owner's end is `SandboxedProcess.terminal`. `true`: 80 columns, 24 rows. Excludes
   * `stdio`. `TERM` is `"xterm-256color"` unless the environment says otherwise. Default: no terminal.
   */
  readonly pty?: boolean | TerminalSize;
  /** Aborting it ends the command: SIGTERM, then SIGKILL after `killGrace`. */
  readonly signal?: AbortSignal;
  /** Milliseconds between SIGTERM and SIGKILL. Default: 2000. */
  readonly killGrace?: number;
}

/** The size of a terminal, in characters, each from 1 to 65535. */
export interface TerminalSize {
  /** Characters in a line. */
  readonly columns: number;
  /** Lines. */
  readonly rows: number;
}

/** How a command ended, and what it used. */
export interface Exit {
  /** Its exit code; null when a signal ended it. */
  readonly exitCode: number | null;
  /** The signal that ended it; null when it exited by itself. */
  readonly signal: NodeJS.Signals | null;
  /** What it and its awaited children used. */
  readonly usage: Usage;
  /**
   * The limit that ended it, as far as that can be told; null: none. `"memory"` (only with a control
   * group): the sandbox's memory was used up while it ran, and the kernel killed a process.
   */
  readonly exceeded: "memory" | "cpuSeconds" | "fileSize" | "wallSeconds" | null;
}

/** Resources used by a command. */
export interface Usage {
  /** Processor time in user mode, in milliseconds. */
  readonly userMs: number;
  /** Processor time in the kernel, in milliseconds. */
  readonly systemMs: number;
  /** Largest resident set of one process, in bytes. */
  readonly maxRssBytes: number;
  /** Most memory, in bytes, of the sandbox as a whole until then; if a control group limits it. */
  readonly peakMemoryBytes?: number;
  /** Most processes and threads of the sandbox at a time until then; if a control group limits them. */
  readonly peakProcesses?: number;
}

/**
 * A command that runs in a sandbox. Made by `Sandbox.spawn`.
 *
 * @example
 * ```ts
 * const child = sandbox.spawn(["git", "log"]);
 * child.stdout?.pipe(process.stdout);
 * const { exitCode } = await child.exited;
 * ```
 */
export class SandboxedProcess {
  /** Stream into descriptor 0, if that is a pipe. */
  readonly stdin: Writable | null;
  /** Stream out of descriptor 1, if that is a pipe. */
  readonly stdout: Readable | null;
  /** Stream out of descriptor 2, if that is a pipe. */
  readonly stderr: Readable | null;
  /** All streams by descriptor number: 0 writable, the others readable. */
  readonly stdio: readonly (Writable | Readable | null)[];
  /**
   * The owner's end of its terminal, with `pty`. What is written arrives as if typed (Ctrl-C is
   * `"\x03"`); what is read is what the command shows. `end()` types the end of input, Ctrl-D;
   * `destroy()` hangs up, which the command is told by SIGHUP. It ends when no process has the
   * terminal open any more. Read it: a command that shows more than a terminal holds waits for that.
   *
   * @example
   * ```ts
   * const child = sandbox.spawn(["bash"], { pty: { columns: 120, rows: 40 } });
   * process.stdin.setRawMode(true).pipe(child.terminal!).pipe(process.stdout);
   * process.stdout.on("resize", () => child.resize(process.stdout.columns, process.stdout.rows));
   * ```
   */
  readonly terminal: Duplex | null;
  /**
   * Process id of the command, once the kernel has executed the program: the one that the command
   * itself sees. In the tier `flat` the owner sees the same; `namespaces` numbers from 1.
   * Rejects with {@link StartError} when a step before that failed.
   */
  readonly started: Promise<number>;
  /** How the command ended. Rejects like `started` when it never ran. */
  readonly exited: Promise<Exit>;

  readonly #native: NativeChild;
  readonly #killGrace: number;

  /** @internal */
  constructor(child: NativeChild, options: SpawnOptions) {
    this.#native = child;
    this.#killGrace = options.killGrace ?? 2000;
    this.stdio = child.stdio.map((fd, index) => {
      if (fd === null) return null;
      return index === 0 ? openWritable(fd) : openReadable(fd);
    });
    const [stdin = null, stdout = null, stderr = null] = this.stdio;
    this.stdin = stdin as Writable | null;
    this.stdout = stdout as Readable | null;
    this.stderr = stderr as Readable | null;
    this.terminal = child.terminal === null ? null : openDuplex(child.terminal);
    this.started = nativeAsync(() => child.started());
    this.exited = this.#exit();
    // Whoever cares awaits one of the two; the other must not count as an unhandled rejection.
    this.started.catch(() => {});
    this.exited.catch(() => {});
    if (options.signal) this.#endOnAbort(options.signal);
  }

  /**
   * Sends a signal to the command and every process in its process group. Has no effect when they
   * are gone.
   *
   * @param signal Name or number. Default: `"SIGTERM"`.
   * @throws {@link ArgumentError} for a signal that does not exist.
   */
  kill(signal: NodeJS.Signals | number = "SIGTERM"): void {
    const number = signalNumber(signal);
    native(() => this.#native.kill(number));
  }

  /**
   * Changes the size of its terminal; its foreground processes are told by SIGWINCH. Has no effect
   * without a terminal, or when that is closed.
   *
   * @throws {@link ArgumentError} for a size that no terminal can have.
   */
  resize(columns: number, rows: number): void {
    const size = toNativeTerminalSize({ columns, rows }, "The size");
    native(() => this.#native.resize(size));
  }

  /**
   * Ends the command: SIGTERM, and SIGKILL when it has not exited after the grace period.
   *
   * @param grace Milliseconds. Default: the `killGrace` of `spawn`.
   * @returns How it ended.
   */
  async terminate(grace: number = this.#killGrace): Promise<Exit> {
    const stop = new AbortController();
    this.kill("SIGTERM");
    const timer = delay(grace, undefined, { signal: stop.signal }).then(
      () => this.kill("SIGKILL"),
      () => {},
    );
    try {
      return await this.exited;
    } finally {
      stop.abort();
      await timer;
    }
  }

  /** Ends the command and closes the streams that nobody reads. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.terminate().catch(() => {});
    this.closeUnread();
  }

  /** @internal Called when the sandbox is closed: everything that could write is gone. */
  closeUnread(): void {
    this.stdin?.destroy();
    for (const stream of [...this.stdio.slice(1), this.terminal]) {
      if (stream) discardIfUnread(stream as Readable);
    }
  }

  /** @internal Whether its terminal has shown something that is not in the stream yet. */
  hasPendingOutput(): boolean {
    return this.#native.hasPendingOutput();
  }

  async #exit(): Promise<Exit> {
    await this.started;
    const { code, signal, ...rest } = await nativeAsync(() => this.#native.exited());
    return { exitCode: code, signal: signal === null ? null : signalName(signal), ...rest };
  }

  #endOnAbort(signal: AbortSignal): void {
    const end = (): void => void this.terminate().catch(() => {});
    if (signal.aborted) return end();
    signal.addEventListener("abort", end, { once: true });
    const forget = (): void => signal.removeEventListener("abort", end);
    this.exited.then(forget, forget);
  }
}

function signalName(number: number): NodeJS.Signals {
  const found = Object.entries(constants.signals).find(([, value]) => value === number);
  // Real-time signals have no name of their own in Node.
  return (found?.[0] ?? `SIGRTMIN+${number - 34}`) as NodeJS.Signals;
}

function signalNumber(signal: NodeJS.Signals | number): number {
  const number = typeof signal === "number" ? signal : constants.signals[signal];
  if (Number.isInteger(number) && number >= 0 && number <= 64) return number;
  throw new ArgumentError("ERR_NONO_INVALID_OPTION", `There is no signal ${String(signal)}`, {
    value: signal,
    remedy: 'Give a name such as "SIGTERM" or a number from 0 to 64.',
  });
}
