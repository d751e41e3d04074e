import { Readable, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { setImmediate as turn } from "node:timers/promises";
import type { Path } from "./capabilities.ts";
import { InterruptedError } from "./errors.ts";
import type { Violation } from "./event.ts";
import type { SandboxEvents } from "./events.ts";
import type { Exit, SandboxedProcess, SpawnOptions, StdioOption } from "./process.ts";
import { isClosedPipe } from "./streams.ts";
import { checkRunOptions } from "./to-native.ts";

/** What a command reads on stdin. */
export type Input = string | Uint8Array | Readable;

/** Options of `Sandbox.run`. */
export interface RunOptions extends Pick<
  SpawnOptions,
  "cwd" | "env" | "pty" | "signal" | "killGrace"
> {
  /**
   * What the command reads on stdin. Default: nothing (`/dev/null`). With `pty` it is typed, and
   * then the end of input; and what the terminal shows, with the echo, is collected as stdout.
   */
  readonly input?: Input;
  /**
   * Where stdin leads when there is no `input`: to nothing (`"ignore"`, the default), to the owner's
   * (`"inherit"`), or to a descriptor of the owner.
   */
  readonly stdin?: Exclude<StdioOption, "pipe">;
  /** `"pipe"` (default) collects the output in the result; else see {@link StdioOption}. */
  readonly stdout?: StdioOption;
  /** The same for stderr. */
  readonly stderr?: StdioOption;
  /** Milliseconds after which the command is ended. Default: none. */
  readonly timeout?: number;
  /**
   * Bytes of each of stdout and stderr that are collected at most; a command that writes more is
   * killed, since the memory is the owner's. Default: 16 MiB.
   */
  readonly maxOutput?: number;
  /** `"utf8"` (default): output as text; `"buffer"`: as bytes. */
  readonly encoding?: "utf8" | "buffer";
}

/** The end of a command that was run, with what it wrote. */
export interface RunResult<Output extends string | Buffer = string> extends Exit {
  /** What it wrote to stdout; empty unless collected. */
  readonly stdout: Output;
  /** What it wrote to stderr; empty unless collected. */
  readonly stderr: Output;
  /** Whether a rule of the sandbox refused something that it or its children attempted. */
  readonly violatedPolicy: boolean;
  /** What was refused, oldest first; see `Sandbox.events` for how many are kept. */
  readonly violations: readonly Violation[];
}

type Spawn = (argv: readonly Path[], options: SpawnOptions) => SandboxedProcess;

/** Spawns a command, feeds it, collects its output, and waits for its end. */
export async function run(
  spawn: Spawn,
  events: SandboxEvents,
  argv: readonly Path[],
  options: RunOptions,
): Promise<RunResult<string | Buffer>> {
  checkRunOptions(options);
  const { input, maxOutput = 16 * 1024 * 1024, encoding = "utf8", timeout, signal } = options;
  if (signal?.aborted) throw aborted(argv, signal);

  const child = spawn(argv, {
    ...(options.cwd !== undefined && { cwd: options.cwd }),
    ...(options.env !== undefined && { env: options.env }),
    ...(options.killGrace !== undefined && { killGrace: options.killGrace }),
    ...(options.pty !== undefined && options.pty !== false
      ? { pty: options.pty }
      : {
          stdio: [
            input === undefined ? (options.stdin ?? "ignore") : "pipe",
            options.stdout ?? "pipe",
            options.stderr ?? "pipe",
          ],
        }),
  });

  let failure: ((result: RunResult<string | Buffer>) => unknown) | undefined;
  const endBecause = (reason: typeof failure, grace?: number): void => {
    if (failure) return;
    failure = reason;
    void child.terminate(grace).catch(() => {});
  };
  const onAbort = (): void => endBecause((result) => aborted(argv, signal!, result));
  const onTimeout = (): void => endBecause((result) => timedOut(argv, timeout!, result));
  const onOverflow = (): void => endBecause((result) => overflow(argv, maxOutput, result), 0);
  const onBadInput = (error: unknown): void => endBecause(() => error);

  const isPending = (): boolean => child.hasPendingOutput();
  const stdout = new Collector(child.terminal ?? child.stdout, maxOutput, onOverflow, isPending);
  const stderr = new Collector(child.stderr, maxOutput, onOverflow);
  signal?.addEventListener("abort", onAbort, { once: true });
  const timer = timeout === undefined ? undefined : setTimeout(onTimeout, timeout);
  try {
    const fed = feed(child.terminal ?? child.stdin, input).catch(onBadInput);
    const exit = await child.exited;
    child.stdin?.destroy();
    await Promise.all([stdout.drained(), stderr.drained()]);
    child.terminal?.destroy();
    await fed;
    const violations = events.takeOfCommand(await child.started);
    const result = {
      ...exit,
      stdout: stdout.take(encoding),
      stderr: stderr.take(encoding),
      violatedPolicy: violations.length > 0,
      violations,
    };
    if (failure) throw failure(result);
    return result;
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", onAbort);
    child.stdin?.destroy();
    stdout.close();
    stderr.close();
  }
}

/** What an unprivileged process can make a pipe hold: pipe(7), /proc/sys/fs/pipe-max-size. */
const pipeCapacity = 1024 * 1024;

/** Collects a stream in memory, up to a limit. */
class Collector {
  readonly #stream: Readable | null;
  readonly #isPending: () => boolean;
  readonly #chunks: Buffer[] = [];
  #size = 0;
  #ended: boolean;

  constructor(
    stream: Readable | null,
    limit: number,
    onOverflow: () => void,
    isPending: () => boolean = () => false,
  ) {
    this.#stream = stream;
    this.#isPending = isPending;
    this.#ended = stream === null;
    stream?.on("data", (chunk: Buffer) => {
      const room = limit - this.#size;
      if (room > 0) this.#chunks.push(room < chunk.length ? chunk.subarray(0, room) : chunk);
      this.#size += chunk.length;
      if (this.#size > limit) onOverflow();
    });
    stream?.once("close", () => (this.#ended = true));
    stream?.on("error", () => {});
  }

  /**
   * Waits, after the command's exit, until all it wrote has been read. What it wrote is in the pipe
   * by then, so this ends at the end of the stream, or at a turn of the event loop in which the pipe
   * was empty, or after as much as a pipe can hold. Not only at the end of the stream: a process that
   * the command left in the background may hold the pipe open, and write, until the sandbox closes.
   * A terminal's output comes by way of a thread: `isPending` tells while that holds some.
   */
  async drained(): Promise<void> {
    const end = this.#size + pipeCapacity;
    let before = -1;
    let wasPending = true;
    while (!this.#ended && (before !== this.#size || wasPending) && this.#size < end) {
      before = this.#size;
      wasPending = this.#isPending();
      // The first may still belong to the turn that is under way.
      await turn();
      await turn();
    }
  }

  take(encoding: "utf8" | "buffer"): string | Buffer {
    const all = Buffer.concat(this.#chunks);
    return encoding === "utf8" ? all.toString("utf8") : all;
  }

  close(): void {
    this.#stream?.destroy();
  }
}

/** Writes the input. That the command reads no more of it is the command's right, not an error. */
async function feed(stdin: Writable | null, input: Input = ""): Promise<void> {
  if (stdin === null) return;
  const source = input instanceof Readable ? input : Readable.from([Buffer.from(input)]);
  try {
    await pipeline(source, stdin);
  } catch (error) {
    if (!isClosedPipe(error)) throw error;
  }
}

function aborted(
  [program]: readonly Path[],
  signal: AbortSignal,
  result?: RunResult<string | Buffer>,
): InterruptedError {
  return new InterruptedError("ERR_NONO_ABORTED", `${String(program)} was aborted`, {
    value: program,
    cause: signal.reason,
    ...(result && { result }),
  });
}

function timedOut(
  [program]: readonly Path[],
  timeout: number,
  result: RunResult<string | Buffer>,
): InterruptedError {
  return new InterruptedError(
    "ERR_NONO_TIMEOUT",
    `${String(program)} was ended after ${timeout} ms`,
    { value: timeout, remedy: "Give it more time with the option timeout.", result },
  );
}

function overflow(
  [program]: readonly Path[],
  limit: number,
  result: RunResult<string | Buffer>,
): InterruptedError {
  return new InterruptedError(
    "ERR_NONO_OUTPUT_LIMIT",
    `${String(program)} wrote more than ${limit} bytes`,
    {
      value: limit,
      remedy: "Raise maxOutput, or use spawn and read its streams.",
      result,
    },
  );
}
