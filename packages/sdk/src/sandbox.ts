import {
  ArgumentError,
  createSandbox,
  type Capabilities,
  type Guarantee,
  type Limits,
  type Path,
  type RunOptions,
  type RunResult,
  type Sandbox as CoreSandbox,
  type SandboxedProcess,
  SandboxClosedError,
  type SandboxOptions,
  type SpawnOptions,
} from "@nono/core";
import type { Gate } from "@nono/proxy";
import type { Change, Checkpoint, RollbackOptions, RollbackResult } from "@nono/rollback";
import { type AuditRecord, type AuditSettings, RunRecord } from "./audit.ts";
import { buildBehindGate, type Credential, NetworkPolicy, type NetworkOptions } from "./network.ts";
import { checkpointOf, type RollbackSettings } from "./undo.ts";
import { absolutePaths, type OneOrMore, programs, variableNames, variables } from "./validate.ts";

/** Settings of a {@link Sandbox} that are not capabilities. */
export interface SandboxSettings extends SandboxOptions {
  /** See `Capabilities.baseProfile` of `@nono/core`. Default: true. */
  readonly baseProfile?: boolean;
  /** How the record of the sandbox is kept; `false`: none is. Default: in the user's state directory. */
  readonly audit?: AuditSettings | false;
}

/** What became of a command, with what it left. */
export interface SandboxResult<T extends string | Buffer = string> extends RunResult<T> {
  /** Where the run is on record; undefined with `audit: false`. */
  readonly audit: AuditRecord | undefined;
  /** What differs from before the first command, with `enableRollback`. */
  changes(): AsyncIterable<Change>;
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
export class Sandbox {
  readonly #settings: SandboxSettings;
  readonly #read: Path[] = [];
  readonly #write: Path[] = [];
  readonly #exec: Path[] = [];
  readonly #unixSockets: Path[] = [];
  readonly #allowEnv: string[] = [];
  #setEnv: Record<string, string> = {};
  #limits: Limits = {};
  #network: "blocked" | "open" = "blocked";
  readonly #networkPolicy = new NetworkPolicy();
  #core: Promise<CoreSandbox> | undefined;
  #gate: Gate | undefined;
  #rollback: RollbackSettings | undefined;
  #checkpoint: Checkpoint | undefined;
  #record: Promise<RunRecord> | undefined;
  #isFixed = false;
  #closed = false;

  /** @param settings How to build the sandbox. */
  constructor(settings: SandboxSettings = {}) {
    this.#settings = settings;
  }

  /**
   * Lets commands read files, and directories with all below them.
   *
   * @param paths Absolute paths.
   * @throws {@link PathError} for a path that is relative, empty or has a NUL byte.
   * @example
   * ```ts
   * sandbox.allowRead("/workspace").allowRead(["/opt/models", "/etc/gitconfig"]);
   * ```
   */
  allowRead(paths: OneOrMore<Path>): this {
    this.#refuseIfBuilt("allowRead");
    this.#read.push(...absolutePaths("allowRead", paths));
    return this;
  }

  /**
   * Lets commands read, create, change and delete below directories, and change files.
   *
   * @param paths Absolute paths.
   * @throws {@link PathError} for a path that is relative, empty or has a NUL byte.
   * @example
   * ```ts
   * sandbox.allowWrite("/workspace/output");
   * ```
   */
  allowWrite(paths: OneOrMore<Path>): this {
    this.#refuseIfBuilt("allowWrite");
    this.#write.push(...absolutePaths("allowWrite", paths));
    return this;
  }

  /**
   * Lets commands execute programs.
   *
   * @param names Absolute paths of files or directories, or bare names looked up in `PATH`.
   * @throws {@link PathError} for a relative path with a slash, an empty name or a NUL byte.
   * @example
   * ```ts
   * sandbox.allowExec(["git", "/usr/lib/git-core"]);
   * ```
   */
  allowExec(names: OneOrMore<Path>): this {
    this.#refuseIfBuilt("allowExec");
    this.#exec.push(...programs("allowExec", names));
    return this;
  }

  /**
   * Lets commands connect to unix sockets of this machine. Those that commands make themselves they
   * always may connect to.
   *
   * @param paths Absolute paths of sockets that exist: a socket made anew under the same path is
   *   another one.
   * @throws {@link PathError} for a path that is relative, empty or has a NUL byte.
   * @example
   * ```ts
   * sandbox.allowUnixSocket("/run/postgresql/.s.PGSQL.5432");
   * ```
   */
  allowUnixSocket(paths: OneOrMore<Path>): this {
    this.#refuseIfBuilt("allowUnixSocket");
    this.#unixSockets.push(...absolutePaths("allowUnixSocket", paths));
    return this;
  }

  /**
   * Passes variables of this process's environment on. Without it, none is.
   *
   * @param names Names; a `*` at the end stands for any rest.
   * @throws {@link ArgumentError} for what can't be the name of a variable.
   * @example
   * ```ts
   * sandbox.allowEnv(["LANG", "LC_*"]);
   * ```
   */
  allowEnv(names: OneOrMore<string>): this {
    this.#refuseIfBuilt("allowEnv");
    this.#allowEnv.push(...variableNames("allowEnv", names));
    return this;
  }

