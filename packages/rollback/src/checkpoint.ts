import { readlinkSync } from "node:fs";
import process from "node:process";
import { binding } from "./binding.ts";
import type * as native from "./binding.gen.ts";
import { Change } from "./change.ts";
import { translated } from "./errors.ts";
import { type EventSink, onRecord } from "./events.ts";

/** How the state of a directory is kept. `auto` takes the cheapest that the directory supports. */
export type StrategyName = "auto" | "btrfs" | "zfs" | "apfs" | "overlay" | "reflink" | "copy";

/** What has become of a checkpoint. Only an `active` or `applied` one can be rolled back or committed. */
export type CheckpointState = "active" | "applied" | "rolled-back" | "committed" | "superseded";

/** Options of {@link checkpoint}. */
export interface CheckpointOptions {
  /**
   * Default `auto`, under which renaming a directory always works. A strategy that can't serve the
   * directory is refused with the reason.
   */
  readonly strategy?: StrategyName;
  /**
   * What to leave alone, in the manner of `.gitignore` without negation: never copied, listed,
   * restored or deleted, under every strategy. Default: nothing, so that untracked and ignored files
   * are covered too.
   */
  readonly exclude?: readonly string[];
  /**
   * Who will mount {@link Checkpoint.mounts}: `privileged` is root of the initial user namespace,
   * with `redirect_dir=on`; `unprivileged` a user namespace, with `userxattr`, where renaming a
   * directory fails with EXDEV; `supervised` the same, under a supervisor that carries such renames
   * out, as `@nono/core` does. Default: nobody, and overlay is refused. `auto` takes it for `privileged`
   * and `supervised`.
   */
  readonly mounter?: "privileged" | "supervised" | "unprivileged";
  /** Directory of the records. Default `$XDG_STATE_HOME/nono/rollback`. */
  readonly store?: string;
  /** Where operations are put on record. */
  readonly events?: EventSink;
}

/** Options of {@link Checkpoint.rollback}. */
export interface RollbackOptions {
  /** Only these entries with what is below them; relative to the directory, or absolute. */
  readonly paths?: readonly (string | Buffer)[];
  /**
   * When processes still hold files of the directories: `report` (default) goes ahead and names
   * them, `refuse` throws `ERR_NONO_FILES_HELD` and changes nothing.
   */
  readonly whenHeld?: "report" | "refuse";
}

/** A process that had a file open, mapped or as its working directory. It goes on in the old tree. */
export interface Holder {
  readonly pid: number;
  readonly command: string;
  readonly path: string;
  readonly kind: "directory" | "file";
}

/** What {@link Checkpoint.rollback} found. */
export interface RollbackResult {
  /** Processes that held files; those of other users are seen by root only. */
  readonly holders: readonly Holder[];
}

/** An overlay that whoever runs the commands mounts over the directory, in their mount namespace. */
export interface CheckpointMount {
  readonly type: "overlay";
  readonly target: string;
  readonly lower: string;
  readonly upper: string;
  readonly work: string;
}

/** Which strategy a checkpoint uses, and why. */
export interface Strategy {
  readonly name: string;
  /** A sentence for people. */
  readonly reason: string;
}

/**
 * Keeps the state of one or several directories, to be able to bring it back.
 *
 * @throws {@link RollbackError} before anything is written when the directories can't be rolled
 * back later: `ERR_NONO_MOUNT_POINT`, `ERR_NONO_SPANS_FILESYSTEMS`, `ERR_NONO_STORE_UNUSABLE`,
 * `ERR_NONO_STRATEGY_UNSUPPORTED`, `ERR_NONO_NESTED_DIRECTORIES`; `ERR_NONO_FILE_CHANGING` when
 * a program keeps writing while it is copied.
 *
 * @example
 * ```ts
 * await using before = await checkpoint("project");
 * await runAgent();
 * for await (const change of before.changes()) console.log(change.kind, change.path);
 * await before.rollback();
 * ```
 */
export async function checkpoint(
  dirs: string | readonly string[],
  options: CheckpointOptions = {},
): Promise<Checkpoint> {
  const store = await storePath(options.store);
  const list = typeof dirs === "string" ? [dirs] : [...dirs];
  const { strategy = "auto", exclude = [], events } = options;
  const { mounter } = options;
  const settings = { strategy, exclude: [...exclude], ...(mounter && { mounter }) };
  const info = await onRecord(
    events,
    "snapshot.create",
    { dirs: list, strategy },
    () => translated(binding().create(store, list.map(bytes), settings)),
    (made) => ({ dirs: list, strategy: made.strategy, reason: made.reason }),
  );
  const made = new Checkpoint(store, info, events);
  made.flushInBackground();
  return made;
}

