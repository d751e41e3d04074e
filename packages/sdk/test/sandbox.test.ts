import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  rmdirSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  ArgumentError,
  CapabilitiesError,
  InterruptedError,
  PathError,
  Sandbox,
  SandboxClosedError,
} from "../src/index.ts";
import { useOwnState } from "./support/state.ts";

useOwnState();

let workspace = "";
beforeAll(() => {
  workspace = realpathSync(mkdtempSync(path.join(tmpdir(), "nono-sdk-")));
});
afterAll(() => rmSync(workspace, { recursive: true, force: true }));

describe("each method checks at once", () => {
  test.for([
    ["allowRead", "relative"],
    ["allowRead", ""],
    ["allowRead", "/a\0b"],
    ["allowWrite", ["/tmp", "./relative"]],
    ["allowExec", "bin/tool"],
    ["allowExec", ""],
  ] as const)("%s(%j) is a path error", ([method, value]) => {
    const attempt = (): unknown => new Sandbox()[method](value);
    expect(attempt).toThrow(PathError);
    expect(attempt).toThrow(expect.objectContaining({ code: "ERR_NONO_INVALID_PATH" }));
  });

  test.for(["A=B", "", "A*B", "A\0"])("allowEnv(%j) is an argument error", (name) => {
    expect(() => new Sandbox().allowEnv(name)).toThrow(ArgumentError);
  });

  test("setEnv refuses what no environment can hold", () => {
    expect(() => new Sandbox().setEnv({ "A=B": "1" })).toThrow(ArgumentError);
    expect(() => new Sandbox().setEnv({ A: "1\0" })).toThrow(ArgumentError);
  });

  test("a value of the wrong type is refused", () => {
    const wrong = 1 as unknown as string;
    expect(() => new Sandbox().allowRead(wrong)).toThrow(CapabilitiesError);
    expect(() => new Sandbox().allowExec([wrong])).toThrow(CapabilitiesError);
    expect(() => new Sandbox().allowEnv(wrong)).toThrow(ArgumentError);
  });
});

test("strings and arrays add up to plain capabilities", () => {
  const sandbox = new Sandbox({ baseProfile: false })
    .allowRead("/a")
    .allowRead(["/b", "/c"])
    .allowWrite("/d")
    .allowExec(["/bin/sh", "git"])
    .allowEnv("LANG")
    .setEnv({ A: "1" })
    .setEnv({ B: "2" })
    .limit({ processes: 5 })
    .blockNetwork();
  expect(sandbox.capabilities).toEqual({
    read: ["/a", "/b", "/c"],
    write: ["/d"],
    exec: ["/bin/sh", "git"],
    network: "blocked",
    env: { allow: ["LANG"], set: { A: "1", B: "2" } },
    limits: { processes: 5 },
    baseProfile: false,
  });
});

test("commands run in what was declared", async () => {
  await using sandbox = new Sandbox()
    .allowWrite(workspace)
    .allowExec(["sh", "cat"])
    .setEnv({ GREETING: "hello" });
  const script = "echo $GREETING > file; cat file; cat /etc/shadow";
  const { exitCode, stdout, stderr } = await sandbox.run(["sh", "-c", script]);
  expect({ exitCode, stdout }).toEqual({ exitCode: 1, stdout: "hello\n" });
  expect(stderr).toContain("shadow");
  expect(readFileSync(path.join(workspace, "file"), "utf8")).toBe("hello\n");
});

