// Undoing what commands did: checkpoints of the writable directories, the first one made before the
// first command. @nono/rollback is loaded only then.
import path from "node:path";
import {
  ArgumentError,
  CapabilitiesError,
  type OverlayMount,
  type Path,
  type SandboxOptions,
  support,
} from "@nono/core";
import type {
  Change,
  Checkpoint,
  CheckpointOptions,
  EventSink,
  RollbackOptions,
  RollbackResult,
} from "@nono/rollback";
import { statSync } from "node:fs";
import { keepOutOfReach, reaches, stateDirectory } from "./state.ts";

/** How {@link Sandbox.enableRollback} keeps the state of the writable directories. */
export interface RollbackSettings extends Omit<CheckpointOptions, "events" | "mounter"> {
  /**
   * Whether `close()` leaves the checkpoint behind, for `nono diff` and `nono rollback` later.
   * Default: false, the changes are kept and the checkpoint is deleted.
   */
  readonly keep?: boolean;
  /**
   * Whether what commands change may stay out of the directories until `commit()`, `checkpoint()` or
   * `close()`: commands see it, nobody else does. `auto` then takes `overlay`, whose checkpoint and
   * rollback cost next to nothing however large the directory is, in the tier `namespaces`. Elsewhere
   * nothing is deferred, and the record of the run says why.
   * Default: false; `strategy: "overlay"` implies it.
   */
  readonly deferred?: boolean;
}

/** The states that a sandbox can go back to, the latest last. */
export class KeptStates {
  readonly #checkpoints: Checkpoint[] = [];
  /** Rolled back to or committed. What they kept is being deleted, which may take a while. */
  readonly #over: Checkpoint[] = [];

  /** Whether there is a state to go back to. */
  get isEmpty(): boolean {
    return this.#checkpoints.length === 0;
  }

