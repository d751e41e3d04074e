// What people are told about what was refused.
import { mkdtempSync, realpathSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { support } from "../src/index.ts";
import { nono } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";

useOwnState();

const hasFlat = support().tiers.some(({ name, available }) => name === "flat" && available);

let workspace: string;
beforeAll(() => {
  workspace = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-refusals-")));
});
afterAll(() => rmSync(workspace, { recursive: true, force: true }));

function failsInFlat(script: string): string[] {
  const run = ["run", "--no-audit", "--tier", "flat", "-p", "node", "-p", "shell"];
  const { status, stderr } = nono([...run, "--", "sh", "-c", script], { cwd: workspace });
  expect(status).toBe(1);
  return stderr.split("\n").filter((line) => line.startsWith("nono:"));
}

test.runIf(hasFlat)("what runtimes ask about themselves is told, and no violation", () => {
  const told = failsInFlat("node -e 1; exit 1");
  expect(told[0]).toContain("nothing was refused to it");
});

test.runIf(hasFlat)("no grant is advised for other processes", () => {
  const told = failsInFlat("cat /proc/$PPID/status");
  expect(told[0]).toBe("nono: 1 attempt was refused:");
  expect(told[1]).toMatch(
    /^nono: {3}read \/proc\/\d+\/status: nothing grants it \(the tier flat does not show it\)$/,
  );
  expect(told.join("\n")).not.toContain("--allow-read");
  expect(told.join("\n")).toContain("Programs can do without it, as a rule.");
});

test.runIf(hasFlat)("what a program did of its own accord is told before that", () => {
  const told = failsInFlat("cat /proc/$PPID/status; cat /etc/login.defs");
  expect(told[1]).toContain(
    "read /etc/login.defs: nothing grants it (would pass with --allow-read",
  );
  expect(told.join("\n")).not.toContain("as a rule");
});
