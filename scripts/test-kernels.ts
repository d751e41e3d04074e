// Runs nono's Rust tests on Debian's kernels in an emulated machine, as root and as an ordinary user.
// Nothing but emulation finds there what this machine's kernel has and older ones lack, or a control
// group hierarchy of version 2 alone. It takes tens of minutes, so it is no part of `pnpm test`.
//
//   node scripts/test-kernels.ts          # all of them
//   node scripts/test-kernels.ts 6.1      # one
//   node scripts/test-kernels.ts 6.1 limits::    # of its tests only those
import { spawnSync } from "node:child_process";
import path from "node:path";
import process from "node:process";
import { fetchKernel, Unavailable } from "../tests/kernels/debian.ts";
import { boot } from "../tests/kernels/machine.ts";
import { buildTestBinaries } from "./test-binaries.ts";

/** Tests of one kernel end by then. */
const limitMinutes = 60;

/** Random policies, soaking and whole programs take hours under emulation, and deadlines pass unmet. */
const slow = [
  "agreement",
  "differential",
  "gate_programs",
  "stress",
  "time_that_is_over",
  "traced",
];
const most = slow.flatMap((name) => ["--skip", name]);

/** By version and Debian's release. */
const kernels = [
  { version: "6.1", release: "bookworm", tests: most }, // Landlock ABI 2
  { version: "6.12", release: "trixie", tests: most }, // Landlock ABI 6
  { version: "5.10", release: "bullseye", tests: ["without_landlock"] }, // none: nono is to refuse
];

const users = 2;
const totals = { passed: 0, failed: 0, skipped: 0 };
const skips = new Map<string, number>();

function skip(reason: string): void {
  skips.set(reason, (skips.get(reason) ?? 0) + 1);
}

async function test(kernel: (typeof kernels)[number], only: string[]): Promise<void> {
  const directory = path.resolve(import.meta.dirname, "../target/kernels", kernel.release);
  const fetched = fetchKernel(kernel.release, directory);
  const binaries = buildTestBinaries("--package", "nono").map(({ executable }) => executable);
  const before = totals.passed;
  let summaries = 0;
  const tell = (line: string) => {
    const summary = /^test result: .* (\d+) passed; (\d+) failed; (\d+) ignored/.exec(line);
    if (summary) {
      summaries += 1;
      const [, passed, failed, ignored] = summary.map(Number);
      totals.passed += passed ?? 0;
      totals.failed += failed ?? 0;
      totals.skipped += ignored ?? 0;
    }
    const skipped = /^SKIPPED: (.*)$/.exec(line)?.[1];
    if (skipped === undefined) console.log(line);
    else skip(`Linux ${kernel.version}: ${skipped}`);
  };
  const selection = only.length > 0 ? only : kernel.tests;
  const job = { binaries, arguments: ["--show-output", "--color=never", ...selection] };
  const hasEnded = await boot(fetched, job, directory, limitMinutes * 60, tell);
  const expected = users * binaries.length;
  if (summaries !== expected || !hasEnded || totals.passed === before) {
    const within = hasEnded ? "" : ` within ${limitMinutes} minutes`;
    console.error(
      `Linux ${kernel.version}: ${summaries} of ${expected} test binaries ended${within}, ${totals.passed - before} tests passed`,
    );
    totals.failed += 1;
  }
}

const [version, ...only] = process.argv.slice(2);
const chosen = kernels.filter((kernel) => version === undefined || kernel.version === version);
if (chosen.length === 0)
  throw new Error(`no kernel ${version}: ${kernels.map((one) => one.version).join(", ")}`);
if (spawnSync("qemu-system-x86_64", ["--version"]).status === 0) {
  for (const kernel of chosen) {
    try {
      await test(kernel, only);
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      totals.skipped += 1;
      skip(`Linux ${kernel.version}: ${error.message}`);
    }
  }
} else {
  totals.skipped += chosen.length;
  skip("every kernel: qemu-system-x86_64 does not run here (Debian: qemu-system-x86)");
}
for (const [reason, times] of skips)
  console.log(`skipped${times > 1 ? ` (${times}x)` : ""}: ${reason}`);
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exitCode = totals.failed > 0 ? 1 : 0;
