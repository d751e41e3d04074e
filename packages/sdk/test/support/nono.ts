import { spawnSync } from "node:child_process";
import path from "node:path";
import process from "node:process";

/** The built `nono` command. */
export const main: string = path.resolve(import.meta.dirname, "../../dist/cli/main.js");

/** Whether the tests have run as another user already (scripts/as-users.ts). */
export const isSecondUser: boolean = process.env["NONO_TESTED_AS_ROOT"] !== undefined;

/** What became of it. */
export interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `nono` in a directory. */
export function nono(
  args: readonly string[],
  options: {
    readonly cwd?: string;
    readonly env?: NodeJS.ProcessEnv;
    readonly input?: string;
  } = {},
): Outcome {
  const env = { ...process.env, ...options.env };
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...args], {
    ...options,
    env,
    encoding: "utf8",
  });
  return { status, stdout, stderr };
}

/** Whether a program is installed; says what is skipped when it is not. */
export function has(program: string, what: string): boolean {
  if (spawnSync("sh", ["-c", `command -v ${program}`]).status === 0) return true;
  console.log(`SKIPPED: ${what}: ${program} is not installed`);
  return false;
}
