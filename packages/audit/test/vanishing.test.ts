// A writer lets go of partial tiles while a verifier looks at them: here it is just then.
import { cpSync, existsSync, rmSync } from "node:fs";
import path from "node:path";
import { beforeEach, expect, test, vi } from "vitest";
import { verifyLog } from "../src/index.ts";
import { connectEvent, openTestLog, signer, temporaryDirectory } from "./helpers/logs.ts";

const vanish = vi.hoisted(() => ({ when: "never" as "never" | "before" | "after", times: 0 }));

vi.mock("node:fs", async (original) => {
  const fs = await original<typeof import("node:fs")>();
  const readdirSync = (dir: string, ...options: []): string[] => {
    if (vanish.when === "never" || !/tile\/(entries|0)\/000\.p$/.test(dir))
      return fs.readdirSync(dir, ...options);
    const remove = (): void => {
      vanish.times += 1;
      fs.rmSync(dir, { recursive: true });
    };
    if (vanish.when === "before" && fs.existsSync(dir)) remove();
    const names = fs.readdirSync(dir, ...options);
    if (vanish.when === "after") remove();
    return names;
  };
  return { ...fs, readdirSync };
});

let dir = "";
beforeEach(async () => {
  Object.assign(vanish, { when: "never", times: 0 });
  dir = path.join(temporaryDirectory(), "log");
  const log = await openTestLog(dir);
  await log.record(connectEvent(1));
  await log.checkpoint();
  const partial = ["tile/entries/000.p", "tile/0/000.p"];
  const kept = temporaryDirectory();
  for (const name of partial)
    cpSync(path.join(dir, name), path.join(kept, name), { recursive: true });
  for (let n = 0; n < 300; n += 1) log.recordAndForget(connectEvent(n));
  await log.close("done");
  // As between the checkpoint that makes them obsolete and their removal.
  for (const name of partial) {
    expect(existsSync(path.join(dir, name))).toBe(false);
    cpSync(path.join(kept, name), path.join(dir, name), { recursive: true });
  }
});

test.each(["before", "after"] as const)("gone %s they are listed", async (when) => {
  vanish.when = when;
  const report = await verifyLog(dir, { keys: [signer.vkey] });
  expect(vanish.times).toBeGreaterThan(1);
  expect(report).toMatchObject({ verdict: "SIGNED", problems: [] });
});

test("one that is there and differs is still found", async () => {
  rmSync(path.join(dir, "tile/0/000.p"), { recursive: true });
  cpSync(path.join(dir, "tile/0/000"), path.join(dir, "tile/0/000.p/2"));
  expect(await verifyLog(dir, { keys: [signer.vkey] })).toMatchObject({ verdict: "TAMPERED" });
});
