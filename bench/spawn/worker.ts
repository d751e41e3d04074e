// Grows to a size, then measures the candidates in turns. Prints one line of JSON.
import { spawn } from "node:child_process";
import { once } from "node:events";
import process from "node:process";
import { createSandbox, type SandboxOptions } from "@nono/core";

/** Medians in milliseconds, by candidate. */
export interface Measurement {
  readonly rssMegabytes: number;
  readonly tier: string;
  readonly medians: Readonly<Record<string, number>>;
  /** Medians of the milliseconds until the call that spawns returned, by candidate. */
  readonly blocked: Readonly<Record<string, number>>;
}

const megabyte = 1024 * 1024;
const [size = 100, rounds = 200] = process.argv.slice(2, 4).map(Number);
const tier = process.argv[4] as SandboxOptions["tier"];
const capabilities = { exec: ["/bin/true"] };

const options: SandboxOptions = tier === undefined ? {} : { tier };
await using sandbox = await createSandbox(capabilities, options);
const blocked = new Map<string, number[]>();

/** Makes a call, and notes how long it took to return. */
function timed<T>(name: string, call: () => T): T {
  const begin = performance.now();
  const result = call();
  const times = blocked.get(name) ?? [];
  blocked.set(name, [...times, performance.now() - begin]);
  return result;
}

const candidates: Readonly<Record<string, () => Promise<void>>> = {
  async node() {
    await once(
      timed("node", () => spawn("/bin/true", { stdio: "ignore" })),
      "exit",
    );
  },
  async sandboxed() {
    await timed("sandboxed", () => sandbox.spawn(["/bin/true"], { stdio: "ignore" })).exited;
  },
  async collected() {
    await sandbox.run(["/bin/true"]);
  },
  async whole() {
    await using once = await createSandbox(capabilities, options);
    await once.spawn(["/bin/true"], { stdio: "ignore" }).exited;
  },
};

// Filled, so that the pages are there and fork has page tables to copy.
const ballast: Buffer[] = [];
while (process.memoryUsage.rss() < size * megabyte) ballast.push(Buffer.alloc(megabyte, 1));

const samples = new Map<string, number[]>(Object.keys(candidates).map((name) => [name, []]));
const warmup = Math.min(10, rounds);
for (let round = -warmup; round < rounds; round++) {
  for (const [name, run] of Object.entries(candidates)) {
    const begin = performance.now();
    await run();
    if (round >= 0) samples.get(name)?.push(performance.now() - begin);
  }
}

const measurement: Measurement = {
  rssMegabytes: Math.round(process.memoryUsage.rss() / megabyte),
  tier: sandbox.tier,
  blocked: Object.fromEntries([...blocked].map(([name, times]) => [name, median(times)])),
  medians: Object.fromEntries([...samples].map(([name, times]) => [name, median(times)])),
};
console.log(JSON.stringify(measurement));
ballast.length = 0;

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}
