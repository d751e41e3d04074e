import { readdirSync } from "node:fs";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { childrenOf, eventually, openFiles, zombies } from "./processes.ts";
import { sandboxIn, tiers, Workspace } from "./workspace.ts";

const threads = (): number => readdirSync("/proc/self/task").length;

test(
  "200 live sandboxes and 1,000 commands leave nothing behind",
  { timeout: 120_000 },
  async () => {
    using workspace = new Workspace();
    const build = (at: number) => sandboxIn(workspace, {}, { tier: tiers[at % tiers.length]! });
    // Opens and starts what is there once.
    const first = await Promise.all(Array.from({ length: 4 }, (_, at) => build(at)));
    for (const sandbox of first) await sandbox.run(["sh", "-c", "echo warm"], { pty: true });
    await Promise.all(first.map((sandbox) => sandbox.close()));
    await delay(300);
    const before = {
      files: openFiles().length,
      threads: threads(),
      children: childrenOf(process.pid),
    };

    const sandboxes = await Promise.all(Array.from({ length: 200 }, (_, at) => build(at)));
    for (let round = 0; round < 5; round++) {
      const runs = sandboxes.map((sandbox, at) =>
        sandbox.run(["sh", "-c", `echo ${at}`], at % 50 === 0 ? { pty: true } : {}),
      );
      const outputs = (await Promise.all(runs)).map(({ stdout }) => Number(stdout));
      expect(outputs).toEqual(sandboxes.map((_, at) => at));
    }
    // Some end with commands and daemons inside.
    for (const sandbox of sandboxes.slice(0, 20)) {
      sandbox.spawn(["sh", "-c", "setsid sleep 60 & sleep 60"], { stdio: "ignore" });
    }
    await Promise.all(sandboxes.map((sandbox) => sandbox.close()));

    expect(await eventually(() => openFiles().length <= before.files)).toBe(true);
    expect(await eventually(() => threads() <= before.threads)).toBe(true);
    expect(childrenOf(process.pid)).toEqual(before.children);
    expect(zombies()).toEqual([]);
  },
);
