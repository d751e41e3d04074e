import { spawnSync } from "node:child_process";
import path from "node:path";
import { describe, expect, test } from "vitest";

describe("examples/audit-tamper", () => {
  test("verifies, flips a byte, and finds it", () => {
    const main = path.resolve(import.meta.dirname, "../../../examples/audit-tamper/main.ts");
    const { status, stdout, stderr } = spawnSync(process.execPath, [main], { encoding: "utf8" });
    expect(stderr).toBe("");
    expect(status).toBe(0);
    expect(stdout).toContain("SIGNED  nono.local/example/session/1  3 entries");
    expect(stdout).toContain("TAMPERED  nono.local/example/session/1  3 entries");
    expect(stdout).toMatch(/✗ .*entry 1/);
  });
});
