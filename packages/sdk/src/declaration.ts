// What a sandbox may do: the fluent methods of Sandbox, and the plain data they add up to.
import {
  ArgumentError,
  type Capabilities,
  type GuaranteeName,
  type Limits,
  type Path,
} from "@nono/core";
import { type Credential, NetworkPolicy, type NetworkOptions } from "./network.ts";
import { credentialOf } from "./policy/credential.ts";
import { keepNono, keepPolicies, keepPrograms } from "./policy/keep.ts";
import type { Policy, PolicySource } from "./policy/policy.ts";
import { type PolicyContext, resolvePolicy } from "./policy/resolve.ts";
import { Scratch } from "./scratch.ts";
import { isBelow } from "./state.ts";
import type { RollbackSettings } from "./undo.ts";
import {
  absolutePaths,
  isDirectory,
  textOf,
  type OneOrMore,
  pathPatterns,
  portNumbers,
  programs,
  variableNames,
  variables,
} from "./validate.ts";
import { type Defined, withoutUndefined } from "./without-undefined.ts";

/** What has been declared, once it is fixed. */
export interface Declared {
  readonly capabilities: Capabilities;
  readonly network: NetworkPolicy;
  readonly rollback: RollbackSettings | undefined;
  /** Where commands begin when nothing else is said. */
  readonly cwd: Path | undefined;
  /** Guarantees whose absence policies accept. */
  readonly allowDegraded: readonly GuaranteeName[];
  /** What commands may write for themselves; no part of their work. */
  readonly scratch: Scratch;
  /** Where credentials of policies come from, by their names. */
  readonly sources: ReadonlyMap<string, PolicySource>;
}

/** What a sandbox is like beyond what is declared; see `Capabilities` of `@nono/core`. */
export interface Surroundings {
  /**
   * Whether names that programs outside take orders from (git hooks, `.vscode`, `.mcp.json`, `.envrc` …)
   * stay as they are in writable directories. Default: true.
   */
  readonly protect?: boolean | undefined;
  /** Whether commands have a `/tmp` of their own where that is possible. Default: true. */
  readonly privateTmp?: boolean | undefined;
  /** Whether the basics of the system may be read: libraries, locale, certificates. Default: true. */
  readonly baseProfile?: boolean | undefined;
}

/**
 * What a sandbox may do, said by methods that check their arguments at once and return the object
 * itself. All that was not said is refused by the kernel. {@link Sandbox} adds what to do with it.
 *
 * @example
 * ```ts
 * function forNode(declaration: Declaration): Declaration {
 *   return declaration.use("node").allowEnv(["LANG", "LC_*"]).limit({ openFiles: 1024 });
 * }
 * ```
 */
export abstract class Declaration {
  /** Workspaces, and what was granted by hand: the first granted directory of them is the default cwd. */
  readonly #named: Path[] = [];
  readonly #read: Path[] = [];
  readonly #write: Path[] = [];
  readonly #exec: Path[] = [];
  readonly #deny: Path[] = [];
  readonly #unixSockets: Path[] = [];
  readonly #localhostPorts: number[] = [];
  readonly #publish: number[] = [];
  readonly #allowEnv: string[] = [];
  readonly #allowDegraded: GuaranteeName[] = [];
  #setEnv: Record<string, string> = {};
  #limits: Limits = {};
  readonly #surroundings: Defined<Surroundings>;
  readonly #networkPolicy = new NetworkPolicy();
  /** Files that have said something of this. */
  readonly #policyFiles = new Set<string>();
  /** Where credentials of policies come from, by their names. */
  readonly #sources = new Map<string, PolicySource>();
  #rollback: RollbackSettings | undefined;
  readonly #scratch = new Scratch();
  #declared: Declared | undefined;

  /** @internal */
  constructor({ protect, privateTmp, baseProfile }: Surroundings) {
    this.#surroundings = withoutUndefined({ protect, privateTmp, baseProfile });
  }