  /** Whether changes are in an overlay, and not in the directories. */
  get areDeferred(): boolean {
    return (this.#checkpoints.at(-1)?.mounts.length ?? 0) > 0;
  }

  /**
   * Keeps the state of now. The sandbox of a deferred state must have ended.
   *
   * @throws {@link CapabilitiesError} for a writable file, which has no directory of its own to bring
   *   back, and for records within the commands' reach; `RollbackError` of `@nono/rollback`.
   */
  async keep(
    writable: readonly Path[],
    settings: RollbackSettings,
    events: EventSink | undefined,
    sandbox: LayeredSandbox,
  ): Promise<void> {
    await this.#checkpoints.at(-1)?.apply();
    this.#checkpoints.push(await checkpointOf(writable, settings, events, sandbox));
  }

  /** What the next sandbox mounts over the directories. */
  async mounts(): Promise<readonly OverlayMount[]> {
    const latest = this.#checkpoints.at(-1);
    if (latest?.state === "applied") await latest.withdraw();
    return latest?.mounts ?? [];
  }

  /** What differs from the latest. */
  changes(): AsyncIterable<Change> {
    return this.#latest("changes").changes();
  }

  /** Goes back to the latest, which is then the one before. The sandbox must have ended. */
  async rollback(options: RollbackOptions): Promise<RollbackResult> {
    const latest = this.#latest("rollback");
    const result = await latest.rollback(options);
    if (options.paths !== undefined) return result;
    this.#checkpoints.pop();
    this.#over.push(latest);
    // Its changes are below those that were just dropped, and may be rolled back in part.
    await this.mounts();
    return result;
  }

  /** Gives up all of them, or those of some paths. The sandbox of a deferred state must have ended. */
  async commit(options: Pick<RollbackOptions, "paths">): Promise<void> {
    this.#latest("commit");
    // An overlay keeps what those before it go back by: it may go only after them, or not in part.
    const isWhole = options.paths === undefined;
    const order = isWhole ? this.#checkpoints : this.#checkpoints.toReversed();
    for (const checkpoint of order) await checkpoint.commit(options);
    if (isWhole) this.#over.push(...this.#checkpoints.splice(0));
  }

  /** Brings deferred changes in, and deletes what is not to be kept. The sandbox must have ended. */
  async close(keep: boolean): Promise<void> {
    const isDeferred = this.areDeferred;
    if (keep && isDeferred) await this.#checkpoints.at(-1)?.apply();
    // Overlays go back one after the other; of the others the first leads back to the beginning.
    const kept = keep ? (isDeferred ? this.#checkpoints.length : 1) : 0;
    for (const checkpoint of this.#checkpoints.splice(kept)) {
      if (isDeferred) await checkpoint.commit();
      this.#over.push(checkpoint);
    }
    this.#checkpoints.length = 0;
    for (const checkpoint of this.#over.splice(0)) await checkpoint.dispose();
  }

  /** @throws {@link ArgumentError} when there is none. */
  #latest(method: string): Checkpoint {
    const checkpoint = this.#checkpoints.at(-1);
    if (checkpoint) return checkpoint;
    throw noCheckpoint(method);
  }
}

/** What a method says that needs a checkpoint, where there is none. */
export function noCheckpoint(method: string): ArgumentError {
  return new ArgumentError(
    "ERR_NONO_INVALID_OPTION",
    `${method} needs a checkpoint, and there is none`,
    { value: method, remedy: "Call enableRollback(), and run a command." },
  );
}

/** What {@link Sandbox.commit} and {@link Sandbox.checkpoint} say under an overlay that is in use. */
export async function refuseUnderway(method: string): Promise<never> {
  const { RollbackError } = await import("@nono/rollback");
  throw new RollbackError(
    "ERR_NONO_CHECKPOINT_BUSY",
    `${method} is not possible while commands run: what they change is in an overlay, which can be brought into the directories only after them; wait for them, or use another strategy`,
  );
}

/** The sandbox that would mount an overlay. */
export interface LayeredSandbox {
  readonly tier: SandboxOptions["tier"];
  /** What commands reach, and layers must not be in. */
  readonly granted: readonly Path[];
}

/** Makes a checkpoint of the directories that may be written; without a `sandbox`, no overlay. */
export async function checkpointOf(
  writable: readonly Path[],
  settings: RollbackSettings,
  events: EventSink | undefined,
  sandbox?: LayeredSandbox,
): Promise<Checkpoint> {
  const { checkpoint, RollbackError } = await import("@nono/rollback");
  const directories = topmost(writable.map(directoryOf));
  if (directories.length === 0) {
    throw new CapabilitiesError(
      "ERR_NONO_INVALID_CAPABILITIES",
      "enableRollback has nothing to keep: no directory may be written",
      {
        value: "enableRollback",
        remedy: "Call allowWrite with a directory, or leave rollback out.",
      },
    );
  }
  keepOutOfReach(
    settings.store ?? path.join(stateDirectory(), "rollback"),
    directories,
    "rollback",
  );
  const { keep: _, deferred, ...options } = settings;
  const isOverlay = options.strategy === "overlay";
  const mounter = deferred === true || isOverlay ? mounterOf(sandbox?.tier) : undefined;
  if (isOverlay && mounter === undefined) {
    throw new RollbackError(
      "ERR_NONO_STRATEGY_UNSUPPORTED",
      "strategy overlay needs a sandbox in the tier namespaces: use another strategy",
    );
  }
  const common = { ...options, ...(events !== undefined && { events }) };
  const made = await checkpoint(directories, {
    ...common,
    ...(mounter !== undefined && { mounter }),
  });
  // The layers are beside a directory that is not on the file system of the store. Who has asked for an
  // overlay by name is told by the sandbox.
  const isReached = made.mounts.some(({ upper }) => reaches(sandbox?.granted ?? [], upper));
  if (isOverlay || !isReached) return made;
  await made.dispose();
  return checkpoint(directories, common);
}

/** With what privilege a sandbox of this tier mounts an overlay; undefined: it mounts none. */
function mounterOf(tier: SandboxOptions["tier"]): CheckpointOptions["mounter"] {
  const { privilegedOverlay, tiers } = support();
  const hasNamespaces = tiers.some(({ name, available }) => name === "namespaces" && available);
  if (tier === "flat" || !hasNamespaces) return undefined;
  return privilegedOverlay ? "privileged" : "supervised";
}

function directoryOf(grant: Path): string {
  const name = typeof grant === "string" ? grant : Buffer.from(grant).toString();
  if (statSync(name, { throwIfNoEntry: false })?.isDirectory()) return path.resolve(name);
  throw new CapabilitiesError(
    "ERR_NONO_INVALID_CAPABILITIES",
    `enableRollback covers directories, and ${name} is not one`,
    { value: name, remedy: "Allow its directory to be written, or leave rollback out." },
  );
}

/** Those that are below none of the others. */
function topmost(directories: readonly string[]): string[] {
  return [...new Set(directories)].filter(
    (inner) => !directories.some((outer) => outer !== inner && inner.startsWith(`${outer}/`)),
  );
}
