import { mkdirSync, mkdtempSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { setTimeout as delay } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import {
  type Capabilities,
  createSandbox,
  type EventGap,
  explain,
  type SandboxEvent,
  support,
  type Violation,
} from "../src/index.ts";

const tiers = support().tiers.filter(({ available }) => available);
let place: string;

beforeEach(() => {
  // Not in /tmp, which is private in one of the tiers: nothing of the host's is there to be refused.
  place = realpathSync(mkdtempSync("/var/tmp/nono-events-"));
  mkdirSync(`${place}/w`);
  mkdirSync(`${place}/o`);
  writeFileSync(`${place}/o/secret`, "the secret");
});
afterEach(() => rmSync(place, { recursive: true, force: true }));

function capabilities(): Capabilities {
  return { write: [`${place}/w`], exec: ["/bin", "/usr/bin"], deny: ["**/.env"] };
}

describe.each(tiers)("tier $name", ({ name }) => {
  const options = { tier: name as "namespaces" | "flat" };

  test("a result says what was refused, why, and what would allow it", async () => {
    await using sandbox = await createSandbox(capabilities(), { ...options, observe: "all" });
    const [guilty, innocent] = await Promise.all([
      sandbox.run(["sh", "-c", `cat ${place}/o/secret; echo >.env; sleep 0.1`]),
      sandbox.run(["sh", "-c", "sleep 0.05; cat /nowhere"]),
    ]);
    expect(innocent.violatedPolicy).toBe(false);
    expect(innocent.violations).toEqual([]);
    expect(guilty.violatedPolicy).toBe(true);
    expect(guilty.violations).toMatchObject([
      {
        operation: "read",
        path: `${place}/o/secret`,
        verdict: "denied",
        errno: "EACCES",
        layer: "landlock",
        reason: "not-granted",
        rule: "nothing grants it",
        process: { executable: "/usr/bin/cat", arguments: ["cat", `${place}/o/secret`] },
        suggestion: {
          capability: "read",
          value: `${place}/o/secret`,
          call: `allowRead("${place}/o/secret")`,
        },
        count: 1,
      },
      {
        operation: "create",
        path: `${place}/w/.env`,
        asked: ".env",
        layer: "supervisor",
        reason: "denied",
        rule: "denied by **/.env",
        suggestion: { capability: "deny", call: 'without deny("**/.env")' },
      },
    ]);
    expect(Math.abs(guilty.violations[0]!.time - Date.now())).toBeLessThan(60_000);
    expect(sandbox.events.violations).toEqual(guilty.violations);
    expect(sandbox.events.denied).toBe(2);
  });

  test("events arrive as they happen, by listener and by iterator", async () => {
    await using sandbox = await createSandbox(capabilities(), options);
    const violations: Violation[] = [];
    const arrived = new Promise<void>((resolve) => {
      sandbox.events.on("violation", (violation) => {
        violations.push(violation);
        resolve();
      });
    });
    const read = (async () => {
      const events: SandboxEvent[] = [];
      for await (const event of sandbox.events) events.push(event);
      return events;
    })();
    const child = sandbox.spawn(["sh", "-c", `mkdir ${place}/o/x; mkdir y; read line`]);
    await arrived; // the command is still waiting
    child.stdin!.end("\n");
    await child.exited;
    await sandbox.close();
    expect(violations.map(({ operation, path }) => [operation, path])).toEqual([
      ["make-directory", `${place}/o/x`],
    ]);
    const seen = (await read).map(({ operation, verdict }) => `${operation} ${verdict}`);
    expect(seen.filter((line) => !/^(execute|exit) /.test(line))).toEqual([
      "make-directory denied",
      "make-directory allowed",
    ]);
    for (const operation of ["execute", "exit"]) {
      expect(seen.filter((line) => line.startsWith(`${operation} `))).toHaveLength(3);
    }
  });

  test(
    "a slow reader holds nobody up, and learns what it missed",
    { timeout: 60_000 },
    async () => {
      await using sandbox = await createSandbox(capabilities(), options);
      const iterator = sandbox.events[Symbol.asyncIterator]();
      const gaps: EventGap[] = [];
      sandbox.events.on("gap", (gap) => gaps.push(gap));
      const script = `import os
for n in range(22000):
  try: os.mkdir('${place}/o/%d' % n)
  except OSError: pass`;
      const child = sandbox.spawn(["python3", "-I", "-S", "-c", script]);
      const { exitCode } = await child.exited;
      expect(exitCode).toBe(0);
      let read = 0;
      let next = iterator.next();
      while (sandbox.events.denied > read + gaps.reduce((sum, { denied }) => sum + denied, 0)) {
        const { value } = (await Promise.race([next, delay(5000, { value: undefined })])) as {
          value?: SandboxEvent;
        };
        if (value === undefined) break;
        if (value.verdict === "denied") read += value.count;
        next = iterator.next();
      }
      expect(read + gaps.reduce((sum, { denied }) => sum + denied, 0)).toBe(22_000);
    },
  );

  test("explain and the kernel agree", async () => {
    await using sandbox = await createSandbox(capabilities(), options);
    writeFileSync(`${place}/w/x`, "x");
    for (const [path, access, command] of [
      [`${place}/w/x`, "read", `cat ${place}/w/x`],
      [`${place}/w/new`, "write", `echo >${place}/w/new`],
      [`${place}/w/.env`, "write", `echo >${place}/w/.env`],
      [`${place}/w/.mcp.json`, "write", `echo >${place}/w/.mcp.json`],
      [`${place}/o/secret`, "read", `cat ${place}/o/secret`],
      [`${place}/o/secret`, "write", `echo >${place}/o/secret`],
    ] as const) {
      const { allowed } = sandbox.explain({ path, access });
      expect(explain(capabilities(), { path, access }, options).allowed).toBe(allowed);
      const { exitCode } = await sandbox.run(["sh", "-c", command]);
      expect([path, access, exitCode === 0]).toEqual([path, access, allowed]);
    }
  });
});

test("explain answers for programs, ports, sockets and variables", () => {
  const capabilities = { exec: ["ls"], network: "gate", env: { set: { CI: "1" } } } as const;
  expect(explain(capabilities, { exec: "ls" })).toMatchObject({ allowed: true });
  expect(explain(capabilities, { exec: "cat" })).toMatchObject({
    allowed: false,
    suggestion: { call: 'allowExec("/usr/bin/cat")' },
  });
  expect(explain(capabilities, { port: 443 }).rule).toContain("gate");
  expect(explain(capabilities, { port: 22 }).allowed).toBe(false);
  expect(explain({}, { port: 443 }).rule).toBe("the network is blocked");
  expect(explain(capabilities, { unixSocket: "/run/nowhere.sock" })).toMatchObject({
    allowed: false,
    suggestion: { call: 'allowUnixSocket("/run/nowhere.sock")' },
  });
  expect(explain(capabilities, { env: "CI" }).allowed).toBe(true);
  expect(explain(capabilities, { env: "AWS_SECRET_ACCESS_KEY" }).allowed).toBe(false);
});

test("explain refuses questions about nothing, or about two things", () => {
  for (const question of [{}, { path: "/a", exec: "b" }, { access: "read" }, { port: 0 }]) {
    expect(() => explain({}, question as never)).toThrow(
      expect.objectContaining({ code: "ERR_NONO_INVALID_OPTION" }),
    );
  }
  expect(() => explain({}, { path: "relative" })).toThrow(
    expect.objectContaining({ code: "ERR_NONO_INVALID_PATH" }),
  );
});
