// The verifiers, servers and vectors that are not ours: where they are, and how to ask them.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, statSync } from "node:fs";
import { homedir } from "node:os";
import path from "node:path";
import process from "node:process";
import { patience } from "./patience.ts";

/** A Go module of ours, and what is built from it. */
interface GoModule {
  readonly source: string;
  readonly packages: readonly string[];
  readonly programs: readonly string[];
}

const oracles: GoModule = {
  source: path.resolve(import.meta.dirname, "../oracles"),
  packages: [".", "tool"],
  programs: ["oracles", "litewitness", "posix", "timestamp-server"],
};

/** By itself, because what it depends on would drag all others along. */
const cosign: GoModule = {
  source: path.resolve(import.meta.dirname, "../cosign"),
  packages: ["tool"],
  programs: ["cosign"],
};

/** Data of other modules, by the module that carries it. */
const vectors: Readonly<Record<string, readonly string[]>> = {
  "github.com/c2sp/wycheproof": [
    "testvectors_v1/ed25519_test.json",
    "testvectors_v1/ecdsa_secp256r1_sha256_test.json",
    "testvectors_v1/mldsa_44_verify_test.json",
  ],
  "github.com/cyberphone/json-canonicalization": ["testdata/input", "testdata/output"],
  "github.com/sigstore/sigstore-go": ["pkg/testing/data/bundles", "pkg/testing/data/trusted-roots"],
};

/** What a build depends on; its directory in the cache is named by it. */
function contentKey({ source }: GoModule): string {
  const hash = createHash("sha256");
  for (const name of readdirSync(source).toSorted())
    hash.update(name).update(readFileSync(path.join(source, name)));
  return hash.digest("hex").slice(0, 16);
}

/** Root builds where the ordinary user of the second run finds it too. */
function cacheDirectories(key: string): string[] {
  const own = path.join(homedir(), ".cache/nono-audit-oracles");
  return ["/var/cache/nono-audit-oracles", own].map((dir) => path.join(dir, key));
}

/** The directory in the cache that holds all of `names`, if there is one that root or we ourselves made. */
function cached(key: string, names: readonly string[]): string | undefined {
  return cacheDirectories(key).find((dir) => {
    if (!names.every((name) => existsSync(path.join(dir, name)))) return false;
    const { uid } = statSync(dir);
    return uid === 0 || uid === process.getuid?.();
  });
}

/** Where the verifiers and servers are; undefined where they could not be built. */
export function oracleDirectory(): string | undefined {
  return cached(contentKey(oracles), oracles.programs);
}

/** The real cosign; undefined where it could not be built. */
export function cosignProgram(): string | undefined {
  const dir = cached(contentKey(cosign), cosign.programs);
  return dir && path.join(dir, "cosign");
}

const vectorsKey = (): string => `vectors-${contentKey(oracles)}`;
const vectorNames = Object.values(vectors).flatMap((names) =>
  names.map((name) => path.basename(name)),
);

/** The directory of the published vectors: files and folders by their last name. */
export function vectorDirectory(): string | undefined {
  return cached(vectorsKey(), vectorNames);
}

/** Makes what the cache lacks, with the Go toolchain; returns what could not be made, and why. */
export function buildOracles(): { what: string; reason: string }[] {
  const failed: { what: string; reason: string }[] = [];
  const make = (what: readonly string[], how: () => string | undefined): void => {
    // What could not be made would be tried for as long, from nothing, once more.
    const reason = wasTried ? "they could not be made before" : how();
    if (reason !== undefined) failed.push({ what: what.join(", "), reason });
  };
  for (const module of [oracles, cosign]) {
    if (cached(contentKey(module), module.programs)) continue;
    make(module.programs, () => build(module, newDirectory(contentKey(module))));
  }
  if (!vectorDirectory()) make(Object.keys(vectors), () => copyVectors(newDirectory(vectorsKey())));
  return failed;
}

/** By scripts/test.ts, or by the first of the two runs of scripts/as-users.ts. */
const wasTried =
  process.env["NONO_TOOLS_INSTALLED"] !== undefined ||
  process.env["NONO_TESTED_AS_ROOT"] !== undefined;

function newDirectory(key: string): string {
  const [shared = "", own = ""] = cacheDirectories(key);
  const target = process.getuid?.() === 0 ? shared : own;
  mkdirSync(target, { recursive: true });
  return target;
}

function build({ source, packages }: GoModule, target: string): string | undefined {
  const command = ["-n", "5", "go", "build", "-trimpath", "-o", `${target}/`, ...packages];
  const result = spawnSync("nice", command, { cwd: source, encoding: "utf8", timeout: 600_000 });
  return result.status === 0 ? undefined : failureOf(result);
}

function copyVectors(target: string): string | undefined {
  const download = ["mod", "download", "-json", ...Object.keys(vectors)];
  const options = { cwd: oracles.source, encoding: "utf8", timeout: 120_000 } as const;
  const result = spawnSync("go", download, options);
  if (result.status !== 0) return failureOf(result);
  for (const [module, names] of Object.entries(vectors)) {
    // One object after the other, each with the path of the module and where it was unpacked.
    const dir = new RegExp(`"Path": "${module}",[^}]*"Dir": "([^"]+)"`).exec(result.stdout)?.[1];
    if (dir === undefined) return `go did not say where ${module} is`;
    for (const name of names)
      copyTree(path.join(dir, name), path.join(target, path.basename(name)));
  }
  return undefined;
}

/** Copies files without the read-only modes of Go's cache. */
function copyTree(from: string, to: string): void {
  if (!statSync(from).isDirectory()) {
    copyFileSync(from, to);
    return;
  }
  mkdirSync(to, { recursive: true });
  for (const name of readdirSync(from)) copyTree(path.join(from, name), path.join(to, name));
}

function failureOf({ error, stderr }: { error?: Error; stderr: string }): string {
  return error?.message ?? (stderr.trim().split("\n").at(-1) || "go failed");
}

/** Runs the `oracles` program; `ok` is its verdict. */
export function askOracle(args: readonly string[], input = ""): { ok: boolean; output: string } {
  return ask(path.join(oracleDirectory() ?? "", "oracles"), args, input);
}

/** Runs cosign, offline; `ok` is its verdict. */
export function askCosign(args: readonly string[]): { ok: boolean; output: string } {
  return ask(cosignProgram() ?? "", args, "");
}

function ask(
  program: string,
  args: readonly string[],
  input: string,
): { ok: boolean; output: string } {
  const { status, stdout, stderr } = spawnSync(program, args, {
    input,
    encoding: "utf8",
    timeout: patience,
    maxBuffer: 64 << 20,
    // Nothing may reach a service: a proxy that nobody serves.
    env: { ...process.env, HTTPS_PROXY: "http://127.0.0.1:1", HTTP_PROXY: "http://127.0.0.1:1" },
  });
  return { ok: status === 0, output: stdout + stderr };
}
