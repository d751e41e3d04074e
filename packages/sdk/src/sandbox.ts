import {
  type Exit,
  type Explanation,
  type Guarantee,
  type Path,
  type Question,
  type RunOptions,
  type RunResult,
  type SandboxedProcess,
  SandboxClosedError,
  type SandboxOptions,
  type SpawnOptions,
} from "@nono/core";
import type { Change, RollbackOptions, RollbackResult } from "@nono/rollback";
import { type AuditSettings, RunRecord } from "./audit.ts";
import { Declaration, type Declared, type Surroundings } from "./declaration.ts";
import { SandboxEmitter } from "./events.ts";
import { explainHost, type HostQuestion } from "./explain-host.ts";
import type { SandboxResult } from "./result.ts";
import { Running } from "./running.ts";
import { keepSecrets } from "./policy/secrets.ts";
import { explainStart } from "./start-error.ts";
import { traced } from "./telemetry.ts";
import { KeptStates, noCheckpoint, refuseUnderway } from "./undo.ts";
import type { PolicyViolation } from "./violation.ts";

/** Settings of a {@link Sandbox} that are not capabilities. */
export interface SandboxSettings extends SandboxOptions, Surroundings {
  /**
   * How much is told about what commands do. `"off"`: nothing, so that no violation is seen. `"changes"`:
   * what changes something, programs that start, the network. `"all"`: reading, too. By default refused
   * reads are told, and allowed ones are seen but not put on record.
   */
  readonly observe?: "off" | "changes" | "all";
  /**
   * What happens when something is refused to a command. `"report"`: the result says so. `"kill"`:
   * everything in the sandbox is killed at once. `"rollback"`: that, and the directories are brought back;
   * needs `enableRollback`. Default: `"report"`.
   */
  readonly onViolation?: "report" | "kill" | "rollback";
  /** How the record of the sandbox is kept; `false`: none is. Default: in the user's state directory. */
  readonly audit?: AuditSettings | false;
}

/**
 * A sandbox for an agent. Say what it may do, then run commands in it; all that was not said is
 * refused by the kernel. Each method checks its arguments at once. The first command builds the
 * sandbox, and from then on its capabilities are fixed.
 *
 * @example
 * ```ts
 * await using sandbox = new Sandbox()
 *   .allowRead("/workspace")
 *   .allowWrite("/workspace/output")
 *   .allowExec(["/usr/bin/python3", "/usr/bin/git"]);
 *
 * const result = await sandbox.run(["python3", "agent.py"], { cwd: "/workspace" });
 * console.log(result.exitCode, result.stdout);
 * ```
 */
export class Sandbox extends Declaration {
  /** What commands attempt, as it happens. */
  readonly events: SandboxEmitter = new SandboxEmitter();
  readonly #settings: SandboxSettings;
  #running: Promise<Running> | undefined;
  #record: Promise<RunRecord> | undefined;
  /** What `rollback()` goes back to. */
  readonly #states = new KeptStates();
  /** Commands that run. */
  #underway = 0;
  #isClosed = false;

