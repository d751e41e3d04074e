import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { performance } from "node:perf_hooks";
import process from "node:process";
import { describe, expect, test, vi } from "vitest";
import { takeLock, whenUnlocked } from "../src/lock.ts";
import { temporaryDirectory } from "./helpers/logs.ts";

const newLock = (): string => path.join(temporaryDirectory(), "lock");

describe("waiting for a lock", () => {
  test("ends when it is free", async () => {
    const file = newLock();
    const first = takeLock(file);
    const second = whenUnlocked(async () => takeLock(file), 60_000);
    first.release();
    (await second).release();
  });

  test("has patience with each holder, not with all of them together", async () => {
    const file = newLock();
    let now = 0;
    const clock = vi.spyOn(performance, "now").mockImplementation(() => now);
    let lock = takeLock(file);
    const taken = await whenUnlocked(async () => {
      now += 900;
      lock.release();
      // As if each holder gave the lock to the next one: it is never seen free.
      if (now < 9000) lock = takeLock(file);
      return takeLock(file);
    }, 1000);
    clock.mockRestore();
    taken.release();
  });

  test("is over when one holder keeps it", async () => {
    const file = newLock();
    takeLock(file);
    await expect(whenUnlocked(async () => takeLock(file), 50)).rejects.toMatchObject({
      code: "ERR_NONO_AUDIT_LOCKED",
      message: expect.stringContaining(`process ${process.pid} is writing`),
    });
  });

  test("passes on what else went wrong", async () => {
    const file = path.join(newLock(), "nowhere");
    await expect(whenUnlocked(async () => takeLock(file), 60_000)).rejects.toMatchObject({
      code: "ENOENT",
    });
  });
});

test("the lock of a process that is gone is taken over", () => {
  const file = newLock();
  takeLock(file);
  const [, ...rest] = readFileSync(file, "utf8").split(" ");
  // Another boot's process of the same number and start.
  writeFileSync(file, `${process.pid} ${rest[0]} another-boot x`);
  takeLock(file).release();
});
