// The whole check: build, types, lint, format, every test of every runner; then one closing line
// `N passed, N failed, N skipped` over all of them, with each named skip and failure above it.
import { spawn } from "node:child_process";
import { availableParallelism } from "node:os";
import process from "node:process";
import { createInterface } from "node:readline";
import { stripVTControlCharacters } from "node:util";

const begin = performance.now();
const totals = { passed: 0, failed: 0, skipped: 0 };
const skips = new Map<string, number>();
const failures: string[] = [];
/** The tasks whose line before this one named a failed test. */
const named = new Set<string>();

/** Adds what a runner's own closing line says; lines of other kinds are left alone. */
function count(line: string): void {
  const vitest = /\bTests\s+(.*)\(\d+\)\s*$/.exec(line);
  const cargo = /test result: \w+\. (\d+ passed; \d+ failed; \d+ ignored)/.exec(line);
  const text = vitest?.[1] ?? cargo?.[1];
  if (text !== undefined) {
    for (const [, number, word] of text.matchAll(/(\d+) (passed|failed|skipped|ignored|todo)/g)) {
      const key = word === "passed" || word === "failed" ? word : "skipped";
      totals[key] += Number(number);
    }
  }
  // A failed test by its name, with what vitest says of it in the line below; other tasks print between them.
  const task = /^(\S+:test): /.exec(line)?.[1] ?? "";
  if (named.delete(task)) failures.push(`  ${line.slice(task.length + 2)}`);
  const isNamed = /:test: +FAIL /.test(line);
  if (isNamed) named.add(task);
  if (isNamed || /---- \S+ stdout ----$/.test(line)) failures.push(line);
  // Not a line of the test itself, as a failure shows it.
  const skip = /(?<!["'`])SKIPPED: (.*)$/.exec(line)?.[1];
  if (skip !== undefined) skips.set(skip, (skips.get(skip) ?? 0) + 1);
}

async function turbo(...args: string[]): Promise<number> {
  const child = spawn("turbo", ["run", ...args], { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: child.stdout })) {
    console.log(line);
    count(stripVTControlCharacters(line));
  }
  return child.exitCode ?? (await new Promise<number>((done) => child.once("close", done)));
}

const checks = ["build", "typecheck", "lint", "//#lint:rust", "//#format:check"];
// Meanwhile: what tests need of registries is fetched, and the Rust tests are built by whatever processor is idle.
let status = await turbo(...checks, "test:tools", "//#build:tests", "--continue");
if (status === 0) {
  process.env["NONO_TOOLS_INSTALLED"] = "1";
  // Alone: deadlines of the kernel's, such as that nothing outlives its owner by 100 ms, and limits that
  // count all processes of a user; and file systems that are unmounted, which a sandbox that started
  // meanwhile has as well, as long as it lives.
  const alone = ["//#test:rust", "@nono/core#test"];
  status = await turbo(...alone, "--only", "--concurrency=1", "--continue");
  // The one that takes longest begins at once, beside as many others as there are processors.
  const concurrency = `--concurrency=${availableParallelism()}`;
  const others = ["test", "--filter=!@nono/core", "--filter=!@nono/sdk", concurrency];
  const together = [
    turbo("@nono/sdk#test", "--only"),
    turbo(...others, "--only", "--continue"),
  ] as const;
  for (const ended of await Promise.all(together)) status ||= ended;
}

for (const [reason, times] of skips)
  console.log(`skipped${times > 1 ? ` (${times}x)` : ""}: ${reason}`);
for (const failure of failures) console.log(failure);
if (totals.passed + totals.failed === 0) {
  console.error("no test ran");
  status ||= 1;
}
const seconds = Math.round((performance.now() - begin) / 1000);
console.log(`took ${Math.floor(seconds / 60)} min ${seconds % 60} s`);
console.log(`${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`);
process.exitCode = status || (totals.failed > 0 ? 1 : 0);