  /** @param settings How to build the sandbox. */
  constructor(settings: SandboxSettings = {}) {
    super(settings);
    this.#settings = settings;
    if (settings.onViolation === undefined || settings.onViolation === "report") return;
    this.events.on("violation", () => this.#kill());
    this.events.on("gate", ({ decision }) => decision === "deny" && this.#kill());
  }

  /**
   * What is really enforced here; builds the sandbox if no command has done so.
   *
   * @throws the same errors as `run` when it can't be built.
   * @example
   * ```ts
   * for (const { name, status } of await sandbox.guarantees()) console.log(name, status);
   * ```
   */
  async guarantees(): Promise<readonly Guarantee[]> {
    return (await this.#build()).core.guarantees;
  }

  /**
   * At which ports of 127.0.0.1 servers inside are reached, by the port that was to be published; builds
   * the sandbox if no command has done so.
   *
   * @throws the same errors as `run` when it can't be built.
   * @example
   * ```ts
   * const port = (await sandbox.published()).get(3000);
   * await fetch(`http://127.0.0.1:${port}/`);
   * ```
   */
  async published(): Promise<ReadonlyMap<number, number>> {
    return (await this.#build()).core.published;
  }

  /**
   * Says what the sandbox does with something that has not been attempted, by the code that decides;
   * builds the sandbox if no command has done so. For hosts, that is the gate.
   *
   * @throws {@link ArgumentError}, {@link PathError} or {@link ExecError} for a question that makes no
   *   sense.
   * @example
   * ```ts
   * const { allowed, rule } = await sandbox.explain({ path: "/etc/shadow" });
   * const { allowed: reached } = await sandbox.explain({ host: "api.github.com", port: 443 });
   * ```
   */
  async explain(question: Question | HostQuestion): Promise<Explanation> {
    const running = await this.#build();
    return "host" in question ? explainHost(question, running) : running.core.explain(question);
  }

  /**
   * Starts a command whose streams the caller reads and writes. Without `cwd` it begins in the first
   * directory that `allowRead`, `allowWrite` or the workspace of `use` has named.
   *
   * @param argv The program, then its arguments.
   * @returns The command, once its program runs.
   * @throws {@link StartError} when a step before that failed, else the same errors as `run`.
   * @example
   * ```ts
   * const child = await sandbox.spawn(["python3", "-i"], { stdio: ["pipe", "inherit", "inherit"] });
   * child.stdin?.end("print(6 * 7)\n");
   * await child.exited;
   * ```
   */
  async spawn(argv: readonly Path[], given: SpawnOptions = {}): Promise<SandboxedProcess> {
    const { core } = await this.#build();
    const options = this.#withCwd(given);
    return this.#command(argv, options, {
      start: async () => {
        const child = core.spawn(argv, options);
        await child.started;
        return child;
      },
      exit: (child) => child.exited,
    });
  }

  /**
   * Runs a command to its end. An exit code other than 0 is a result, not an error. Without `cwd` it
   * begins in the first directory that `allowRead`, `allowWrite` or the workspace of `use` has named.
   *
   * @param argv The program, then its arguments.
   * @throws {@link PathError}, {@link ExecError}, {@link CapabilitiesError}, {@link LimitError} or
   *   {@link UnsupportedPolicyError} when the sandbox can't be built as declared.
   * @throws {@link ArgumentError}, {@link ExecError} or {@link StartError} for a command that can't
   *   run in it.
   * @throws {@link InterruptedError} when `timeout`, `signal` or `maxOutput` ended it.
   * @throws {@link SandboxClosedError} after `close()`.
   * @example
   * ```ts
   * const { exitCode, stdout } = await sandbox.run(["git", "status"], { timeout: 10_000 });
   * ```
   */
  run(
    argv: readonly Path[],
    options: RunOptions & { readonly encoding: "buffer" },
  ): Promise<SandboxResult<Buffer>>;
  run(
    argv: readonly Path[],
    options?: RunOptions & { readonly encoding?: "utf8" },
  ): Promise<SandboxResult>;
  async run(
    argv: readonly Path[],
    given: RunOptions = {},
  ): Promise<SandboxResult<string | Buffer>> {
    const running = await this.#build();
    const options = this.#withCwd(given);
    // Both overloads of the core's method; TypeScript resolves a call to only one.
    const run = running.core.run.bind(running.core) as (
      argv: readonly Path[],
      options: RunOptions,
    ) => Promise<RunResult<string | Buffer>>;
    const { guarantees } = running.core;
    const begin = Date.now();
    const result = await this.#command(argv, options, {
      start: () => run(argv, options),
      exit: async (ended) => ended,
    });
    const violations = [...result.violations, ...running.refusedSince(begin)];
    const violatedPolicy = result.violatedPolicy || violations.length > 0;
    const rolledBack = violatedPolicy && this.#settings.onViolation === "rollback";
    if (rolledBack) await this.rollback();
    const audit = await (await this.#record)?.head();
    return {
      ...result,
      violatedPolicy,
      violations,
      guarantees,
      rolledBack,
      audit,
      changes: () => this.changes(),
    };
  }

  /**
   * What differs from before the first command, or from the latest {@link Sandbox.checkpoint}.
   *
   * @throws {@link ArgumentError} without `enableRollback`.
   * @example
   * ```ts
   * for await (const change of sandbox.changes()) console.log(change.kind, change.path);
   * ```
   */
  async *changes(): AsyncGenerator<Change, void, void> {
    yield* this.#states.changes();
  }

  /**
   * Keeps the state of now as well: the next `rollback()` goes back to here, the one after it to the
   * state before. The first state is kept without it, before the first command. Deferred changes (see
   * {@link RollbackSettings}) are brought into the directories, and the next command gets a sandbox
   * made anew.
   *
   * @throws {@link ArgumentError} without `enableRollback`; `RollbackError` of `@nono/rollback`, with
   *   `ERR_NONO_CHECKPOINT_BUSY` when commands run whose changes are deferred.
   * @example
   * ```ts
   * await sandbox.run(["npm", "install"]);
   * await sandbox.checkpoint();
   * const { exitCode } = await sandbox.run(["npm", "test"]);
   * if (exitCode !== 0) await sandbox.rollback();
   * ```
   */
  async checkpoint(): Promise<void> {
    await this.#build();
    if (this.#states.isEmpty) throw noCheckpoint("checkpoint");
    await this.#stopIfDeferred("checkpoint");
    await this.#keepState();
  }

  /**
   * Brings the writable directories back to what they were before the first command, or at the latest
   * {@link Sandbox.checkpoint}; or only `paths`. Commands that still run are killed first. The next
   * command starts from the restored state.
   *
   * @throws {@link ArgumentError} without `enableRollback`; `RollbackError` of `@nono/rollback`.
   * @example
   * ```ts
   * const { exitCode } = await sandbox.run(["npm", "test"]);
   * if (exitCode !== 0) await sandbox.rollback();
   * ```
   */
  async rollback(options: RollbackOptions = {}): Promise<RollbackResult> {
    if (this.#states.isEmpty) throw noCheckpoint("rollback");
    // The restored directories are other directories (other inodes) than those of the sandbox's
    // rules: the next command gets a sandbox made anew.
    await this.#stop();
    return traced("nono.rollback", {}, () => this.#states.rollback(options));
  }

  /**
   * Keeps the changes so far, or only those of `paths`: they are no longer rolled back. Deferred ones
   * (see {@link RollbackSettings}) are brought into the directories, and the next command gets a sandbox
   * made anew.
   *
   * @throws {@link ArgumentError} without `enableRollback`; `RollbackError` of `@nono/rollback`, with
   *   `ERR_NONO_CHECKPOINT_BUSY` when commands run whose changes are deferred, and
   *   `ERR_NONO_CHECKPOINT_NEEDED` for single paths after a `checkpoint()` with `overlay`.
   * @example
   * ```ts
   * await sandbox.commit({ paths: ["src"] });
   * ```
   */
  async commit(options: Pick<RollbackOptions, "paths"> = {}): Promise<void> {
    if (this.#states.isEmpty) throw noCheckpoint("commit");
    await this.#stopIfDeferred("commit");
    await this.#states.commit(options);
    if (options.paths === undefined) await this.#keepState();
  }

  /**
   * What was refused so far, to all commands since the sandbox was built (after `rollback` it is built
   * anew): the first 10,000 attempts that the kernel refused, and the latest 1000 that the gate did. None
   * when nothing runs.
   *
   * @example
   * ```ts
   * const child = await sandbox.spawn(["npm", "test"], { stdio: "inherit" });
   * await child.exited;
   * for (const { operation, rule } of await sandbox.violations()) console.log(operation, rule);
   * ```
   */
  async violations(): Promise<readonly PolicyViolation[]> {
    return (await this.#running)?.violations() ?? [];
  }

  /**
   * Kills every process inside and releases everything. May be called again.
   *
   * @throws `RollbackError` of `@nono/rollback` when deferred changes (see {@link RollbackSettings})
   *   could not be brought into the directories: `nono commit` tries again.
   */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    const { scratch, rollback } = this.fix();
    await this.#stop();
    try {
      await this.#states.close(rollback?.keep === true);
    } finally {
      scratch.remove();
      const record = await this.#record?.catch(() => undefined);
      await record?.close("closed");
    }
  }

  /** The same as `close()`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #build(): Promise<Running> {
    if (this.#isClosed) {
      throw new SandboxClosedError("ERR_NONO_SANDBOX_CLOSED", "The sandbox has been closed", {
        remedy: "Make a new Sandbox.",
      });
    }
    this.#running ??= traced("nono.sandbox.create", {}, () => this.#start(this.fix()));
    return this.#running;
  }

  async #start(declared: Declared): Promise<Running> {
    this.check();
    const { audit = {}, onViolation } = this.#settings;
    const canRollBack = declared.rollback !== undefined;
    if (onViolation === "rollback" && !canRollBack) throw noCheckpoint("rollback");
    if (audit !== false) this.#record ??= RunRecord.open(audit, declared.capabilities);
    const record = await this.#record;
    if (this.#states.isEmpty) await this.#keepState();
    const options = { ...this.#settings, mounts: await this.#states.mounts() };
    const running = await Running.start(declared, options, {
      events: this.events,
      record,
      recordsReads: this.#settings.observe === "all",
    });
    try {
      keepSecrets(running.core, declared.sources);
    } catch (error) {
      await running.stop();
      throw error;
    }
    return running;
  }

  /** Ends everything inside; whoever waits for a command is told of its end. */
  #kill(): void {
    void this.#running?.then(({ core }) => core.close()).catch(() => {});
  }

  async #stop(): Promise<void> {
    const running = await this.#running?.catch(() => undefined);
    this.#running = undefined;
    await running?.stop();
  }

  /** What is in an overlay can be brought into the directories only after its commands. */
  async #stopIfDeferred(method: string): Promise<void> {
    if (!this.#states.areDeferred) return;
    if (this.#underway > 0) await refuseUnderway(method);
    await this.#stop();
  }

  /** Starts a command, on record if there is one. */
  async #command<T>(
    argv: readonly Path[],
    options: Pick<SpawnOptions, "cwd">,
    { start, exit }: { start: () => Promise<T>; exit: (started: T) => Promise<Exit> },
  ): Promise<T> {
    const record = await this.#record;
    // The program alone: arguments may hold what is nobody's business.
    const attributes = { "process.executable.name": String(argv[0] ?? "") };
    this.#underway++;
    try {
      const started = await traced("nono.spawn", attributes, () =>
        record ? record.command(argv, options, start, exit) : start(),
      );
      void exit(started)
        .catch(() => {})
        .finally(() => this.#underway--);
      return started;
    } catch (error) {
      this.#underway--;
      throw explainStart(error, options.cwd);
    }
  }

  #withCwd<Options extends { readonly cwd?: Path }>(options: Options): Options {
    const { cwd } = this.fix();
    return options.cwd === undefined && cwd !== undefined ? { ...options, cwd } : options;
  }

  async #keepState(): Promise<void> {
    const { rollback, capabilities, scratch } = this.fix();
    if (rollback === undefined) return;
    const { read = [], write = [], exec = [] } = capabilities;
    const record = await this.#record;
    const sandbox = { tier: this.#settings.tier, granted: [...read, ...write, ...exec] };
    await traced("nono.checkpoint", {}, () =>
      this.#states.keep(scratch.exclude(write), rollback, record, sandbox),
    );
  }
}
