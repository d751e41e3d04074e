// The TypeScript packages' tests in a machine of another architecture: their native parts, and those of
// the programs that run the tests.
import { spawnSync } from "node:child_process";
import {
  existsSync,
  globSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import process from "node:process";
import type { CrossCompiler } from "./cross.ts";
import { Unavailable } from "./debian.ts";

const project = path.resolve(import.meta.dirname, "../..");

/** Addons of this project, by package, and the crates that they are made of. */
const addons = [
  { name: "core", binary: "nono", crate: "nono-napi" },
  { name: "rollback", binary: "nono-snapshot", crate: "nono-snapshot-napi" },
];

/** Native parts of vitest, and Node.js, by their names with the architecture left out. */
const borrowed = ["@rolldown/binding-linux-*-gnu", "lightningcss-linux-*-gnu", "node-linux-*"];

/** What the project has to have in a machine for arm64: files, by their names in it. */
export function addedForArm64(compiler: CrossCompiler, directory: string): Map<string, string> {
  const added = new Map<string, string>();
  mkdirSync(directory, { recursive: true });
  for (const { name, binary, crate } of addons) {
    const place = `packages/${name}/node_modules/@nono/${name}-linux-arm64-gnu`;
    const file = `${binary}.linux-arm64-gnu.node`;
    const manifest = path.join(directory, `${name}.json`);
    writeFileSync(manifest, JSON.stringify({ main: file }));
    added.set(`${place}/package.json`, manifest);
    added.set(`${place}/${file}`, compiler.library(crate));
  }
  for (const pattern of borrowed) {
    const name = pattern.replace("*", "arm64");
    const from = fetchPackage(name, versionOf(pattern.replace("*", process.arch)), directory);
    const files = globSync(["package.json", "*.node", "bin/*"], { cwd: from });
    for (const file of files) added.set(`node_modules/${name}/${file}`, path.join(from, file));
  }
  return added;
}

/** The version of a package that is installed here, as pnpm's store has it. */
function versionOf(name: string): string {
  const prefix = `${name.replace("/", "+")}@`;
  const found = readdirSync(path.join(project, "node_modules/.pnpm")).find((entry) =>
    entry.startsWith(prefix),
  );
  if (found === undefined) throw new Unavailable(`${name} is not installed`);
  return found.slice(prefix.length);
}

/** A package's files, from the registry once. */
function fetchPackage(name: string, version: string, directory: string): string {
  const place = path.join(directory, `${name.replace("/", "+")}@${version}`);
  if (existsSync(place)) return path.join(place, "package");
  const partial = `${place}.partial`;
  rmSync(partial, { recursive: true, force: true });
  mkdirSync(partial);
  const options = { cwd: partial, encoding: "utf8" } as const;
  const packed = spawnSync("npm", ["pack", "--silent", `${name}@${version}`], options);
  if (packed.status !== 0)
    throw new Unavailable(`npm has no ${name}@${version}: ${packed.stderr || packed.error}`);
  const unpacked = spawnSync("tar", ["-xzf", packed.stdout.trim()], options);
  if (unpacked.status !== 0) throw new Error(`tar failed: ${unpacked.stderr}`);
  renameSync(partial, place);
  return path.join(place, "package");
}
