import type { OnRequest } from "./approval.ts";
import type { GuaranteeName } from "./support.ts";

/** A path: text, or the raw bytes of a name that is not valid UTF-8. */
export type Path = string | Uint8Array;

/**
 * What the commands of a sandbox may do. Everything that is not listed is refused. Plain data: it
 * can be stored as JSON, merged and compared; `createSandbox` checks it.
 *
 * @example
 * ```ts
 * const capabilities: Capabilities = {
 *   read: ["/workspace"],
 *   write: ["/workspace/output"],
 *   exec: ["/usr/bin/python3", "git"],
 *   env: { allow: ["LANG", "LC_*"], set: { CI: "1" } },
 *   limits: { processes: 64 },
 * };
 * ```
 */
export interface Capabilities {
  /** Absolute paths of files or directories that may be read; a directory with all below it. */
  readonly read?: readonly Path[];
  /**
   * Absolute paths that may be changed. A directory: read, create, modify and delete all below it.
   * A file: read and modify.
   */
  readonly write?: readonly Path[];
  /**
   * Programs that may be executed: absolute paths of files, absolute paths of directories, or bare
   * names that are looked up in `PATH` when the sandbox is created.
   */
  readonly exec?: readonly Path[];
  /**
   * Paths that stay refused inside what is allowed, with all below them, whether they exist or come
   * to exist: absolute paths, or patterns with `*`, `?`, `[…]`, `{…}` or `**` that begin with `/` or
   * with a double asterisk and a slash. Judged at each access by the name that the kernel gives a
   * file, in whatever case; a backslash takes a special character's meaning away. That they exist can
   * still be seen.
   */
  readonly deny?: readonly Path[];
  /**
   * Whether names that programs outside the sandbox take orders from stay as they are in writable
   * directories: git hooks, executable keys of git's configuration, `.vscode`, `.claude`, `.mcp.json`,
   * `.envrc`, `.bashrc` and their like. They can be read and deleted. A `write` for such a path itself
   * makes an exception, and so does `scratch`. Default: true.
   */
  readonly protect?: boolean;
  /**
   * Absolute paths of directories of the sandbox's own, which nobody outside uses and which you delete
   * afterwards. They may be changed, and no name in them is protected.
   */
  readonly scratch?: readonly Path[];
  /**
   * `"blocked"` (the default): no internet socket can be made, but for `localhostPorts` and
   * `publish`. `"gate"`: whatever a program connects
   * to on one of `gatePorts`, or asks of DNS, arrives at `Sandbox.takeListeners()`; nothing else
   * exists, and loopback is private. `"open"`: TCP and UDP as the host has them.
   */
  readonly network?: "blocked" | "gate" | "open";
  /** With `network: "gate"`: TCP ports that programs may connect to. Default: 80 and 443. */
  readonly gatePorts?: readonly number[];
  /**
   * Ports of services on this machine's loopback that commands reach, each on the same port of their
   * own loopback. Nothing else of it is reached. Ports of UDP are not meant.
   */
  readonly localhostPorts?: readonly number[];
  /**
   * Ports on which commands run servers that this machine shall reach, on 127.0.0.1;
   * `Sandbox.published` says at which port: the same, if it is free.
   */
  readonly publish?: readonly number[];
  /**
   * Absolute paths of unix sockets of the host that may be connected to, such as an SSH agent's. A
   * socket must exist when the sandbox is created; a later one at the same path is another one.
   * Sockets that commands bind themselves need no grant. Datagram sockets are refused.
   */
  readonly unixSockets?: readonly Path[];
  /** The environment of the commands. */
  readonly env?: EnvironmentCapabilities;
  /** Limits of what the commands may use up. */
  readonly limits?: Limits;
  /**
   * Whether commands have a place of their own for temporary files, which ends with the sandbox: in
   * the tier `namespaces` `/tmp`, in memory; in `flat` a new directory that `TMPDIR` names, while
   * `/tmp` is the machine's, and what of it may be used has to be granted. With `false` that holds in
   * both. Default: true.
   */
  readonly privateTmp?: boolean;
  /**
   * Whether every command may read the basics of the system that nearly all programs need: loader
   * and libraries, locale, time zones, certificates, resolver files, `/dev/null` and its like.
   * Default: true.
   */
  readonly baseProfile?: boolean;
}