  /**
   * Adds all that a policy says: the name of a preset (`"node"`, `"git"`, `"claude-code"` …), the path
   * of a policy file, or the policy itself.
   *
   * @param policy A name without a slash is a preset; a path is absolute, or relative to the current
   *   directory, with a slash in it.
   * @param context What the policy's variables stand for. Default: `$WORKSPACE` is the current
   *   directory.
   * @throws {@link PolicyError} for a policy that can't be read, or is not of the schema; {@link PathError} for a
   *   workspace that is no absolute path.
   * @example
   * ```ts
   * const sandbox = new Sandbox().use("node").use("./nono.jsonc", { workspace: "/workspace" });
   * ```
   */
  use(policy: string | Policy, context: PolicyContext = {}): this {
    this.#refuseIfFixed("use");
    if (context.workspace !== undefined) absolutePaths("use", context.workspace);
    const { network, ...said } = resolvePolicy(policy, context, {
      scratch: () => this.#scratch.directory,
      base: { network: this.#networkPolicy.access, env: { allow: [], set: this.#setEnv } },
      onFile: (file) => void this.#policyFiles.add(file),
    });
    if (context.workspace !== undefined) this.#named.push(context.workspace);
    this.#read.push(...said.read);
    this.#write.push(...said.write);
    this.allowExec(said.exec).deny(said.deny);
    this.allowLocalhost(said.localhostPorts).publish(said.publish);
    this.allowUnixSocket(said.unixSockets).allowEnv(said.env.allow).setEnv(said.env.set);
    this.limit(said.limits);
    this.#networkPolicy.access = network;
    for (const credential of said.credentials) {
      this.injectCredential(credentialOf(credential));
      if (credential.from) this.#sources.set(credential.name, credential.from);
    }
    if (said.rollback) this.enableRollback(said.rollback === true ? {} : said.rollback);
    const { protect, privateTmp, baseProfile } = said;
    Object.assign(this.#surroundings, withoutUndefined({ protect, privateTmp, baseProfile }));
    this.#allowDegraded.push(...said.allowDegraded);
    return this;
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
    this.#refuseIfFixed("allowRead");
    const absolute = absolutePaths("allowRead", paths);
    this.#read.push(...absolute);
    this.#named.push(...absolute);
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
    this.#refuseIfFixed("allowWrite");
    const absolute = absolutePaths("allowWrite", paths);
    this.#write.push(...absolute);
    this.#named.push(...absolute);
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
    this.#refuseIfFixed("allowExec");
    this.#exec.push(...programs("allowExec", names));
    return this;
  }

  /**
   * Refuses paths inside what is allowed, with all below them, whether they exist or come to exist. That
   * they exist can still be seen.
   *
   * @param paths Absolute paths, or patterns with `*`, `?`, `[…]`, `{…}` and `**`; one that begins with a
   *   double asterisk and a slash holds everywhere.
   * @throws {@link PathError} for a path that is relative, empty or has a NUL byte.
   * @example
   * ```ts
   * sandbox.allowRead("/workspace").deny(["/workspace/secrets", "**\/.env"]);
   * ```
   */
  deny(paths: OneOrMore<Path>): this {
    this.#refuseIfFixed("deny");
    this.#deny.push(...pathPatterns("deny", paths));
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
    this.#refuseIfFixed("allowUnixSocket");
    this.#unixSockets.push(...absolutePaths("allowUnixSocket", paths));
    return this;
  }

  /**
   * Lets commands reach services on this machine's loopback, each on the same port of their own
   * loopback: a database, a development server.
   *
   * @param ports TCP ports, from 1 to 65535.
   * @throws {@link ArgumentError} for what is not a port.
   * @example
   * ```ts
   * sandbox.allowLocalhost([5432, 6379]);
   * ```
   */
  allowLocalhost(ports: OneOrMore<number>): this {
    this.#refuseIfFixed("allowLocalhost");
    this.#localhostPorts.push(...portNumbers("allowLocalhost", ports));
    return this;
  }

  /**
   * Lets this machine reach servers that commands run, on 127.0.0.1; {@link Sandbox.published} says at
   * which port: the same, if it is free.
   *
   * @param ports TCP ports that commands listen on, from 1 to 65535.
   * @throws {@link ArgumentError} for what is not a port.
   * @example
   * ```ts
   * sandbox.publish(3000);
   * ```
   */
  publish(ports: OneOrMore<number>): this {
    this.#refuseIfFixed("publish");
    this.#publish.push(...portNumbers("publish", ports));
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
    this.#refuseIfFixed("allowEnv");
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
    this.#refuseIfFixed("setEnv");
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
    this.#refuseIfFixed("limit");
    this.#limits = { ...this.#limits, ...limits };
    return this;
  }

  /**
   * Cuts commands off from every network, the loopback interface of this machine included, whatever
   * was allowed before. This is the default.
   *
   * @example
   * ```ts
   * sandbox.blockNetwork();
   * ```
   */
  blockNetwork(): this {
    this.#refuseIfFixed("blockNetwork");
    this.#networkPolicy.access = "blocked";
    return this;
  }

  /**
   * Lets commands connect to hosts, by TCP and by name, whether they know of a proxy or not: whatever
   * a command connects to arrives at a gate outside the sandbox, which lets through what is listed.
   * All else is refused. What several calls and policies say adds up.
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
    this.#refuseIfFixed("allowNetwork");
    this.#networkPolicy.allow(hosts, options);
    return this;
  }

  /**
   * Lets commands use a credential without ever having it. They find a stand-in in the environment
   * variable `name`; on the way to the hosts of `proxyTo` the gate puts the real value in its place,
   * or adds it when it is missing, and takes it out of the answers. Sent anywhere else, the stand-in
   * is refused. The hosts must be allowed by {@link Sandbox.allowNetwork} as well. A second credential of
   * the same name replaces the first.
   *
   * @param credential Its name, its hosts, how it is presented, and where the value comes from.
   * @throws {@link ArgumentError} unless exactly one source is given.
   * @example
   * ```ts
   * sandbox.injectCredential({ name: "GITHUB_TOKEN", proxyTo: "api.github.com", tokenFromKeychain: true });
   * ```
   */
  injectCredential(credential: Credential): this {
    this.#refuseIfFixed("injectCredential");
    this.#networkPolicy.inject(credential);
    return this;
  }

  /**
   * Lifts every restriction of the network, whatever was said of it before. Then there is no gate, so no
   * credential can be injected.
   *
   * @example
   * ```ts
   * sandbox.openNetwork();
   * ```
   */
  openNetwork(): this {
    this.#refuseIfFixed("openNetwork");
    this.#networkPolicy.access = "open";
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
    this.#refuseIfFixed("enableRollback");
    this.#rollback = { ...this.#rollback, ...settings };
    return this;
  }

  /** Whether `enableRollback()` has been called, by hand or by a policy. */
  get isUndoable(): boolean {
    return this.#rollback !== undefined;
  }

  /** What has been declared so far, as plain data for `createSandbox` of `@nono/core`. */
  get capabilities(): Capabilities {
    return {
      read: [...this.#read],
      write: [...this.#write],
      ...(this.#scratch.made.length > 0 && { scratch: this.#scratch.made }),
      exec: [...this.#exec],
      ...(this.#deny.length > 0 && { deny: [...this.#deny] }),
      ...(this.#unixSockets.length > 0 && { unixSockets: [...this.#unixSockets] }),
      ...(this.#localhostPorts.length > 0 && { localhostPorts: [...this.#localhostPorts] }),
      ...(this.#publish.length > 0 && { publish: [...this.#publish] }),
      ...this.#networkPolicy.capabilities,
      env: { allow: [...this.#allowEnv], set: { ...this.#setEnv } },
      limits: { ...this.#limits },
      ...this.#surroundings,
    };
  }

  /** @internal What has been declared; from now on nothing can be added. */
  protected fix(): Declared {
    this.#declared ??= {
      capabilities: this.capabilities,
      network: this.#networkPolicy,
      rollback: this.#rollback,
      cwd: this.#named.find((name) => this.#isGranted(name) && isDirectory(name)),
      allowDegraded: [...this.#allowDegraded],
      scratch: this.#scratch,
      sources: this.#sources,
    };
    return this.#declared;
  }

  /** @internal @throws for what is fine by itself and can't be together. */
  protected check(): void {
    this.#networkPolicy.check();
    const { protect = true } = this.#surroundings;
    const writable = { write: this.#write, deny: this.#deny };
    if (protect) {
      keepPolicies(this.#policyFiles, writable);
      keepNono(writable);
    }
    const programs = [...this.#sources.values()].flatMap((from) =>
      "command" in from ? from.command.slice(0, 1) : [],
    );
    keepPrograms(programs, writable);
  }

  #isGranted(name: Path): boolean {
    const granted = [...this.#read, ...this.#write];
    return granted.some((grant) => isBelow(textOf(name), textOf(grant)));
  }

  #refuseIfFixed(method: string): void {
    if (this.#declared === undefined) return;
    throw new ArgumentError(
      "ERR_NONO_INVALID_OPTION",
      `${method} came after the first command: the capabilities of a sandbox are fixed by then`,
      { value: method, remedy: "Declare everything first, or make a second Sandbox." },
    );
  }
}
