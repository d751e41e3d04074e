// How long does anything inside a sandbox live on after its owner was killed by SIGKILL? Daemons that
// forked twice and a process that forks all the time are inside. Prints medians and the worst.
//
//   node bench/spawn/death.ts [rounds]
import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { support } from "@nono/core";

const rounds = Number(process.argv[2] ?? 10);

function isAlive(marker: string): boolean {
  return readdirSync("/proc").some((name) => {
    if (!/^\d+$/.test(name) || Number(name) === process.pid) return false;
    try {
      return readFileSync(`/proc/${name}/cmdline`, "utf8").includes(marker);
    } catch {
      return false; // it has gone
    }
  });
}

async function survival(tier: string): Promise<number> {
  const marker = randomUUID();
  const owner = spawn(
    process.execPath,
    [path.join(import.meta.dirname, "owner.ts"), marker, tier],
    {
      stdio: ["ignore", "pipe", "inherit"],
    },
  );
  await once(owner.stdout, "data");
  await delay(100);
  owner.kill("SIGKILL");
  const begin = performance.now();
  await once(owner, "exit");
  const deadline = begin + 10_000;
  while (isAlive(marker) && performance.now() < deadline) await delay(1);
  return performance.now() - begin;
}

for (const { name } of support().tiers.filter((tier) => tier.available)) {
  const times: number[] = [];
  for (let round = 0; round < rounds; round++) times.push(await survival(name));
  times.sort((a, b) => a - b);
  const [median, worst] = [times[times.length >> 1], times.at(-1)];
  console.log(
    `${name}: nobody left ${median?.toFixed(0)} ms after SIGKILL (worst ${worst?.toFixed(0)} ms)`,
  );
}
