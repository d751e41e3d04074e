// What is refused: told in results, events and the record, and answered with an end or an undo.
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { decodeEntry, LogReader } from "@nono/audit";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Sandbox, support, type SandboxSettings } from "../src/index.ts";

const tiers = support()
  .tiers.filter(({ available }) => available)
  .map(({ name }) => name as "namespaces" | "flat");

let directory: string;
let workspace: string;
beforeEach(() => {
  directory = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-violations-")));
  workspace = path.join(directory, "workspace");
  mkdirSync(path.join(workspace, "secret"), { recursive: true });
  writeFileSync(path.join(workspace, "secret", "key"), "key\n");
  writeFileSync(path.join(workspace, "file"), "before\n");
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

describe.for(tiers)("in the tier %s", (tier) => {
  const make = (settings: SandboxSettings = {}): Sandbox =>
    new Sandbox({ tier, audit: { dir: path.join(directory, "audit") }, ...settings })
      .use("shell", { workspace })
      .allowWrite(workspace)
      .deny(path.join(workspace, "secret"))
      .enableRollback({ store: path.join(directory, "rollback") });
  const inWorkspace = {
    get cwd(): string {
      return workspace;
    },
    timeout: 240_000,
  };

  test("a result says whether something was refused, and what", async () => {
    await using sandbox = make();
    const fine = await sandbox.run(["sh", "-c", "echo x > file"], inWorkspace);
    expect(fine).toMatchObject({ exitCode: 0, violatedPolicy: false, violations: [] });
    expect(fine.guarantees).toContainEqual(expect.objectContaining({ name: "fs-write" }));
    // Not below /tmp, which is another one inside; and its owner's to read.
    const outside = "/etc/login.defs";
    const read = await sandbox.run(["cat", outside], inWorkspace);
    expect(read).toMatchObject({ exitCode: 1, violatedPolicy: true });
    expect(read.violations).toMatchObject([{ operation: "read", path: outside }]);
    const script = "echo x > /etc/nono-test; echo x > secret/key; exit 0";
    const refused = await sandbox.run(["sh", "-c", script], inWorkspace);
    expect(refused).toMatchObject({ exitCode: 0, violatedPolicy: true, rolledBack: false });
    const reasons = refused.violations.map(
      (violation) => "reason" in violation && violation.reason,
    );
    expect(reasons).toEqual(expect.arrayContaining(["not-granted", "denied"]));
    expect(readFileSync(path.join(workspace, "secret", "key"), "utf8")).toBe("key\n");
  });

  test("events and the record have every attempt", async () => {
    await using sandbox = make();
    const seen: string[] = [];
    sandbox.events.on("violation", ({ operation }) => seen.push(operation));
    const { audit } = await sandbox.run(["sh", "-c", "echo x > /etc/nono-test"], inWorkspace);
    await sandbox.close();
    expect(seen.length).toBeGreaterThan(0);
    const log = audit?.dir ?? "";
    const size = Number(readFileSync(path.join(log, "checkpoint"), "utf8").split("\n")[1]);
    const entries = [...new LogReader(log, size).entries()].map(({ entry, seq }) =>
      decodeEntry(entry, seq),
    );
    const denied = entries.filter(({ decision }) => decision === "deny");
    expect(denied.map(({ object }) => (object as { path?: string }).path)).toContain(
      "/etc/nono-test",
    );
    expect(denied[0]).toMatchObject({
      layer: expect.any(String),
      rule: { id: expect.any(String) },
    });
  });

  test("what was refused to a command of spawn can be asked for", async () => {
    await using sandbox = make();
    expect(await sandbox.violations()).toEqual([]);
    const child = await sandbox.spawn(["cat", "/etc/login.defs"], {
      cwd: workspace,
      stdio: "ignore",
    });
    await child.exited;
    expect(await sandbox.violations()).toMatchObject([
      { operation: "read", path: "/etc/login.defs", suggestion: { capability: "read" } },
    ]);
  });

  test("onViolation: kill ends everything at once", async () => {
    await using sandbox = make({ onViolation: "kill" });
    const script = "echo x > /etc/nono-test; sleep 200; echo survived > file";
    const result = await sandbox.run(["sh", "-c", script], inWorkspace);
    expect(result).toMatchObject({ signal: "SIGKILL", violatedPolicy: true, rolledBack: false });
    expect(readFileSync(path.join(workspace, "file"), "utf8")).toBe("before\n");
  });

  test("onViolation: rollback brings back what was, and the next command works", async () => {
    await using sandbox = make({ onViolation: "rollback" });
    const script = "echo after > file; echo x > secret/key; sleep 200";
    const result = await sandbox.run(["sh", "-c", script], inWorkspace);
    expect(result).toMatchObject({ violatedPolicy: true, rolledBack: true });
    expect(readFileSync(path.join(workspace, "file"), "utf8")).toBe("before\n");
    const next = await sandbox.run(["cat", "file"], inWorkspace);
    expect(next).toMatchObject({ stdout: "before\n", violatedPolicy: false });
  });

  test("what the gate refuses is a violation too", async () => {
    await using sandbox = make().allowExec("curl").allowNetwork("allowed.test:443");
    const denied = sandbox.run(["curl", "-sS", "-m", "60", "https://denied.test/"], inWorkspace);
    const { violatedPolicy, violations } = await denied;
    expect(violatedPolicy).toBe(true);
    expect(violations).toContainEqual(
      expect.objectContaining({
        layer: "gate",
        operation: "net.dns",
        code: "ERR_NONO_HOST_DENIED",
      }),
    );
  });

  test("a person may be asked first; question and answer are on record", async () => {
    const asked: string[] = [];
    await using sandbox = make({
      onRequest: ({ path: name }) => {
        asked.push(String(name));
        return String(name) === "/etc/login.defs";
      },
    });
    const yes = await sandbox.run(["cat", "/etc/login.defs"], inWorkspace);
    expect(yes).toMatchObject({ exitCode: 0, violatedPolicy: false });
    const no = await sandbox.run(["cat", "/etc/crypttab-", "/etc/issue"], inWorkspace);
    expect(no).toMatchObject({ exitCode: 1, violatedPolicy: true });
    expect(asked).toEqual(expect.arrayContaining(["/etc/login.defs", "/etc/issue"]));
    await sandbox.close();
    const log = no.audit?.dir ?? "";
    const size = Number(readFileSync(path.join(log, "checkpoint"), "utf8").split("\n")[1]);
    const entries = [...new LogReader(log, size).entries()].map(({ entry, seq }) =>
      decodeEntry(entry, seq),
    );
    const answers = entries.filter(({ type }) => type === "approval.answer");
    expect(answers.map(({ decision }) => decision)).toEqual(
      expect.arrayContaining(["allow", "deny"]),
    );
  });

  test("explain answers by the code that decides, hosts by the gate", async () => {
    await using sandbox = make().allowNetwork(["api.test:443", "10.0.0.0/8"]);
    const ask = sandbox.explain.bind(sandbox);
    expect(await ask({ path: path.join(workspace, "file"), access: "write" })).toMatchObject({
      allowed: true,
    });
    expect(await ask({ path: path.join(workspace, "secret/key") })).toMatchObject({
      allowed: false,
    });
    expect(await ask({ path: "/etc/shadow" })).toMatchObject({
      allowed: false,
      rule: expect.any(String),
    });
    expect(await ask({ exec: "su" })).toMatchObject({ allowed: false });
    expect(await ask({ host: "api.test" })).toMatchObject({ allowed: true });
    expect(await ask({ host: "other.test" })).toMatchObject({
      allowed: false,
      suggestion: { call: 'allowNetwork("other.test:443")' },
    });
  });

  test("localhost is reached where it is allowed, and servers inside where they are published", async () => {
    const server = createServer((_, response) => response.end("from outside"));
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const { port } = server.address() as AddressInfo;
    try {
      await using sandbox = make().allowExec("curl").allowLocalhost(port);
      const { stdout, stderr } = await sandbox.run(
        ["curl", "-sS", "-m", "60", `http://127.0.0.1:${port}`],
        inWorkspace,
      );
      expect(stdout, stderr).toBe("from outside");
    } finally {
      server.close();
    }
    await using inside = new Sandbox({ tier, audit: false })
      .use("node", { workspace })
      .publish(8080);
    const program =
      'require("http").createServer((_, r) => r.end("from inside")).listen(8080, () => console.log("ready"))';
    const child = await inside.spawn(["node", "-e", program], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(child.stdout ?? expect.fail("no stdout"), "data");
    const published = (await inside.published()).get(8080);
    const answer = await fetch(`http://127.0.0.1:${published}/`);
    expect(await answer.text()).toBe("from inside");
  });
});

test("onViolation: rollback without enableRollback is refused before anything runs", async () => {
  await using sandbox = new Sandbox({ audit: false, onViolation: "rollback" }).allowExec("true");
  await expect(sandbox.run(["true"])).rejects.toMatchObject({ code: "ERR_NONO_INVALID_OPTION" });
});

test.for([
  ["deny", "relative/path"],
  ["allowLocalhost", 0],
  ["allowLocalhost", 1.5],
  ["publish", 65_536],
] as const)("%s(%j) is refused at once", ([method, value]) => {
  const sandbox = new Sandbox() as unknown as Record<string, (value: unknown) => void>;
  expect(() => sandbox[method]?.(value)).toThrow(
    expect.objectContaining({ remedy: expect.any(String) }),
  );
});
