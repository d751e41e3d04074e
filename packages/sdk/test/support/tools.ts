// The agents whose presets are tested, from the registries they are published in. They are large (up to
// 400 MB each), so they are kept between runs, below node_modules.
import { execFile, spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { promisify } from "node:util";

const run = promisify(execFile);
const cache = path.resolve(import.meta.dirname, "../../node_modules/.cache/nono-tools");

const npmPackages: Readonly<Record<string, string>> = {
  claude: "@anthropic-ai/claude-code@2.1.331",
  codex: "@openai/codex@0.169.0",
  opencode: "opencode-ai@1.18.33",
};

/** Where a tool's program is; undefined: it is not installed here. */
export function toolDirectory(program: string): string | undefined {
  const directory = path.join(
    cache,
    program,
    Object.hasOwn(npmPackages, program) ? "node_modules/.bin" : "bin",
  );
  return existsSync(path.join(directory, program)) ? directory : undefined;
}

async function installFromNpm(program: string, name: string): Promise<void> {
  const prefix = path.join(cache, program);
  await run("npm", ["install", "--no-audit", "--no-fund", "--prefix", prefix, name]);
}

/** uv, since pip takes a minute and more for what uv does in ten seconds. */
async function installAider(): Promise<void> {
  const directory = path.join(cache, "aider");
  const uv = path.join(cache, "uv");
  await run("python3", ["-m", "venv", uv]);
  await run(`${uv}/bin/pip`, ["install", "--quiet", "--disable-pip-version-check", "uv"]);
  const env = { ...process.env, UV_CACHE_DIR: path.join(uv, "cache") };
  await run(`${uv}/bin/uv`, ["venv", "--quiet", "--clear", directory], { env });
  const args = ["pip", "install", "--quiet", "--python", directory, "aider-chat==0.86.2"];
  await run(`${uv}/bin/uv`, args, { env });
}

if (import.meta.main) {
  const missing = [...Object.keys(npmPackages), "aider"].filter((name) => !toolDirectory(name));
  const installed = missing.map(async (name) => {
    try {
      const npmPackage = npmPackages[name];
      await (npmPackage === undefined ? installAider() : installFromNpm(name, npmPackage));
    } catch (error) {
      console.log(`SKIPPED: the preset of ${name}: not installed: ${String(error).split("\n")[0]}`);
    }
  });
  await Promise.all(installed);
  // Tests run once more as an ordinary user, who reads what root has installed.
  spawnSync("chmod", ["-R", "a+rX", cache]);
}