test("a result says how it went, what was refused, what is promised, and where it is on record", async () => {
  await using sandbox = new Sandbox()
    .allowWrite(workspace)
    .allowExec(["sh", "cat"])
    .enableRollback();
  const stdin = openSync("/etc/hostname", "r");
  const result = await sandbox.run(["sh", "-c", "cat > copied; echo no >&2; kill -TERM $$"], {
    stdin,
  });
  closeSync(stdin);
  expect(result).toEqual({
    exitCode: null,
    signal: "SIGTERM",
    exceeded: null,
    stdout: "",
    stderr: "no\n",
    violatedPolicy: false,
    violations: [],
    usage: expect.objectContaining({ maxRssBytes: expect.any(Number) }),
    guarantees: expect.arrayContaining([expect.objectContaining({ name: "fs-write" })]),
    rolledBack: false,
    audit: {
      dir: expect.stringContaining("sessions"),
      head: { size: expect.any(Number), root: expect.any(String) },
    },
    changes: expect.any(Function),
  });
  const changed: string[] = [];
  for await (const { kind, path: name } of result.changes()) changed.push(`${kind} ${name}`);
  expect(changed).toEqual(["added copied"]);
  await sandbox.rollback();
});

test("a command begins in the first directory that was named", async () => {
  await using sandbox = new Sandbox()
    .use("shell")
    .allowRead(["/etc/hostname", workspace])
    .allowWrite("/var/tmp");
  expect((await sandbox.run(["pwd"])).stdout).toBe(`${workspace}\n`);
  expect((await sandbox.run(["pwd"], { cwd: "/var/tmp" })).stdout).toBe("/var/tmp\n");
});

test("spawn streams, and rejects what can't start", async () => {
  await using sandbox = new Sandbox().allowWrite(workspace).allowExec("cat");
  const child = await sandbox.spawn(["cat"]);
  child.stdin?.end("echo");
  expect(Buffer.concat((await child.stdout?.toArray()) as Buffer[]).toString()).toBe("echo");
  expect((await child.exited).exitCode).toBe(0);
  await expect(sandbox.spawn(["sh"])).rejects.toMatchObject({ code: "ERR_NONO_EXEC_NOT_ALLOWED" });
});

test("a sandbox that can't be built says so at the first command", async () => {
  await using sandbox = new Sandbox().allowRead("/nonexistent/nono");
  const refused = { code: "ERR_NONO_PATH_NOT_FOUND", value: "/nonexistent/nono" };
  await expect(sandbox.run(["true"])).rejects.toMatchObject(refused);
});

test.skipIf(process.getuid?.() === 0)("a path that its user cannot look at is named", async () => {
  const closed = path.join(workspace, "closed");
  mkdirSync(closed, { mode: 0o000 });
  const missing = path.join(closed, "inside");
  await using sandbox = new Sandbox().allowRead(missing);
  const refused = { code: "ERR_NONO_PATH_NOT_FOUND", value: missing };
  await expect(sandbox.run(["true"])).rejects.toMatchObject(refused);
  rmdirSync(closed);
});

test("capabilities are fixed by the first command", async () => {
  await using sandbox = new Sandbox().allowWrite(workspace).allowExec("true");
  await sandbox.run(["true"]);
  expect(() => sandbox.allowRead("/etc")).toThrow(ArgumentError);
});

test("a closed sandbox runs nothing, whether it had been built or not", async () => {
  const sandbox = new Sandbox().allowWrite(workspace).allowExec("true");
  await sandbox.close();
  await sandbox.close();
  await expect(async () => sandbox.run(["true"])).rejects.toThrow(SandboxClosedError);
});

test("many different sandboxes work side by side", async () => {
  const outputs = await Promise.all(
    Array.from({ length: 8 }, async (_, at) => {
      await using sandbox = new Sandbox().allowExec("sh").setEnv({ NUMBER: String(at) });
      return (await sandbox.run(["sh", "-c", "echo $NUMBER"])).stdout.trim();
    }),
  );
  expect(outputs).toEqual(["0", "1", "2", "3", "4", "5", "6", "7"]);
});

test("a timeout is an interruption", async () => {
  await using sandbox = new Sandbox().allowExec("sleep");
  await expect(sandbox.run(["sleep", "60"], { timeout: 100 })).rejects.toThrow(InterruptedError);
});

test("the guarantees can be asked for before any command", async () => {
  await using sandbox = new Sandbox();
  const names = (await sandbox.guarantees()).map(({ name }) => name);
  expect(names).toContain("fs-read");
});
