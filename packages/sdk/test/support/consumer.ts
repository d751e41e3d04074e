// What a user's program may look like: compiled against the packed packages, every type of theirs checked.
import { openAuditLog, type NonoEvent } from "@nono/audit";
import { createSandbox, NonoError, type Capabilities } from "@nono/core";
import { createGate, fromEnv } from "@nono/proxy";
import { checkpoint, type Change } from "@nono/rollback";
import { PolicyError, Sandbox, type Policy, type SandboxResult } from "@nono/sdk";
import { inSandbox, spawn } from "@nono/sdk/child_process";

export const policy: Policy = {
  extends: ["node"],
  read: ["$WORKSPACE"],
  network: { allow: ["a.test"] },
};
export const capabilities: Capabilities = { read: ["/"], limits: { processes: 4 } };

export async function main(): Promise<number | null> {
  const sandbox = new Sandbox({ tier: "flat" }).use(policy).allowWrite("/tmp").enableRollback();
  const result: SandboxResult = await sandbox.run(["true"], { timeout: 1000 });
  const changes: Change[] = [];
  for await (const change of result.changes()) changes.push(change);
  const bytes: Buffer = (await sandbox.run(["true"], { encoding: "buffer" })).stdout;
  inSandbox(sandbox)
    .spawn("ls", ["-l"])
    .stdout?.on("data", (chunk: Buffer) => chunk.length);
  spawn("ls").on("exit", (code) => code);
  return bytes.length + changes.length > 0 ? result.exitCode : null;
}

export function parts(): unknown[] {
  return [createSandbox, createGate, checkpoint, openAuditLog, fromEnv("TOKEN")];
}
export const event: NonoEvent["type"] = "process.exec";
export const isOurs = (error: unknown): boolean =>
  error instanceof NonoError || error instanceof PolicyError;

// @ts-expect-error: a misspelt capability is an error of the compiler too
export const wrong: Capabilities = { raed: ["/"] };
