import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { afterAll } from "vitest";

/**
 * The tests of this file, and the commands they start, keep nono's state (records, keys,
 * checkpoints) in a directory that ends with them.
 */
export function useOwnState(): void {
  const directory = mkdtempSync(path.join(tmpdir(), "nono-state-"));
  process.env["XDG_STATE_HOME"] = directory;
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
}
