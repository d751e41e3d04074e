import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { expect, test } from "vitest";
import { useOwnState } from "./support/state.ts";

useOwnState();

test("the demo does its work, sees everything refused, and leaves nothing behind", () => {
  const temporary = mkdtempSync(path.join(tmpdir(), "nono-demo-test-"));
  const main = path.resolve(import.meta.dirname, "../../../examples/demo/main.ts");
  const { status, stdout, stderr } = spawnSync(process.execPath, [main], {
    encoding: "utf8",
    env: { ...process.env, TMPDIR: temporary },
    timeout: 240_000,
  });
  expect({ status, stderr }, stdout).toEqual({ status: 0, stderr: "" });
  expect(stdout).toContain("Add the report");
  expect(stdout).toMatch(/leave a process behind +killed/);
  expect(stdout).not.toContain("NOT REFUSED");
  expect(stdout).toContain("every byte, mode and time is back");
  expect(stdout).toMatch(/the agent received {3}hello Bearer \*+\n|skipped: /);
  expect(stdout).toContain("one byte flipped: TAMPERED");
  expect(readdirSync(temporary)).toEqual([]);
  rmSync(temporary, { recursive: true });
});
