import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

/** A directory for what commands need only while their sandbox lives. Made when it is first asked for. */
export class Scratch {
  #directory: string | undefined;

  /** Its absolute path; mode 0700 (mkdtemp(3)). */
  get directory(): string {
    this.#directory ??= mkdtempSync(path.join(tmpdir(), "nono-scratch-"));
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
    if (this.#directory !== undefined) rmSync(this.#directory, { recursive: true, force: true });
    this.#directory = undefined;
  }
}