/**
 * Opens a checkpoint made earlier, perhaps by another process.
 *
 * @throws {@link RollbackError} `ERR_NONO_UNKNOWN_CHECKPOINT`.
 *
 * @example
 * ```ts
 * const [oldest] = await listCheckpoints();
 * if (oldest !== undefined) await (await openCheckpoint(oldest.id)).rollback();
 * ```
 */
export async function openCheckpoint(
  id: string,
  options: Pick<CheckpointOptions, "store" | "events"> = {},
): Promise<Checkpoint> {
  const store = await storePath(options.store);
  return new Checkpoint(store, await translated(binding().info(store, id)), options.events);
}

/**
 * The state of some directories at one time, and the way back to it. Made by {@link checkpoint}.
 *
 * @example
 * ```ts
 * const before: Checkpoint = await checkpoint("project");
 * console.log(before.strategy.name, before.strategy.reason);
 * await before.commit({ paths: ["README.md"] });
 * await before.rollback();
 * await before.dispose();
 * ```
 */
export class Checkpoint implements AsyncDisposable {
  readonly id: string;
  readonly createdAt: Date;
  /** Its directories, canonical. */
  readonly dirs: readonly string[];
  readonly strategy: Strategy;
  /** What to mount before the first command; empty for every strategy but overlay. */
  readonly mounts: readonly CheckpointMount[];
  readonly #store: string;
  readonly #events: EventSink | undefined;
  #state: CheckpointState;
  #background: Promise<void> = Promise.resolve();

  /** @internal */
  constructor(store: string, info: native.Info, events: EventSink | undefined) {
    this.id = info.id;
    this.createdAt = new Date(info.createdMs);
    this.dirs = info.dirs.map(String);
    this.strategy = { name: info.strategy, reason: info.reason };
    this.mounts = info.mounts.map(({ target, lower, upper, work }) => ({
      type: "overlay",
      target: target.toString(),
      lower: lower.toString(),
      upper: upper.toString(),
      work: work.toString(),
    }));
    this.#store = store;
    this.#events = events;
    this.#state = info.state as CheckpointState;
  }

  /** What has become of it, as far as this object knows. */
  get state(): CheckpointState {
    return this.#state;
  }

