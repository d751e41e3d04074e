import { setTimeout } from "node:timers/promises";
import { approver } from "./approval.ts";
import type { NativeSandbox } from "./binding.gen.ts";
import { binding } from "./binding.ts";
import type { Capabilities, Path, SandboxOptions } from "./capabilities.ts";
import { SandboxClosedError } from "./errors.ts";
import { SandboxEvents } from "./events.ts";
import { answer, type Explanation, type Question } from "./explain.ts";
import { native, nativeAsync } from "./native-errors.ts";
import { SandboxedProcess, type SpawnOptions } from "./process.ts";
import { type GateListener, gateListener } from "./gate.ts";
import { run, type RunOptions, type RunResult } from "./run.ts";
import type { Guarantee } from "./support.ts";
import {
  toNativeCapabilities,
  toNativeCommand,
  toNativeOptions,
  toNativeQuestion,
} from "./to-native.ts";

/** Milliseconds that a command is given to start when the sandbox is closed; it takes one or two. */
const startTime = 1000;

/**
 * Builds a sandbox: kernel objects for exactly these capabilities, and the first process that will
 * watch over the commands. No command runs yet. When it throws, nothing has been started.
 *
 * @throws {@link CapabilitiesError}, {@link PathError}, {@link ExecError} or {@link LimitError} for
 *   capabilities that make no sense here.
 * @throws {@link UnsupportedPolicyError} when this kernel can't enforce them.
 * @throws {@link UnsupportedPlatformError} when there is no native part for this platform.
 * @throws {@link StartError} when the kernel refuses to build the sandbox.
 * @example
 * ```ts
 * await using sandbox = await createSandbox({
 *   read: ["/workspace"],
 *   write: ["/workspace/output"],
 *   exec: ["python3"],
 * });
 * const { exitCode, stdout } = await sandbox.run(["python3", "agent.py"], { cwd: "/workspace" });
 * ```
 */
export async function createSandbox(
  capabilities: Capabilities = {},
  options: SandboxOptions = {},
): Promise<Sandbox> {
  const declared = toNativeCapabilities(capabilities);
  const chosen = toNativeOptions(options);
  const { onRequest, approvalTimeout = 60_000 } = options;
  const ask = onRequest && approver(onRequest, approvalTimeout);
  return new Sandbox(await nativeAsync(() => binding().createSandbox(declared, chosen, ask)));
}

/**
 * A sandbox in which commands run. Made by {@link createSandbox}. All commands of one sandbox see
 * each other; two sandboxes share nothing. Everything inside ends with `close()`, and with the
 * owner's process, however that ends.
 */
export class Sandbox {
  /** What its commands attempt, as far as the option `observe` says. */
  readonly events: SandboxEvents;
  readonly #native: NativeSandbox;
  readonly #processes = new Set<SandboxedProcess>();
  #closing: Promise<void> | undefined;

  /** @internal */
  constructor(sandbox: NativeSandbox) {
    this.#native = sandbox;
    this.events = new SandboxEvents(sandbox);
  }

  /** The tier that was built: `"namespaces"` or `"flat"`. */
  get tier(): string {
    return this.#native.tier;
  }

  /** Process id of the sandbox's first process. */
  get pid(): number {
    return this.#native.pid;
  }

