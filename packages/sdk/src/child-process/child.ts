// A ChildProcess, as Node's callers know it, for a command in a sandbox. Node returns one at once; a
// sandbox may have to be built first, so its streams are connected when the command has started.
import type {
  ChildProcess,
  ExecFileException,
  ExecFileOptions,
  SpawnOptions,
} from "node:child_process";
import { EventEmitter } from "node:events";
import process from "node:process";
import { PassThrough, type Readable, type Writable } from "node:stream";
import { finished } from "node:stream/promises";
import type { Exit, SandboxedProcess } from "@nono/core";
import type { Sandbox } from "../sandbox.ts";
import { startFailure, tooMuchOutput } from "./node-errors.ts";
import { argvOf, checkCall, commandOptions, knownSignal } from "./options.ts";

/** Node's default of `maxBuffer`. */
const defaultMaxBuffer = 1024 * 1024;

/** One command. Emits `spawn`, `error`, `exit` and `close`, in Node's order. */
export class SandboxedChild extends EventEmitter {
  readonly stdin: PassThrough | null;
  readonly stdout: PassThrough | null;
  readonly stderr: PassThrough | null;
  readonly stdio: readonly (PassThrough | null)[];
  readonly spawnfile: string;
  readonly spawnargs: readonly string[];
  readonly connected = false;
  readonly channel = null;
  pid: number | undefined;
  exitCode: number | null = null;
  signalCode: NodeJS.Signals | null = null;
  killed = false;
  #process: SandboxedProcess | undefined;
  readonly #early: (NodeJS.Signals | number)[] = [];

  constructor(sandbox: Sandbox, file: string, args: readonly string[], options: SpawnOptions) {
    super();
    checkCall(file, args, options);
    const argv = argvOf(file, args, options);
    const command = commandOptions(options);
    this.spawnfile = argv[0] ?? file;
    this.spawnargs = argv;
    this.stdio = (command.stdio as readonly unknown[]).map((kind) =>
      kind === "pipe" ? new PassThrough() : null,
    );
    [this.stdin = null, this.stdout = null, this.stderr = null] = this.stdio;
    const stopWaiting = this.#endEarly(options);
    void this.#run(() => sandbox.spawn(argv, command)).finally(stopWaiting);
  }

  /** As Node's: true if a signal was sent, or will be when the command has started. */
  kill(name: NodeJS.Signals | number = "SIGTERM"): boolean {
    const signal = knownSignal(name);
    if (this.exitCode !== null || this.signalCode !== null) return false;
    if (this.#process) this.#process.kill(signal);
    else this.#early.push(signal);
    this.killed = true;
    return true;
  }

  /** Commands never keep this process alive by themselves. */
  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }

  [Symbol.dispose](): void {
    this.kill();
  }

  /** What it is to its callers; members for IPC are left out. */
  asChildProcess(): ChildProcess {
    return this as unknown as ChildProcess;
  }

  /** Calls back with the whole output, as `execFile` does; `cmd` is what errors say was run. */
  collect(
    cmd: string,
    { encoding = "utf8", maxBuffer = defaultMaxBuffer }: ExecFileOptions,
    callback: (
      error: ExecFileException | null,
      stdout: string | Buffer,
      stderr: string | Buffer,
    ) => void,
  ): void {
    let overflow: RangeError | undefined;
    const outputs = (["stdout", "stderr"] as const).map((name) =>
      gather(this[name], maxBuffer, () => {
        overflow ??= tooMuchOutput(name);
        this.kill();
      }),
    );
    const text = (): (string | Buffer)[] =>
      outputs.map((chunks) => {
        const all = Buffer.concat(chunks).subarray(0, maxBuffer);
        return encoding === null || encoding === "buffer"
          ? all
          : all.toString(encoding as BufferEncoding);
      });
    let isDone = false;
    const done = (failure: object | null): void => {
      if (isDone) return;
      isDone = true;
      const [stdout = "", stderr = ""] = text();
      callback(failure as ExecFileException | null, stdout, stderr);
    };
    this.once("error", (error: Error) => done(Object.assign(error, { cmd })));
    this.once("close", (code: number | null, signal: NodeJS.Signals | null) => {
      if (overflow) return done(Object.assign(overflow, { cmd }));
      if (code === 0) return done(null);
      const failure = new Error(`Command failed: ${cmd}\n${String(text()[1])}`);
      done(Object.assign(failure, { code, killed: this.killed, signal, cmd }));
    });
  }

  /** Ends it on `timeout` and `signal`; returns what takes both back. */
  #endEarly({ timeout, signal, killSignal = "SIGTERM" }: SpawnOptions): () => void {
    const timer = timeout ? setTimeout(() => this.kill(killSignal), timeout) : undefined;
    const onAbort = (): void => {
      if (!this.kill(killSignal)) return;
      const error = new Error("The operation was aborted", { cause: signal?.reason });
      this.emit("error", Object.assign(error, { name: "AbortError", code: "ABORT_ERR" }));
    };
    signal?.addEventListener("abort", onAbort, { once: true });
    if (signal?.aborted) process.nextTick(onAbort); // when the caller listens
    return () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    };
  }

  async #run(start: () => Promise<SandboxedProcess>): Promise<void> {
    let command: SandboxedProcess;
    try {
      command = await start();
      this.pid = await command.started;
    } catch (error) {
      return this.#fail(startFailure(error, this.spawnargs));
    }
    this.#process = command;
    this.emit("spawn");
    for (const signal of this.#early.splice(0)) command.kill(signal);
    const flushed = this.#connect(command);
    this.#end(await command.exited);
    await flushed;
    this.emit("close", this.exitCode, this.signalCode);
  }

  /** As Node's: an error, and the end of all streams. */
  #fail(error: unknown): void {
    const { errno = -1 } = error as NodeJS.ErrnoException;
    this.exitCode = errno;
    this.stdin?.destroy();
    for (const stream of this.stdio.slice(1)) stream?.end();
    // Once whoever reads the streams has seen their end.
    setImmediate(() => this.emit("close", errno, null));
    this.emit("error", error);
  }

  /** Resolves when all that the command has written has been handed on. */
  async #connect(command: SandboxedProcess): Promise<void> {
    const [stdin, ...outputs] = command.stdio;
    stdin?.on("error", () => {}); // that it reads no more is the command's right
    if (stdin) this.stdin?.pipe(stdin as Writable);
    for (const [at, theirs] of outputs.entries()) {
      const ours = this.stdio[at + 1];
      if (ours && theirs) (theirs as Readable).pipe(ours);
    }
    const ends = outputs.map((theirs) => theirs && finished(theirs).catch(() => {}));
    await Promise.all(ends.filter((end) => end !== null));
  }

  #end({ exitCode, signal }: Exit): void {
    this.exitCode = exitCode;
    this.signalCode = signal;
    this.stdin?.destroy();
    this.emit("exit", exitCode, signal);
  }
}

function gather(stream: Readable | null, limit: number, onOverflow: () => void): readonly Buffer[] {
  const chunks: Buffer[] = [];
  let size = 0;
  stream?.on("data", (chunk: Buffer) => {
    const before = size;
    size += chunk.length;
    if (before <= limit) chunks.push(chunk);
    if (before <= limit && size > limit) onOverflow();
  });
  return chunks;
}
