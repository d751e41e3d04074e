import { binding } from "./binding.ts";
import { native } from "./native-errors.ts";

/** The names of all guarantees that a sandbox may give. */
export const guaranteeNames = [
  "fs-read",
  "fs-write",
  "fs-metadata",
  "fs-rename",
  "fs-truncate",
  "fs-ioctl",
  "fs-existence",
  "fs-deny",
  "fs-protected-names",
  "exec",
  "net-raw",
  "net-tcp",
  "net-udp",
  "net-loopback",
  "net-unix",
  "signals",
  "ptrace",
  "process-list",
  "process-tree",
  "namespaces",
  "kernel-surface",
  "capabilities",
  "terminal-injection",
  "inherited-fds",
  "environment",
  "limit-memory",
  "limit-processes",
  "limit-cpus",
  "limit-open-files",
  "limit-file-size",
  "limit-cpu-seconds",
  "limit-wall-seconds",
] as const;

/** The name of a guarantee. */
export type GuaranteeName = (typeof guaranteeNames)[number];

/** One promise of a sandbox, and how far it holds here. */
export interface Guarantee {
  /** What `allowDegraded` takes. */
  readonly name: GuaranteeName;
  /** `"partial"` and `"absent"` come with a `reason`. */
  readonly status: "enforced" | "partial" | "absent";
  /** What in the kernel carries it. */
  readonly mechanism: string;
  /** Why it is not wholly enforced. */
  readonly reason?: string;
}

/** What this machine can enforce. */
export interface Support {
  /** ABI version of Landlock; 0 when the kernel has none. */
  readonly landlockAbi: number;
  /** Release of the kernel. */
  readonly kernel: string;
  /** Whether a user namespace can be created, found by trying. */
  readonly userNamespaces: boolean;
  /** Whether the kernel has seccomp user notification. */
  readonly seccompNotify: boolean;
  /**
   * Whether the kernel renames directories in an overlay (`SandboxOptions.mounts`), which takes an owner
   * with CAP_SYS_ADMIN. Elsewhere the supervisor does, entry by entry, so that it takes longer for large
   * ones, and who works in a renamed directory is left in a deleted one.
   */
  readonly privilegedOverlay: boolean;
  /** The tiers, strongest first. */
  readonly tiers: readonly {
    readonly name: string;
    readonly available: boolean;
    readonly reason?: string;
  }[];
}

/**
 * What this machine can enforce, found by trying; starts no sandbox.
 *
 * @throws {@link UnsupportedPlatformError} when there is no native part for this platform.
 * @example
 * ```ts
 * const { landlockAbi, tiers } = support();
 * console.log(landlockAbi, tiers.filter((tier) => tier.available));
 * ```
 */
export function support(): Support {
  return native(() => binding().support());
}