/**
 * Which environment variables a command sees. By default, only these of the owner's: `PATH`, `HOME`,
 * `USER`, `LOGNAME`, `LANG`, `LC_*`, `TERM`, `COLORTERM`, `TZ`.
 */
export interface EnvironmentCapabilities {
  /** Names taken from the owner's environment; a `*` at the end stands for any rest (`LC_*`). */
  readonly allow?: readonly string[];
  /** Variables with their values; they win over `allow`. */
  readonly set?: Readonly<Record<string, string>>;
}

/**
 * Limits of a sandbox. Absent: none beyond those of the owner. The first three are kept by a control
 * group for the sandbox as a whole, where the owner may make one; `Sandbox.guarantees` says what
 * keeps each limit that was asked for (`limit-memory`, `limit-processes` …).
 */
export interface Limits {
  /**
   * Memory in bytes. Without a control group: of each process, for its data (`RLIMIT_DATA`). The
   * private `/tmp` then holds half of it, and `/dev/shm` a fifth; otherwise a quarter and a tenth of
   * the machine's memory.
   */
  readonly memory?: number;
  /**
   * Number of processes and threads. Without a control group, the kernel counts all processes of the
   * user in the tier `flat`, and can't limit root: that is refused (`limit-processes`).
   */
  readonly processes?: number;
  /** Processors, such as 0.5. Needs a control group; refused without (`limit-cpus`). */
  readonly cpus?: number;
  /** Open file descriptors of one process; in any case no more than three quarters of your hard limit. */
  readonly openFiles?: number;
  /** Size in bytes of a file that a command writes. */
  readonly fileSize?: number;
  /** Processor time of one process, in seconds: SIGXCPU when they are over, SIGKILL a second later. */
  readonly cpuSeconds?: number;
  /**
   * Seconds that a command may run, at most 2000000: SIGTERM to its process group when they are over,
   * SIGKILL two seconds later. Kept inside, however busy the owner is. What it left in the background
   * in other process groups runs on until `close()`.
   */
  readonly wallSeconds?: number;
}

/** How the sandbox is built, as opposed to what it allows. */
export interface SandboxOptions {
  /**
   * `"namespaces"` or `"flat"` (Landlock and seccomp alone). Default: the strongest that works
   * here, found by trying.
   */
  readonly tier?: "namespaces" | "flat";
  /**
   * How much is told about what commands do (`Sandbox.events`). `"off"`: nothing. `"changes"`: what
   * changes files or attributes, programs that start, processes that end, the network, refused system calls. `"all"`:
   * reading, too; refused reads are violations only then. Default: `"changes"`.
   */
  readonly observe?: "off" | "changes" | "all";
  /**
   * Directories that commands write to through an overlay: their changes are kept in `upper`, and the
   * directory itself stays as it is. What `mounts` of a checkpoint of `@nono/rollback` says. Needs the
   * tier `namespaces`.
   */
  readonly mounts?: readonly OverlayMount[];
  /** Who is asked before an attempt is refused. Default: nobody. */
  readonly onRequest?: OnRequest;
  /** Milliseconds after which a request that has no answer is refused. Default: 60,000. */
  readonly approvalTimeout?: number;
  /** Guarantees whose absence is accepted. Default: none. */
  readonly allowDegraded?: readonly GuaranteeName[];
}

/** A directory that commands write to through an overlay (overlayfs). Paths are absolute. */
export interface OverlayMount {
  readonly type: "overlay";
  /** The directory, which a `write` grant reaches. */
  readonly target: Path;
  /** What lies below: the directory itself. */
  readonly lower: Path;
  /** Where changes go: an existing directory that no grant reaches. */
  readonly upper: Path;
  /** An empty directory of the same file system, for the kernel's own use. */
  readonly work: Path;
}
