import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { prefixOf, staleDirectories } from "./stale-directories.ts";
import { deleteTree } from "./delete-tree.ts";

const kind = "nono-scratch";

/** A directory for what commands need only while their sandbox lives. Made when it is first asked for. */
export class Scratch {
  #directory: string | undefined;

  /** Its absolute path; mode 0700 (mkdtemp(3)). */
  get directory(): string {
    if (this.#directory === undefined) {
      for (const stale of staleDirectories(kind, tmpdir())) deleteTree(stale);
      this.#directory = mkdtempSync(path.join(tmpdir(), prefixOf(kind)));
    }
    return this.#directory;
  }

  /** The directory, if it was asked for. */
  get made(): readonly string[] {
    return this.#directory === undefined ? [] : [this.#directory];
  }

  /** Those of `paths` that are not in it. */
  exclude<T>(paths: readonly T[]): T[] {
    return paths.filter((name) => name !== this.#directory);
  }

  /** Deletes it with all that commands have left there. */
  remove(): void {
    if (this.#directory !== undefined) deleteTree(this.#directory);
    this.#directory = undefined;
  }
}
