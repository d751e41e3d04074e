import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll } from "vitest";
import {
  ed25519Signer,
  openAuditLog,
  type CheckpointSigner,
  type AuditLog,
  type AuditLogOptions,
  type NonoEvent,
} from "../../src/index.ts";

const made: string[] = [];
afterAll(() => {
  for (const dir of made.splice(0)) rmSync(dir, { recursive: true, force: true });
});

/** A new directory that goes away with the test file. */
export function temporaryDirectory(): string {
  const dir = mkdtempSync(path.join(tmpdir(), "nono-audit-"));
  made.push(dir);
  return dir;
}

export const origin = "nono.local/test/session/0193a4f0-0000-7000-8000-000000000001";
export const seed: Buffer = Buffer.alloc(32, 7);
export const signer: CheckpointSigner = ed25519Signer(origin, seed);

/** Opens a log with the test key; timers off unless asked for. */
export function openTestLog(
  dir: string,
  options: Partial<AuditLogOptions> = {},
): Promise<AuditLog> {
  return openAuditLog({
    dir,
    origin,
    signer,
    checkpointInterval: 3_600_000,
    heartbeatInterval: 0,
    ...options,
  });
}

/** A connection attempt; `n` makes it different from others. */
export function connectEvent(n: number): NonoEvent {
  return {
    type: "net.connect",
    phase: "intent",
    decision: n % 3 === 0 ? "deny" : "allow",
    actor: { pid: 4242, exe: "/usr/bin/python3", uid: 1000 },
    rule: { id: "net:api.example.com:443" },
    object: { host: "api.example.com", port: (n % 60_000) + 1, transport: "tcp" },
  };
}

/** A closed log of `count` entries (`log.open` and `log.close` among them). */
export async function closedLog(
  count: number,
  options: Partial<AuditLogOptions> = {},
): Promise<string> {
  const dir = path.join(temporaryDirectory(), "log");
  const log = await openTestLog(dir, options);
  for (let n = 0; n < count - 2; n += 1) log.recordAndForget(connectEvent(n));
  await log.close("done");
  return dir;
}
