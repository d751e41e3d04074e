// Builds the native parts for every platform that releases are made for, with the linker of releases, and
// runs the tests of @nono/core and @nono/rollback on a system that has no other C library than musl, as root
// and as an ordinary user. It takes tens of minutes the first time, so it is no part of `pnpm test`.
//
//   node scripts/test-targets.ts                              # all of them
//   node scripts/test-targets.ts x86_64-unknown-linux-musl    # one
import path from "node:path";
import process from "node:process";
import { Unavailable } from "../tests/kernels/debian.ts";
import { makeMuslRoot, missing, vitestIn } from "../tests/targets/musl-root.ts";
import { targets, Toolchain, type Target } from "../tests/targets/toolchain.ts";

/** By what loads it, and whose it is. */
const crates = { core: "nono-napi", rollback: "nono-snapshot-napi" } as const;
const project = path.resolve(import.meta.dirname, "..");
const directory = path.join(project, "target/targets");
const tested = "x86_64-unknown-linux-musl";

const totals = { passed: 0, failed: 0, skipped: 0 };
const skips = new Set<string>();

function skip(reason: string): void {
  totals.skipped += 1;
  skips.add(reason);
}

function build(toolchain: Toolchain, target: Target): void {
  const addons = new Map<string, string>();
  for (const [layer, crate] of Object.entries(crates)) {
    const addon = toolchain.addon(target, crate);
    const outcome = addon !== undefined ? "builds" : "does not build";
    console.log(`${target.triple}: ${crate} ${outcome}`);
    if (addon !== undefined) {
      totals.passed += 1;
      addons.set(`@nono/${layer}-linux-x64-musl`, addon);
    } else if (target.isOptional) skip(`${target.triple}: ${crate} does not build, nor has to yet`);
    else totals.failed += 1;
  }
  if (target.triple === tested && addons.size === Object.keys(crates).length)
    runTests(toolchain, addons);
}

function runTests(toolchain: Toolchain, addons: ReadonlyMap<string, string>): void {
  if (process.getuid?.() !== 0) return skip("the tests on musl: only root can make that system");
  const root = makeMuslRoot(toolchain.tree, addons, directory);
  const runs = [
    { cwd: ".", files: ["tests/targets"] },
    ...Object.keys(crates).map((layer) => ({ cwd: `packages/${layer}`, files: ["test"] })),
  ];
  for (const [reason, names] of Object.entries(missing))
    for (const name of names) skips.add(`musl: ${reason}: ${name} ...`);
  for (const who of ["root", "user"] as const) {
    for (const { cwd, files } of runs) {
      const told = vitestIn(root, who, cwd, files);
      console.log(told);
      const summary = /^\s*Tests\s+(.*)\(\d+\)\s*$/m.exec(told)?.[1];
      if (summary === undefined) {
        console.error(`musl, ${who}, ${cwd}: vitest did not come to its end`);
        totals.failed += 1;
      }
      for (const [, count, word] of summary?.matchAll(/(\d+) (passed|failed|skipped)/g) ?? [])
        totals[word as keyof typeof totals] += Number(count);
      for (const [, reason] of told.matchAll(/^SKIPPED: (.*)$/gm)) skips.add(`musl: ${reason}`);
    }
  }
}

const wanted = process.argv[2];
const chosen = targets.filter(({ triple }) => wanted === undefined || triple === wanted);
if (chosen.length === 0)
  throw new Error(`no target ${wanted}: ${targets.map(({ triple }) => triple).join(", ")}`);
try {
  if (process.arch !== "x64") throw new Unavailable("this machine is not x64");
  const toolchain = new Toolchain(directory);
  for (const target of chosen) build(toolchain, target);
} catch (error) {
  if (!(error instanceof Unavailable)) throw error;
  skip(error.message);
}
for (const reason of skips) console.log(`skipped: ${reason}`);
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exitCode = totals.failed > 0 ? 1 : 0;
