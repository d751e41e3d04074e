import { type ChildProcess, spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import path from "node:path";
import process from "node:process";
import { expect, test } from "vitest";
import { eventually, processesWith } from "./processes.ts";
import { tiers, Workspace } from "./workspace.ts";

/** A process of its own that owns a sandbox, with a daemon and a foreground command inside. */
async function ownerOf(workspace: Workspace, marker: string, tier: string): Promise<ChildProcess> {
  const script = path.join(import.meta.dirname, "owner.ts");
  const owner = spawn(process.execPath, [script, workspace.path, marker, tier], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  expect(String((await once(owner.stdout, "data"))[0])).toBe("ready\n");
  return owner;
}

const cases = tiers.flatMap((tier) => [["SIGKILL", tier] as const, ["SIGTERM", tier] as const]);

test.for(cases)("nothing survives the owner's %s (%s)", async ([signal, tier]) => {
  using workspace = new Workspace();
  const marker = randomUUID();
  const owner = await ownerOf(workspace, marker, tier);
  const ended = once(owner, "exit");
  try {
    // The owner, the daemon and the foreground command.
    expect(await eventually(() => processesWith(marker).length >= 3)).toBe(true);
  } finally {
    owner.kill(signal);
    await ended;
  }
  expect(await eventually(() => processesWith(marker).length === 0)).toBe(true);
});
