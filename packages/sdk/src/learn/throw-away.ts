// What commands change while a policy is learned does not stay.
import { chmodSync, readFileSync, type Stats, statSync, utimesSync, writeFileSync } from "node:fs";
import type { Checkpoint } from "@nono/rollback";
import { isBelow } from "../state.ts";
import { checkpointOf } from "../undo.ts";

/** Keeps the state of what may be written, and brings it back after every round. */
export class ThrowAway implements AsyncDisposable {
  readonly #directories = new Map<string, Checkpoint>();
  readonly #files = new Map<string, { readonly content: Buffer; readonly stats: Stats }>();

  /**
   * Keeps the state of a directory or file.
   *
   * @throws RollbackError of `@nono/rollback` where that can't be done.
   */
  async cover(name: string): Promise<void> {
    if ([...this.#directories.keys(), ...this.#files.keys()].some((kept) => isBelow(name, kept))) {
      return;
    }
    const stats = statSync(name);
    if (stats.isDirectory()) this.#directories.set(name, await checkpointOf([name], {}, undefined));
    // Of devices and pipes there is nothing to keep.
    else if (stats.isFile()) this.#files.set(name, { content: readFileSync(name), stats });
  }

  /**
   * Brings everything back. Entries, not whole trees: a shell whose working directory is one of the
   * directories shall not be left in a deleted one.
   */
  async bringBack(): Promise<void> {
    for (const [name, kept] of this.#directories) {
      try {
        await bringBack(kept);
      } catch (error) {
        // It has the only copy of what was: nobody shall delete it.
        this.#directories.delete(name);
        throw error;
      }
    }
    for (const [name, { content, stats }] of this.#files) {
      const now = statSync(name, { throwIfNoEntry: false });
      if (now?.ctimeMs === stats.ctimeMs) continue;
      writeFileSync(name, content);
      chmodSync(name, stats.mode);
      utimesSync(name, stats.atimeMs / 1000, stats.mtimeMs / 1000);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const kept of this.#directories.values()) await kept.dispose();
  }
}

async function bringBack(kept: Checkpoint): Promise<void> {
  // The second time for what the first has left: the old name of what was renamed, say.
  for (let attempt = 0; attempt < 2; attempt += 1) {
    const changed = await changedEntries(kept);
    if (changed.length === 0) return;
    await kept.rollback({ paths: changed });
  }
  if ((await changedEntries(kept)).length > 0) await kept.rollback();
}

async function changedEntries(kept: Checkpoint): Promise<(string | Buffer)[]> {
  const changed: (string | Buffer)[] = [];
  let added: string | undefined;
  for await (const { kind, path: name, rawPath, from } of kept.changes()) {
    // Changes come sorted, and what is new goes with its directory.
    if (name === "" || (added !== undefined && name.startsWith(`${added}/`))) continue;
    if (kind === "added") added = name;
    changed.push(rawPath, ...(from === undefined ? [] : [from]));
  }
  return changed;
}
