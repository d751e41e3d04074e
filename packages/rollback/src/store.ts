import { binding } from "./binding.ts";
import { type CheckpointState, storePath } from "./checkpoint.ts";
import { translated } from "./errors.ts";

/** One line of {@link listCheckpoints}. */
export interface CheckpointSummary {
  readonly id: string;
  readonly createdAt: Date;
  readonly dirs: readonly string[];
  readonly strategy: string;
  readonly state: CheckpointState;
  /** False while the checkpoint is being made, or when that was interrupted. */
  readonly complete: boolean;
  /** A rollback or commit is under way, or was interrupted: {@link recover} finishes it. */
  readonly unfinished: boolean;
}

/** What {@link recover} did, by checkpoint id. */
export interface Recovered {
  /** Rollbacks and commits that had been interrupted. */
  readonly finished: readonly string[];
  /** Checkpoints that were interrupted while being made, or were over, and now are deleted. */
  readonly removed: readonly string[];
  /** In use by another process; left alone. */
  readonly busy: readonly string[];
}

/**
 * Lists the checkpoints of a store, oldest first, including those of processes that died.
 *
 * @example
 * ```ts
 * for (const { id, dirs, state } of await listCheckpoints()) console.log(id, state, dirs.join(" "));
 * ```
 */
export async function listCheckpoints(
  options: { readonly store?: string } = {},
): Promise<CheckpointSummary[]> {
  const list = await translated(binding().list(await storePath(options.store)));
  return list.map(({ createdMs, dirs, state, ...rest }) => ({
    ...rest,
    createdAt: new Date(createdMs),
    dirs: dirs.map(String),
    state: state as CheckpointState,
  }));
}

/**
 * Finishes what a crash interrupted, and deletes what is over. Harmless when nothing is to be done,
 * when run twice, and beside a working process.
 *
 * @example
 * ```ts
 * const { finished, removed } = await recover();
 * console.log(`${finished.length} finished, ${removed.length} deleted`);
 * ```
 */
export async function recover(options: { readonly store?: string } = {}): Promise<Recovered> {
  return translated(binding().recover(await storePath(options.store)));
}
