import { spawnSync } from "node:child_process";
import path from "node:path";
import { describe, expect, test } from "vitest";

/** Runs an example to its end. */
function run(name: string): string {
  const main = path.resolve(import.meta.dirname, `../../../examples/${name}/main.ts`);
  const { status, stdout, stderr } = spawnSync(process.execPath, [main], { encoding: "utf8" });
  expect(stderr).toBe("");
  expect(status).toBe(0);
  return stdout;
}

describe("examples", () => {
  test("audit-tamper verifies, flips a byte, and finds it", () => {
    const stdout = run("audit-tamper");
    expect(stdout).toContain("SIGNED  nono.local/example/session/1  3 entries");
    expect(stdout).toContain("TAMPERED  nono.local/example/session/1  3 entries");
    expect(stdout).toMatch(/✗ .*entry 1/);
  });

  test("audit-witness is WITNESSED, and no other story passes", () => {
    const stdout = run("audit-witness");
    expect(stdout).toMatch(/^WITNESSED {2}nono\.local\/example\/session\/1 {2}3 entries/);
    expect(stdout).toContain("is a copy or a restored backup of a log");
    expect(stdout).toMatch(/witness w1 refuses the head of \d+ entries/);
  });
});
