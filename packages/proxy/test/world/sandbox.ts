import { type Capabilities, type Sandbox, createSandbox } from "@nono/core";
import { execFile } from "node:child_process";
import path from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import type { Gate } from "../../src/index.ts";
import { cached } from "../support/cache.ts";
import { directory } from "./scratch.ts";

/** How a client ended. */
export interface Ended {
  readonly status: number;
  readonly output: string;
}

/** A sandbox of @nono/core whose network is the gate. */
export async function openSandbox(tier: "namespaces" | "flat", gate: Gate): Promise<Sandbox> {
  const programs = ["/usr", path.dirname(process.execPath), cached.directory];
  const capabilities: Capabilities = {
    network: "gate",
    gatePorts: [443, 80, 22],
    read: [...programs, "/etc", gate.trustFiles.directory],
    write: [directory],
    exec: programs,
  };
  const sandbox = await createSandbox(capabilities, { tier });
  await gate.serve(sandbox.takeListeners());
  return sandbox;
}

/** Runs a client to its end, or for a minute; without a sandbox as any process of the world. */
export async function runClient(
  sandbox: Sandbox | undefined,
  argv: readonly string[],
  env: Record<string, string>,
): Promise<Ended> {
  const options = { cwd: directory, env, timeout: 60_000 };
  try {
    if (sandbox) {
      const { exitCode, stdout, stderr } = await sandbox.run(argv, options);
      return { status: exitCode ?? -1, output: stdout + stderr };
    }
    const [command = "", ...args] = argv;
    const { stdout, stderr } = await promisify(execFile)(command, args, options);
    return { status: 0, output: stdout + stderr };
  } catch (error) {
    const { stdout = "", stderr = "" } = error as { stdout?: string; stderr?: string };
    return { status: -1, output: `${String(error)}\n${stdout}${stderr}` };
  }
}
