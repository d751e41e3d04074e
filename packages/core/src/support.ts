import { binding } from "./binding.ts";
import { native } from "./native-errors.ts";

/** One promise of a sandbox, and how far it holds here. */
export interface Guarantee {
  /** Stable name, such as `"fs-write"`: what `allowDegraded` takes. */
  readonly name: string;
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
