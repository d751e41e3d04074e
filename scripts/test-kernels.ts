// Runs nono's Rust tests on Debian's kernels in an emulated machine, as root and as an ordinary user.
// Nothing but emulation finds there what this machine's kernel has and older ones lack, or a control
// group hierarchy of version 2 alone. It takes tens of minutes, so it is no part of `pnpm test`.
//
//   node scripts/test-kernels.ts          # all of them
//   node scripts/test-kernels.ts 6.1      # one
//   node scripts/test-kernels.ts 6.1 limits::    # of its tests only those
//   node scripts/test-kernels.ts arm64    # those of one architecture
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { addedForArm64 } from "../tests/kernels/addons.ts";
import { CrossCompiler } from "../tests/kernels/cross.ts";
import { fetchKernel, Unavailable, type Architecture } from "../tests/kernels/debian.ts";
import { fetchGuestRoot } from "../tests/kernels/guest-root.ts";
import { boot, emulator } from "../tests/kernels/machine.ts";
import { buildTestBinaries } from "./test-binaries.ts";

/** Tests of one kernel end by then. */
const limitMinutes = 120;

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

interface Tested {
  readonly version: string;
  /** Debian's. */
  readonly release: string;
  readonly architecture: Architecture;
  readonly tests: readonly string[];
}

const kernels: readonly Tested[] = [
  { version: "6.1", release: "bookworm", architecture: "amd64", tests: most }, // Landlock ABI 2
  { version: "6.12", release: "trixie", architecture: "amd64", tests: most }, // Landlock ABI 6
  { version: "7.2", release: "forky", architecture: "amd64", tests: most }, // Landlock ABI 10
  // Landlock has none there: nono is to refuse.
  { version: "5.10", release: "bullseye", architecture: "amd64", tests: ["without_landlock"] },
  { version: "7.2", release: "forky", architecture: "arm64", tests: most },
];

const users = 2;
const totals = { passed: 0, failed: 0, skipped: 0 };
const skips = new Map<string, number>();

function nameOf({ version, architecture }: Tested): string {
  return `Linux ${version} ${architecture}`;
}

function skip(reason: string): void {
  skips.set(reason, (skips.get(reason) ?? 0) + 1);
}

/** What a test binary, or vitest, says at its end. */
function summaryIn(line: string): typeof totals | undefined {
  const count = (word: string) => Number(new RegExp(`(\\d+) ${word}`).exec(line)?.[1] ?? 0);
  if (!/^test result: |^ +Tests  /.test(line)) return undefined;
  const skipped = count("ignored") + count("skipped");
  return { passed: count("passed"), failed: count("failed"), skipped };
}

/** The test binaries, small enough to be carried into the machine, and the root that they run on. */
function prepare({ release, architecture }: Tested, directory: string) {
  const selection = ["--package", "nono"];
  if (architecture === "arm64") {
    const compiler = new CrossCompiler(release, path.join(directory, "compilers"));
    const binaries = compiler
      .tests(...selection, "--package", "nono-snapshot")
      .map(({ executable }) => executable);
    const added = addedForArm64(compiler, path.join(directory, "added"));
    return {
      binaries: [...binaries, path.resolve(import.meta.dirname, "../tests/kernels/vitest.sh")],
      root: fetchGuestRoot(release, architecture, path.join(directory, "guest")),
      project: { directory: path.resolve(import.meta.dirname, ".."), added },
    };
  }
  const stripped = path.join(directory, "tests");
  mkdirSync(stripped, { recursive: true });
  const binaries = buildTestBinaries(...selection).map(({ executable }) => {
    const binary = path.join(stripped, path.basename(executable));
    const strip = spawnSync("strip", ["--strip-debug", "-o", binary, executable]);
    if (strip.status !== 0) throw new Error(`strip failed: ${strip.stderr}`);
    return binary;
  });
  return { binaries, root: "/" };
}

async function test(kernel: Tested, only: readonly string[]): Promise<void> {
  const { release, architecture } = kernel;
  const name = nameOf(kernel);
  const place = architecture === "amd64" ? release : `${release}-${architecture}`;
  const directory = path.resolve(import.meta.dirname, "../target/kernels", place);
  const fetched = fetchKernel(release, architecture, directory);
  const prepared = prepare(kernel, directory);
  const before = totals.passed;
  let summaries = 0;
  const tell = (line: string) => {
    const summary = summaryIn(line);
    if (summary) {
      summaries += 1;
      totals.passed += summary.passed;
      totals.failed += summary.failed;
      totals.skipped += summary.skipped;
    }
    const skipped = /^SKIPPED: (.*)$/.exec(line)?.[1];
    if (skipped === undefined) console.log(line);
    else skip(`${name}: ${skipped}`);
  };
  const selection = only.length > 0 ? only : kernel.tests;
  const job = { ...prepared, arguments: ["--show-output", "--color=never", ...selection] };
  const hasEnded = await boot(fetched, job, directory, limitMinutes * 60, tell);
  const expected = users * prepared.binaries.length;
  if (summaries !== expected || !hasEnded || totals.passed === before) {
    const within = hasEnded ? "" : ` within ${limitMinutes} minutes`;
    console.error(
      `${name}: ${summaries} of ${expected} test binaries ended${within}, ${totals.passed - before} tests passed`,
    );
    totals.failed += 1;
  }
}

const [which, ...only] = process.argv.slice(2);
const chosen = kernels.filter(
  ({ version, architecture }) => which === undefined || [version, architecture].includes(which),
);
if (chosen.length === 0)
  throw new Error(`no kernel ${which}: ${kernels.map((one) => nameOf(one)).join(", ")}`);
for (const kernel of chosen) {
  try {
    const program = emulator(kernel.architecture);
    if (spawnSync(program, ["--version"]).status !== 0)
      throw new Unavailable(`${program} does not run here (Debian: qemu-system)`);
    await test(kernel, only);
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    totals.skipped += 1;
    skip(`${nameOf(kernel)}: ${error.message}`);
  }
}
for (const [reason, times] of skips)
  console.log(`skipped${times > 1 ? ` (${times}x)` : ""}: ${reason}`);
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exitCode = totals.failed > 0 ? 1 : 0;
