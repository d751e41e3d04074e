import { mkdirSync, mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import {
  createSandbox,
  support,
  type Capabilities,
  type Sandbox,
  type SandboxOptions,
} from "../src/index.ts";

/** A temporary directory that ends with its scope. */
export class Workspace implements Disposable {
  readonly path: string = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-test-")));

  /** Path of something in it. */
  at(...names: string[]): string {
    return path.join(this.path, ...names);
  }

  mkdir(name: string): string {
    mkdirSync(this.at(name), { recursive: true });
    return this.at(name);
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** The tiers that work here. */
export const tiers: readonly NonNullable<SandboxOptions["tier"]>[] = support()
  .tiers.filter((tier) => tier.available)
  .map((tier) => tier.name as NonNullable<SandboxOptions["tier"]>);

/** What the tests' commands need. Names, because distributions put them in different places. */
export const tools: readonly string[] = [
  "sh",
  "cat",
  "sleep",
  "env",
  "head",
  "wc",
  "dd",
  "true",
  "false",
  "setsid",
];

/** A sandbox that can write in the workspace and execute the {@link tools}. */
export function sandboxIn(
  workspace: Workspace,
  capabilities: Capabilities = {},
  options: SandboxOptions = {},
): Promise<Sandbox> {
  return createSandbox({ write: [workspace.path], exec: tools, ...capabilities }, options);
}
