// The verifiers and servers that are not ours: where they are, and how to ask them.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import path from "node:path";
import process from "node:process";

const source = path.resolve(import.meta.dirname, "../oracles");
export const programs = ["oracles", "litewitness", "posix", "timestamp-server"] as const;

/** What the build depends on; the cache directory is named by it. */
function contentKey(): string {
  const hash = createHash("sha256");
  for (const name of readdirSync(source).toSorted())
    hash.update(name).update(readFileSync(path.join(source, name)));
  return hash.digest("hex").slice(0, 16);
}

/** Root builds where the ordinary user of the second run finds it too. */
function cacheDirectories(): string[] {
  const own = path.join(homedir(), ".cache/nono-audit-oracles");
  return ["/var/cache/nono-audit-oracles", own].map((dir) => path.join(dir, contentKey()));
}

/** The directory with the built programs, if there is one that root or we ourselves made. */
export function oracleDirectory(): string | undefined {
  return cacheDirectories().find((dir) => {
    if (!programs.every((name) => existsSync(path.join(dir, name)))) return false;
    const { uid } = statSync(dir);
    return uid === 0 || uid === process.getuid?.();
  });
}

/** Builds the programs with the Go toolchain; returns why it could not. */
export function buildOracles(): string | undefined {
  if (oracleDirectory()) return undefined;
  const [shared = "", own = ""] = cacheDirectories();
  const target = process.getuid?.() === 0 ? shared : own;
  mkdirSync(target, { recursive: true });
  const build = ["-n", "5", "go", "build", "-trimpath", "-o", `${target}/`, ".", "tool"];
  const { status, stderr, error } = spawnSync("nice", build, {
    cwd: source,
    encoding: "utf8",
    timeout: 480_000,
  });
  if (status === 0) return undefined;
  return error?.message ?? (stderr.trim().split("\n").at(-1) || "go build failed");
}

/** Runs the `oracles` program; `ok` is its verdict. */
export function askOracle(args: readonly string[], input = ""): { ok: boolean; output: string } {
  const program = path.join(oracleDirectory() ?? "", "oracles");
  const { status, stdout, stderr } = spawnSync(program, args, {
    input,
    encoding: "utf8",
    timeout: 90_000,
  });
  return { ok: status === 0, output: stdout + stderr };
}