  /**
   * Sets environment variables for all commands. They win over `allowEnv`.
   *
   * @param values Names and values.
   * @throws {@link ArgumentError} for a name or value that no environment can hold.
   * @example
   * ```ts
   * sandbox.setEnv({ CI: "1" });
   * ```
   */
  setEnv(values: Readonly<Record<string, string>>): this {
    this.#refuseIfBuilt("setEnv");
    this.#setEnv = { ...this.#setEnv, ...variables("setEnv", values) };
    return this;
  }

  /**
   * Limits what commands may use up.
   *
   * @param limits Added to the limits so far; see `Limits` of `@nono/core` for the units.
   * @example
   * ```ts
   * sandbox.limit({ processes: 64, fileSize: 100 * 1024 * 1024 });
   * ```
   */
  limit(limits: Limits): this {
    this.#refuseIfBuilt("limit");
    this.#limits = { ...this.#limits, ...limits };
    return this;
  }

  /**
   * Cuts commands off from every network, the loopback interface of this machine included. This is
   * the default.
   *
   * @example
   * ```ts
   * sandbox.blockNetwork();
   * ```
   */
  blockNetwork(): this {
    this.#refuseIfBuilt("blockNetwork");
    this.#network = "blocked";
    return this;
  }

  /**
   * Lets commands connect to hosts, by TCP and by name, whether they know of a proxy or not: whatever
   * a command connects to arrives at a gate outside the sandbox, which lets through what is listed.
   * All else is refused. Needs the namespaces tier.
   *
   * @param hosts `host`, `host:port`, `*.suffix[:port]`, addresses, CIDR ranges; without a port: 443
   *   and 80. Private, loopback and metadata addresses only when they are named themselves.
   * @param options Denied hosts, rules for methods and paths, trust, and events.
   * @throws {@link CapabilitiesError} for what is not a host.
   * @example
   * ```ts
   * sandbox.allowNetwork(["api.github.com:443", "*.pypi.org"]);
   * ```
   */
  allowNetwork(hosts: OneOrMore<string>, options: NetworkOptions = {}): this {
    this.#refuseIfBuilt("allowNetwork");
    this.#networkPolicy.allow(hosts, options);
    return this;
  }

  /**
   * Lets commands use a credential without ever having it. They find a stand-in in the environment
   * variable `name`; on the way to the hosts of `proxyTo` the gate puts the real value in its place,
   * or adds it when it is missing, and takes it out of the answers. Sent anywhere else, the stand-in
   * is refused. The hosts must be allowed by {@link Sandbox.allowNetwork} as well.
   *
   * @param credential Its name, its hosts, how it is presented, and where the value comes from.
   * @throws {@link ArgumentError} unless exactly one source is given.
   * @example
   * ```ts
   * sandbox.injectCredential({ name: "GITHUB_TOKEN", proxyTo: "api.github.com", tokenFromKeychain: true });
   * ```
   */
  injectCredential(credential: Credential): this {
    this.#refuseIfBuilt("injectCredential");
    this.#networkPolicy.inject(credential);
    return this;
  }

  /**
   * Lifts every restriction of the network.
   *
   * @example
   * ```ts
   * sandbox.openNetwork();
   * ```
   */
  openNetwork(): this {
    this.#refuseIfBuilt("openNetwork");
    this.#network = "open";
    return this;
  }

  /**
   * Keeps the state of every writable directory before the first command, so that `rollback()` can
   * bring it back: atomically, and with whatever commands did to it.
   *
   * @param settings How; by default the cheapest way that the file system offers.
   * @example
   * ```ts
   * sandbox.allowWrite("/workspace").enableRollback();
   * ```
   */
  enableRollback(settings: RollbackSettings = {}): this {
    this.#refuseIfBuilt("enableRollback");
    this.#rollback = settings;
    return this;
  }

