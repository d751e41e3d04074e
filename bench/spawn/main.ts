// What does a sandboxed command cost, compared with Node's own unsandboxed child_process.spawn?
// The answer depends on the size of the owner, because libuv forks: so each size gets a process of
// its own. Prints ratios of medians; the two candidates take turns in one process.
//
//   node bench/spawn/main.ts [rounds]
import { execFileSync } from "node:child_process";
import os from "node:os";
import path from "node:path";
import process from "node:process";
import { support } from "@nono/core";
import type { Measurement } from "./worker.ts";

const rounds = process.argv[2] ?? "200";
/** Megabytes; Node itself has about 70. */
const sizes = [100, 500];

console.log(`${rounds} interleaved rounds; Linux ${os.release()}, Node ${process.version}`);
const cases = sizes.flatMap((megabytes) =>
  support()
    .tiers.filter((tier) => tier.available)
    .map((tier) => [String(megabytes), rounds, tier.name]),
);
for (const arguments_ of cases) {
  const worker = path.join(import.meta.dirname, "worker.ts");
  const text = execFileSync(process.execPath, [worker, ...arguments_], { encoding: "utf8" });
  const { rssMegabytes, tier, medians, blocked } = JSON.parse(text) as Measurement;
  const baseline = medians["node"] ?? Number.NaN;
  console.log(`\nowner of ${rssMegabytes} MB, tier ${tier}`);
  console.log(`  child_process.spawn("/bin/true")   1.00x  (${baseline.toFixed(2)} ms)`);
  for (const [name, key] of [
    ['sandbox.spawn(["/bin/true"])      ', "sandboxed"],
    ["the same, its output collected    ", "collected"],
    ["createSandbox, spawn, close       ", "whole"],
  ] as const) {
    console.log(`  ${name} ${((medians[key] ?? Number.NaN) / baseline).toFixed(2)}x`);
  }
  const ms = (name: string): string => (blocked[name] ?? Number.NaN).toFixed(2);
  console.log(
    `  main thread blocked by a spawn      ${ms("sandboxed")} ms (child_process: ${ms("node")} ms)`,
  );
}
