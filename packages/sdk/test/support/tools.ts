// The agents whose presets are tested, from the registries they are published in. They are large (up to
// 550 MB each), so they are kept between runs, below node_modules, and nothing is waited for longer than a
// test run has patience: what is not there by then is skipped by name.
import { execFile, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { promisify } from "node:util";

const run = promisify(execFile);
const cache = path.resolve(import.meta.dirname, "../../node_modules/.cache/nono-tools");

/** For all of them together, in milliseconds. They take a minute and a half on a machine busy with tests. */
const patience = 6 * 60_000;

/** By the program's name. */
const packages = {
  claude: "@anthropic-ai/claude-code@2.1.331",
  codex: "@openai/codex@0.169.0",
  opencode: "opencode-ai@1.18.33",
  aider: "aider-chat==0.86.2",
} as const;
type Program = keyof typeof packages;

/** Where a tool's program is; undefined: it is not installed here. */
export function toolDirectory(program: string): string | undefined {
  if (!isInstalled(program)) return undefined;
  return path.join(cache, program, program === "aider" ? "bin" : "node_modules/.bin");
}

/** Written last, with what it is: what an interrupted installation leaves is no tool. */
function marker(program: string): string {
  return path.join(cache, program, ".installed");
}

function isInstalled(program: string): boolean {
  try {
    return readFileSync(marker(program), "utf8") === packages[program as Program];
  } catch {
    return false;
  }
}

async function install(program: Program, signal: AbortSignal): Promise<void> {
  const directory = path.join(cache, program);
  const downloads = path.join(cache, `${program}-downloads`);
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  try {
    if (program === "aider") await installWithUv(packages[program], directory, downloads, signal);
    else {
      const flags = ["--no-audit", "--no-fund", "--cache", downloads, "--prefix", directory];
      await run("npm", ["install", ...flags, packages[program]], { signal });
    }
    writeFileSync(marker(program), packages[program]);
  } finally {
    rmSync(downloads, { recursive: true, force: true });
  }
}

/** pip takes a minute and more for what uv does in ten seconds. */
async function installWithUv(
  name: string,
  directory: string,
  downloads: string,
  signal: AbortSignal,
): Promise<void> {
  const uv = path.join(downloads, "bin/uv");
  const quiet = ["--quiet", "--disable-pip-version-check", "--no-cache-dir"];
  const options = {
    signal,
    env: { ...process.env, UV_CACHE_DIR: path.join(downloads, "cache") },
  };
  await run("python3", ["-m", "venv", downloads], options);
  await run(path.join(downloads, "bin/pip"), ["install", ...quiet, "uv"], options);
  await run(uv, ["venv", "--quiet", "--clear", directory], options);
  await run(uv, ["pip", "install", "--quiet", "--python", directory, name], options);
}

if (import.meta.main && process.env["NONO_TOOLS_INSTALLED"] === undefined) {
  const signal = AbortSignal.timeout(patience);
  const missing = (Object.keys(packages) as Program[]).filter((name) => !isInstalled(name));
  const installed = missing.map(async (program) => {
    try {
      await install(program, signal);
    } catch (error) {
      const reason = signal.aborted
        ? `not installed within ${patience / 1000} s`
        : `not installed: ${String(error).split("\n")[0]}`;
      console.log(`SKIPPED: the preset of ${program}: ${reason}`);
    }
  });
  await Promise.all(installed);
  // Tests run once more as an ordinary user, who reads what root has installed.
  spawnSync("chmod", ["-R", "a+rX", cache]);
}
