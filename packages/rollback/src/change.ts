import { binding } from "./binding.ts";
import type * as native from "./binding.gen.ts";
import { translated } from "./errors.ts";

/**
 * In what an entry differs from the checkpoint; `modified` is contents or type, `xattr` also an ACL or
 * the flags of chattr(1).
 */
export type ChangeKind =
  | "added"
  | "modified"
  | "deleted"
  | "renamed"
  | "mode"
  | "owner"
  | "xattr"
  | "times";

/** The condition of an entry. */
export interface FileState {
  /** File type and permission bits, as in `fs.Stats`. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Bytes. */
  readonly size: number;
  /** Milliseconds since the epoch. */
  readonly mtimeMs: number;
}

/** The difference of a file's contents. */
export type FileDiff =
  | { readonly kind: "text"; /** Unified hunks, without file names. */ readonly text: string }
  | { readonly kind: "binary" | "too-large" };

/**
 * One difference between a checkpoint and the directory as it is now.
 *
 * @example
 * ```ts
 * for await (const change of before.changes()) {
 *   const diff = await change.diff();
 *   console.log(change.kind, change.path, diff.kind === "text" ? diff.text : diff.kind);
 * }
 * ```
 */
export class Change {
  /** The checkpoint's directory. */
  readonly dir: string;
  /** Path of the entry in `dir`. Bytes that are not UTF-8 show as U+FFFD; see `rawPath`. */
  readonly path: string;
  /** The same path as bytes; accepted by `rollback` and `commit`. */
  readonly rawPath: Buffer;
  readonly kind: ChangeKind;
  /** The former path of what was renamed. Bytes that are not UTF-8 show as U+FFFD; see `rawFrom`. */
  readonly from: string | undefined;
  /** The same path as bytes. */
  readonly rawFrom: Buffer | undefined;
  /** At the checkpoint; absent for what was added. */
  readonly before: FileState | undefined;
  /** Now; absent for what was deleted. */
  readonly after: FileState | undefined;
  readonly #native: native.Change;
  readonly #store: string;
  readonly #checkpoint: string;

  /** @internal `checkpoint` is the id. */
  constructor(change: native.Change, store: string, checkpoint: string) {
    this.#native = change;
    this.#store = store;
    this.#checkpoint = checkpoint;
    this.dir = change.dir.toString();
    this.path = change.path.toString();
    this.rawPath = change.path;
    this.kind = change.kind;
    this.from = change.from?.toString();
    this.rawFrom = change.from;
    this.before = change.before;
    this.after = change.after;
  }

  /**
   * Compares the contents line by line. Files over 1 MiB, with a NUL byte or not in UTF-8 are not compared.
   * Call it before the checkpoint is rolled back or committed.
   *
   * @throws {@link RollbackError} `ERR_NONO_ROLLBACK_IO` when one side can no longer be read.
   */
  async diff(): Promise<FileDiff> {
    const { beforeFile, afterFile } = this.#native;
    const diff = await translated(
      binding().diff(this.#store, this.#checkpoint, beforeFile, afterFile),
    );
    return diff.kind === "text" ? { kind: "text", text: diff.text ?? "" } : { kind: diff.kind };
  }

  /** @internal What went and what came, of an entry that has become another one. */
  apart(): readonly [Change, Change] {
    const gone: native.Change = { ...this.#native, kind: "deleted" };
    const come: native.Change = { ...this.#native, kind: "added" };
    delete gone.after;
    delete gone.afterFile;
    delete come.before;
    delete come.beforeFile;
    return [
      new Change(gone, this.#store, this.#checkpoint),
      new Change(come, this.#store, this.#checkpoint),
    ];
  }
}
