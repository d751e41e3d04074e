import { spawn } from "node:child_process";
import process from "node:process";

/** What is typed once something is shown. */
export type Step = readonly [shown: string, typed: string];

/**
 * Runs a line of sh on a terminal of its own (script(1)), where a person types.
 *
 * @returns All that the terminal has shown.
 */
export async function onTerminal(
  line: string,
  steps: readonly Step[],
  { cwd, env = process.env }: { readonly cwd: string; readonly env?: NodeJS.ProcessEnv },
): Promise<string> {
  const args = ["--quiet", "--return", "--command", line, "/dev/null"];
  const child = spawn("script", args, { cwd, env, stdio: ["pipe", "pipe", "inherit"] });
  const left = [...steps];
  let [all, seen] = ["", 0];
  for await (const chunk of child.stdout) {
    all += String(chunk);
    const [step] = left;
    if (step === undefined) continue;
    const [shown, typed] = step;
    if (!all.includes(shown, seen)) continue;
    seen = all.length;
    left.shift();
    child.stdin.write(typed);
  }
  return all;
}
