import { spawnSync } from "node:child_process";
import path from "node:path";
import process from "node:process";
import { expect, test } from "vitest";

test("the example runs: the request is authorized, the token is masked, the other host refused", () => {
  const cwd = path.join(import.meta.dirname, "..", "..", "..", "examples", "proxy-container");
  const { stdout, stderr } = spawnSync(process.execPath, ["main.ts"], {
    cwd,
    encoding: "utf8",
    timeout: 20_000,
  });
  expect(stdout, stderr).toMatch(/known=true you sent: Bearer \*{30}\n/);
  expect(stdout).toMatch(/violations: ERR_NONO_HOST_DENIED elsewhere\.example:\d+/);
  expect(stdout).not.toContain("the-real-token");
});