  /**
   * The ports of 127.0.0.1 at which servers inside are reached, by the port that was to be published.
   *
   * @example
   * ```ts
   * const sandbox = await createSandbox({ publish: [3000], exec: ["node"] });
   * sandbox.spawn(["node", "server.js"]);
   * await fetch(`http://127.0.0.1:${sandbox.published.get(3000)}/`);
   * ```
   */
  get published(): ReadonlyMap<number, number> {
    return new Map(native(() => this.#native.published));
  }

  /** Each promise of this sandbox, and how far it holds on this machine. */
  get guarantees(): readonly Guarantee[] {
    return native(() => this.#native.guarantees()) as Guarantee[];
  }

  /**
   * Starts a command. Returns at once; `started` of the result tells when the program runs.
   *
   * @param argv The program (absolute path, or a name looked up in the `PATH` of the sandbox's
   *   environment), then its arguments.
   * @throws {@link ArgumentError} or {@link ExecError} for a command that can't run here.
   * @throws {@link SandboxClosedError} after `close()`.
   * @example
   * ```ts
   * const child = sandbox.spawn(["grep", "-c", "error"], { stdio: ["pipe", "pipe", "inherit"] });
   * logs.pipe(child.stdin!);
   * for await (const chunk of child.stdout!) console.log(String(chunk));
   * ```
   */
  spawn(argv: readonly Path[], options: SpawnOptions = {}): SandboxedProcess {
    const command = toNativeCommand(argv, options);
    this.#refuseIfClosed();
    const process = new SandboxedProcess(
      native(() => this.#native.spawn(command)),
      options,
    );
    void this.#remember(process);
    return process;
  }

  /**
   * Runs a command to its end and collects its output. An exit code other than 0 is a result, not
   * an error. Processes that the command leaves in the background live on until `close()`, but
   * their output is no longer collected.
   *
   * @throws {@link ArgumentError} or {@link ExecError} for a command that can't run here.
   * @throws {@link StartError} when the kernel refused to start it.
   * @throws {@link InterruptedError} when `timeout`, `signal` or `maxOutput` ended it.
   * @throws {@link SandboxClosedError} after `close()`.
   * @example
   * ```ts
   * const { exitCode, stdout } = await sandbox.run(["sort"], { input: "b\na\n", timeout: 5000 });
   * ```
   */
  run(
    argv: readonly Path[],
    options: RunOptions & { readonly encoding: "buffer" },
  ): Promise<RunResult<Buffer>>;
  run(
    argv: readonly Path[],
    options?: RunOptions & { readonly encoding?: "utf8" },
  ): Promise<RunResult>;
  run(argv: readonly Path[], options: RunOptions = {}): Promise<RunResult<string | Buffer>> {
    const spawn = (command: readonly Path[], spawnOptions: SpawnOptions): SandboxedProcess =>
      this.spawn(command, spawnOptions);
    return run(spawn, this.events, argv, options);
  }

  /**
   * Says what this sandbox does with something that has not been attempted.
   *
   * @throws {@link ArgumentError}, {@link PathError} or {@link ExecError} for a question that makes no
   *   sense here.
   * @example
   * ```ts
   * const { allowed, rule } = sandbox.explain({ path: "/workspace/.git/config", access: "write" });
   * ```
   */
  explain(question: Question): Explanation {
    const asked = toNativeQuestion(question);
    return answer(() => this.#native.explain(asked));
  }

  /**
   * Hands out the sockets of `network: "gate"`, once: later calls, and other networks, give none.
   * Serve them before the first command runs, so that there is nothing to race for.
   *
   * @example
   * ```ts
   * const sandbox = await createSandbox({ network: "gate", exec: ["curl"] });
   * gate.serve(sandbox.takeListeners());
   * ```
   */
  takeListeners(): GateListener[] {
    return native(() => this.#native.takeListeners()).map((listener) =>
      gateListener(listener, this.#native),
    );
  }

  /** Kills every process inside and releases the kernel objects. May be called again. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** The same as `close()`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    // A command that is starting may have done something already: whoever waits for it is to learn how it
    // ended, and not that it never ran.
    const starting = Promise.allSettled(Array.from(this.#processes, ({ started }) => started));
    await Promise.race([starting, setTimeout(startTime, undefined, { ref: false })]);
    await nativeAsync(() => this.#native.close());
    await Promise.allSettled(Array.from(this.#processes, ({ exited }) => exited));
    for (const process of this.#processes) process.closeUnread();
    this.#processes.clear();
    this.events.end();
  }

  /** Keeps a process until it has ended and all its streams are closed. */
  async #remember(process: SandboxedProcess): Promise<void> {
    this.#processes.add(process);
    const streams = [...process.stdio, process.terminal].filter((stream) => stream !== null);
    const closed = streams.map((stream) => new Promise((done) => stream.once("close", done)));
    await Promise.allSettled([process.exited, ...closed]);
    this.#processes.delete(process);
  }

  #refuseIfClosed(): void {
    if (this.#closing === undefined) return;
    throw new SandboxClosedError("ERR_NONO_SANDBOX_CLOSED", "The sandbox has been closed", {
      remedy: "Create a new sandbox.",
    });
  }
}
