import { mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, expect, test } from "vitest";
import { createSandbox, type OnRequest, type Sandbox, type SandboxEvent } from "../src/index.ts";
import { tiers, tools } from "./workspace.ts";

let place: string;
beforeEach(() => {
  place = realpathSync(mkdtempSync("/var/tmp/nono-approval-"));
  writeFileSync(`${place}/secret`, "the secret");
});
afterEach(() => rmSync(place, { recursive: true, force: true }));

type Tier = (typeof tiers)[number];

function asking(tier: Tier, onRequest: OnRequest, approvalTimeout = 5000): Promise<Sandbox> {
  return createSandbox({ exec: tools }, { tier, onRequest, approvalTimeout });
}

test.for(tiers)("what is allowed passes, and is on record as approved (%s)", async (tier) => {
  const asked: string[] = [];
  await using sandbox = await asking(tier, async ({ operation, path, suggestion }) => {
    asked.push(`${operation} ${String(path)} ${suggestion?.capability}`);
    await delay(20);
    return true;
  });
  const events: SandboxEvent[] = [];
  sandbox.events.on("event", (event) => events.push(event));
  const script = `cat ${place}/secret; echo more >>${place}/secret`;
  const { stdout, violations } = await sandbox.run(["sh", "-c", script]);
  expect(stdout).toBe("the secret");
  expect(readFileSync(`${place}/secret`, "utf8")).toBe("the secretmore\n");
  expect(violations).toEqual([]);
  expect(asked).toEqual([`read ${place}/secret read`, `write ${place}/secret write`]);
  const approved = events.filter((event) => event.approved);
  // A read is told of only with `observe: "all"`, but for what would have been a violation.
  expect(approved.map(({ operation, errno, verdict }) => [operation, errno, verdict])).toEqual([
    ["read", null, "allowed"],
    ["write", null, "allowed"],
  ]);
});

test.for(tiers)("an answer that is remembered is asked for once (%s)", async (tier) => {
  let asked = 0;
  await using sandbox = await asking(tier, () => {
    asked += 1;
    return { allow: true, remember: true };
  });
  const { stdout } = await sandbox.run(["sh", "-c", `cat ${place}/secret; cat ${place}/secret`]);
  expect(stdout).toBe("the secretthe secret");
  expect(asked).toBe(1);
});

test.for(tiers)("a program is granted where mounts can put it in place (%s)", async (tier) => {
  const program = `${place}/program`;
  writeFileSync(program, "#!/bin/sh\necho ran\n", { mode: 0o755 });
  const asked: string[] = [];
  await using sandbox = await asking(tier, ({ operation, path }) => {
    asked.push(`${operation} ${String(path)}`);
    return true;
  });
  const { stdout, violations } = await sandbox.run(["sh", "-c", program]);
  const isGranted = tier === "namespaces";
  expect(stdout).toBe(isGranted ? "ran\n" : "");
  expect(asked).toEqual(isGranted ? [`execute ${program}`] : []);
  expect(violations.map(({ operation }) => operation)).toEqual(isGranted ? [] : ["execute"]);
});

test.for(tiers)("no, no answer, and an error refuse (%s)", async (tier) => {
  const warnings: string[] = [];
  const onWarning = (warning: Error): unknown => warnings.push(warning.message);
  process.on("warning", onWarning);
  const signals: AbortSignal[] = [];
  for (const onRequest of [
    () => false,
    (_: unknown, signal: AbortSignal) => {
      signals.push(signal);
      return new Promise<boolean>(() => {});
    },
    () => Promise.reject(new Error("nobody there")),
  ] satisfies OnRequest[]) {
    await using sandbox = await asking(tier, onRequest, 100);
    const { exitCode, violations } = await sandbox.run(["cat", `${place}/secret`]);
    expect(exitCode).toBe(1);
    expect(violations).toMatchObject([{ operation: "read", path: `${place}/secret` }]);
  }
  process.off("warning", onWarning);
  expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
  expect(warnings.join()).toContain("nobody there");
});

test("options that are no functions or times are refused", async () => {
  for (const options of [{ onRequest: "yes" }, { approvalTimeout: -1 }]) {
    await expect(createSandbox({}, options as never)).rejects.toMatchObject({
      code: "ERR_NONO_INVALID_OPTION",
    });
  }
});