  /**
   * Lists what differs from the checkpoint now, each directory sorted by path.
   *
   * @throws {@link RollbackError} `ERR_NONO_CHECKPOINT_STATE`, `ERR_NONO_ROLLBACK_IO`; `ERR_NONO_TOO_DEEP`
   * for a path of more than 8 KiB below the directory, which a whole rollback undoes all the same.
   */
  async *changes(): AsyncGenerator<Change, void, void> {
    for (const change of await translated(binding().changes(this.#store, this.id))) {
      yield new Change(change, this.#store, this.id);
    }
  }

  /**
   * Overlay: brings the changes into the directories, by exchanging each changed entry, once the
   * commands have ended and their mounts are gone. Until then they are in the upper layer only,
   * and a rollback merely drops it. Every other strategy has nothing to apply.
   *
   * @throws {@link RollbackError} and nothing has changed: `ERR_NONO_CHECKPOINT_STATE`, `ERR_NONO_ROLLBACK_IO`.
   */
  async apply(): Promise<void> {
    if (this.mounts.length === 0) return;
    await this.#background;
    await translated(binding().apply(this.#store, this.id));
    this.#state = "applied";
  }

  /**
   * Overlay: takes what {@link Checkpoint.apply} brought into the directories out of them again. The
   * mounts can then be made once more, and show it. Every other strategy has nothing to withdraw.
   *
   * @throws {@link RollbackError} and nothing has changed: `ERR_NONO_CHECKPOINT_STATE`,
   * `ERR_NONO_CHECKPOINT_DIVIDED` after single paths were committed or rolled back,
   * `ERR_NONO_CHANGED_MEANWHILE`, `ERR_NONO_ROLLBACK_IO`.
   */
  async withdraw(): Promise<void> {
    if (this.mounts.length === 0) return;
    await this.#background;
    await translated(binding().withdraw(this.#store, this.id));
    this.#state = "active";
  }

  /**
   * Brings the directories back, or only `paths`. A whole rollback is atomic, ends this checkpoint
   * and supersedes later ones of the same directories; the discarded tree is deleted in the
   * background ({@link Checkpoint.dispose} waits for that).
   *
   * @throws {@link RollbackError} and nothing has changed: `ERR_NONO_CHECKPOINT_STATE` when it is over,
   * `ERR_NONO_FILES_HELD`, `ERR_NONO_PATH_OUTSIDE`, `ERR_NONO_EXCLUDED_CONFLICT`,
   * `ERR_NONO_IMMUTABLE`, `ERR_NONO_ROLLBACK_IO`; `ERR_NONO_RENAMED_DIRECTORY` for a path below what was renamed
   * as a directory, or is one on one side only.
   */
  async rollback(options: RollbackOptions = {}): Promise<RollbackResult> {
    const refuse = options.whenHeld === "refuse";
    const holders = await this.#recorded("snapshot.restore", options.paths, async () => {
      const cwd = this.#workingDirectory();
      const paths = options.paths?.map(bytes);
      const held = await translated(binding().rollback(this.#store, this.id, paths, refuse));
      if (cwd !== undefined) returnTo(cwd, this.dirs);
      return held;
    });
    if (options.paths === undefined) this.#end("rolled-back");
    return {
      holders: holders.map(({ pid, command, path, directory }) => ({
        pid,
        command,
        path: path.toString(),
        kind: directory ? "directory" : "file",
      })),
    };
  }

  /**
   * Keeps the changes, or only those of `paths`: they are no longer rolled back. Keeping all of
   * them ends the checkpoint.
   *
   * @throws {@link RollbackError} `ERR_NONO_CHECKPOINT_STATE`, `ERR_NONO_PATH_OUTSIDE`,
   * `ERR_NONO_ROLLBACK_IO`; `ERR_NONO_CHECKPOINT_NEEDED` for an overlay over an earlier one that was applied.
   */
  async commit(options: Pick<RollbackOptions, "paths"> = {}): Promise<void> {
    const paths = options.paths?.map(bytes);
    await this.#recorded("snapshot.commit", options.paths, () =>
      translated(binding().commit(this.#store, this.id, paths)),
    );
    if (paths === undefined) this.#end("committed");
  }

  /**
   * Deletes the checkpoint; the directories stay as they are. Waits for work in the background.
   *
   * @throws {@link RollbackError} `ERR_NONO_ROLLBACK_IO` when something can't be deleted yet; `recover()` does it later.
   */
  async dispose(): Promise<void> {
    await this.#background;
    await translated(binding().dispose(this.#store, this.id));
    if (this.#state === "active" || this.#state === "applied") this.#state = "committed";
  }

  /** The same as `dispose()`, for `await using`. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.dispose();
  }

  /** @internal Until it is flushed the checkpoint survives the process, but not a power failure. */
  flushInBackground(): void {
    this.#inBackground(() => binding().flush(this.#store, this.id));
  }

  #end(state: CheckpointState): void {
    this.#state = state;
    this.#inBackground(() => binding().purge(this.#store, this.id));
  }

  /** Failures show again, with their reason, at the operation that needs the work done. */
  #inBackground(work: () => Promise<void>): void {
    this.#background = this.#background.then(work).catch(() => undefined);
  }

  async #recorded<T>(
    type: "snapshot.restore" | "snapshot.commit",
    paths: readonly (string | Buffer)[] | undefined,
    operation: () => Promise<T>,
  ): Promise<T> {
    await this.#background;
    const object = { dirs: [...this.dirs], strategy: this.strategy.name };
    const listed = paths === undefined ? object : { ...object, paths: paths.map(String) };
    return onRecord(this.#events, type, listed, operation);
  }

  /** The working directory of this process, if it is in the checkpoint: it would stay in the old tree. */
  #workingDirectory(): string | undefined {
    const cwd = workingDirectory();
    return this.dirs.some((dir) => cwd === dir || cwd.startsWith(`${dir}/`)) ? cwd : undefined;
  }
}

/** Where this process is, also when that was deleted. */
export function workingDirectory(): string {
  try {
    return process.cwd();
  } catch {
    // It was deleted, which the kernel says after its former name (proc_pid_cwd(5)).
    return readlinkSync("/proc/self/cwd").replace(/ \(deleted\)$/, "");
  }
}

function returnTo(cwd: string, dirs: readonly string[]): void {
  for (const dir of [cwd, ...dirs.filter((root) => cwd.startsWith(root))]) {
    try {
      process.chdir(dir);
      return;
    } catch {
      // It did not exist at the checkpoint, or this is a worker; the holders in the result say so.
    }
  }
}

/** A path as bytes. */
function bytes(path: string | Buffer): Buffer {
  return typeof path === "string" ? Buffer.from(path) : path;
}

/** The store given, or the user's own. */
export async function storePath(store: string | undefined): Promise<string> {
  return store ?? String(await translated(binding().defaultStore()));
}