  /** What has been declared so far, as plain data for `createSandbox` of `@nono/core`. */
  get capabilities(): Capabilities {
    const { baseProfile } = this.#settings;
    return {
      read: [...this.#read],
      write: [...this.#write],
      exec: [...this.#exec],
      ...(this.#unixSockets.length > 0 && { unixSockets: [...this.#unixSockets] }),
      network: this.#network,
      env: { allow: [...this.#allowEnv], set: { ...this.#setEnv } },
      limits: { ...this.#limits },
      ...(baseProfile !== undefined && { baseProfile }),
    };
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
    return (await this.#build()).guarantees;
  }

  /**
   * Starts a command whose streams the caller reads and writes.
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
  async spawn(argv: readonly Path[], options: SpawnOptions = {}): Promise<SandboxedProcess> {
    const core = await this.#build();
    const record = await this.#record;
    const start = async (): Promise<SandboxedProcess> => {
      const child = core.spawn(argv, options);
      await child.started;
      return child;
    };
    return record ? record.command(argv, options, start, (child) => child.exited) : start();
  }

  /**
   * Runs a command to its end. An exit code other than 0 is a result, not an error.
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
    options: RunOptions = {},
  ): Promise<SandboxResult<string | Buffer>> {
    const core = await this.#build();
    // Both overloads of the core's method; TypeScript resolves a call to only one.
    const run = core.run.bind(core) as (
      argv: readonly Path[],
      options: RunOptions,
    ) => Promise<RunResult<string | Buffer>>;
    const record = await this.#record;
    const result = record
      ? await record.command(
          argv,
          options,
          () => run(argv, options),
          async (ended) => ended,
        )
      : await run(argv, options);
    return { ...result, audit: await record?.head(), changes: () => this.changes() };
  }

  /**
   * What differs from before the first command.
   *
   * @throws {@link ArgumentError} without `enableRollback`.
   * @example
   * ```ts
   * for await (const change of sandbox.changes()) console.log(change.kind, change.path);
   * ```
   */
  async *changes(): AsyncGenerator<Change, void, void> {
    yield* this.#requireCheckpoint("changes").changes();
  }

  /**
   * Brings the writable directories back to what they were before the first command, or only `paths`.
   * Commands that still run are killed first. The next command starts from the restored state.
   *
   * @throws {@link ArgumentError} without `enableRollback`; `RollbackError` of `@nono/rollback`.
   * @example
   * ```ts
   * const { exitCode } = await sandbox.run(["npm", "test"]);
   * if (exitCode !== 0) await sandbox.rollback();
   * ```
   */
  async rollback(options: RollbackOptions = {}): Promise<RollbackResult> {
    const checkpoint = this.#requireCheckpoint("rollback");
    // The restored directories are other directories (other inodes) than those of the sandbox's
    // rules: the next command gets a sandbox made anew.
    await this.#endCore();
    const result = await checkpoint.rollback(options);
    if (options.paths === undefined) this.#checkpoint = undefined;
    return result;
  }

  /**
   * Keeps the changes so far, or only those of `paths`: they are no longer rolled back.
   *
   * @throws {@link ArgumentError} without `enableRollback`; `RollbackError` of `@nono/rollback`.
   * @example
   * ```ts
   * await sandbox.commit({ paths: ["src"] });
   * ```
   */
  async commit(options: Pick<RollbackOptions, "paths"> = {}): Promise<void> {
    await this.#requireCheckpoint("commit").commit(options);
    if (options.paths === undefined) {
      this.#checkpoint = undefined;
      await this.#keepState();
    }
  }

  /** Kills every process inside and releases everything. May be called again. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#endCore();
    if (this.#checkpoint && this.#rollback?.keep !== true) await this.#checkpoint.dispose();
    const record = await this.#record?.catch(() => undefined);
    await record?.close("closed");
  }

  /** The same as `close()`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #build(): Promise<CoreSandbox> {
    if (this.#closed) {
      throw new SandboxClosedError("ERR_NONO_SANDBOX_CLOSED", "The sandbox has been closed", {
        remedy: "Make a new Sandbox.",
      });
    }
    this.#isFixed = true;
    this.#core ??= this.#create();
    return this.#core;
  }

  async #create(): Promise<CoreSandbox> {
    const { tier, allowDegraded, audit } = this.#settings;
    if (audit !== false) this.#record ??= RunRecord.open(audit ?? {}, this.capabilities);
    const record = await this.#record;
    await this.#keepState();
    const create = (capabilities: Capabilities): Promise<CoreSandbox> =>
      createSandbox(capabilities, {
        ...(tier !== undefined && { tier }),
        ...(allowDegraded !== undefined && { allowDegraded }),
      });
    if (!this.#networkPolicy.needsGate) return create(this.capabilities);
    const { core, gate } = await buildBehindGate(
      this.#networkPolicy,
      this.capabilities,
      create,
      record,
    );
    this.#gate = gate;
    return core;
  }

  async #keepState(): Promise<void> {
    if (this.#rollback === undefined) return;
    this.#checkpoint ??= await checkpointOf(this.#write, this.#rollback, await this.#record);
  }

  async #endCore(): Promise<void> {
    const core = await this.#core?.catch(() => undefined);
    await core?.close();
    await this.#gate?.close();
    this.#core = undefined;
    this.#gate = undefined;
  }

  #requireCheckpoint(method: string): Checkpoint {
    if (this.#checkpoint) return this.#checkpoint;
    throw new ArgumentError(
      "ERR_NONO_INVALID_OPTION",
      `${method} needs a checkpoint, and there is none`,
      { value: method, remedy: "Call enableRollback(), and run a command." },
    );
  }

  #refuseIfBuilt(method: string): void {
    if (!this.#isFixed && !this.#closed) return;
    throw new ArgumentError(
      "ERR_NONO_INVALID_OPTION",
      `${method} came after the first command: the capabilities of a sandbox are fixed by then`,
      { value: method, remedy: "Declare everything first, or make a second Sandbox." },
    );
  }
}
