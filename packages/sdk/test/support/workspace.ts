import { mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterEach, beforeEach } from "vitest";

/** An empty directory for each test of a file, which ends with it. */
export interface Workspace {
  /** Where it is. */
  readonly directory: string;
  /** Writes a file into it. */
  file(name: string, text: string): void;
}

/** Gives each test of this file a workspace. */
export function useWorkspace(): Workspace {
  let directory = "";
  beforeEach(() => {
    directory = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-workspace-")));
  });
  afterEach(() => rmSync(directory, { recursive: true, force: true }));
  return {
    get directory() {
      return directory;
    },
    file: (name, text) => writeFileSync(path.join(directory, name), text),
  };
}
