import { execFile, spawnSync } from "node:child_process";
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

/** The same while this process goes on, as a server that is talked to has to. */
export async function nonoMeanwhile(
  args: readonly string[],
  options: { readonly cwd: string; readonly env?: NodeJS.ProcessEnv },
): Promise<Outcome> {
  const env = { ...process.env, ...options.env };
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [main, ...args],
      { cwd: options.cwd, env, timeout: 240_000 },
      (_, stdout, stderr) => resolve({ status: child.exitCode, stdout, stderr }),
    );
    child.stdin?.end();
  });
}

/** Whether a program is installed; says what is skipped when it is not. */
export function has(program: string, what: string): boolean {
  if (spawnSync("sh", ["-c", `command -v ${program}`]).status === 0) return true;
  console.log(`SKIPPED: ${what}: ${program} is not installed`);
  return false;
}
