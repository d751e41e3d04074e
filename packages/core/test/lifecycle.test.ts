import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { closeSync, existsSync, openSync, readFileSync } from "node:fs";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { createSandbox, SandboxClosedError, support } from "../src/index.ts";
import { childrenOf, eventually, openFiles, processesWith, zombies } from "./processes.ts";
import { sandboxIn, tiers, Workspace } from "./workspace.ts";

test("a command runs, and its output and exit code come back", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const result = await sandbox.run(["sh", "-c", "echo out; echo err >&2; exit 7"]);
  expect(result).toMatchObject({ exitCode: 7, signal: null, stdout: "out\n", stderr: "err\n" });
});

test("a command that a signal ends reports the signal", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const result = await sandbox.run(["sh", "-c", "kill -USR1 $$"]);
  expect(result).toMatchObject({ exitCode: null, signal: "SIGUSR1" });
});

test("usage tells what a command consumed", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const { usage } = await sandbox.run([
    "sh",
    "-c",
    "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done",
  ]);
  expect(usage.userMs + usage.systemMs).toBeGreaterThan(5);
  expect(usage.maxRssBytes).toBeGreaterThan(100_000);
});

test.for(tiers)("started gives the pid that the command itself sees (%s)", async (tier) => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace, {}, { tier });
  const child = sandbox.spawn(["sh", "-c", "echo $$; exec sleep 60"], {
    stdio: ["ignore", "pipe", "ignore"],
  });
  const pid = await child.started;
  const [line] = (await once(child.stdout!, "data")) as [Buffer];
  expect(Number(line.toString())).toBe(pid);
  child.kill("SIGKILL");
  expect(await child.exited).toMatchObject({ exitCode: null, signal: "SIGKILL" });
});

test("commands of one sandbox run side by side", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const results = await Promise.all(
    Array.from({ length: 50 }, (_, at) => sandbox.run(["sh", "-c", `echo ${at}; exit ${at}`])),
  );
  expect(results.map(({ exitCode, stdout }) => [exitCode, stdout])).toEqual(
    results.map((_, at) => [at, `${at}\n`]),
  );
});

test("sandboxes with different capabilities live side by side", async () => {
  using one = new Workspace();
  using other = new Workspace();
  await using inOne = await sandboxIn(one);
  await using inOther = await sandboxIn(other);
  for (const sandbox of [inOne, inOther]) {
    const own = sandbox === inOne ? one : other;
    const foreign = sandbox === inOne ? other : one;
    const script = `echo 1 > ${own.at("file")}; echo 1 > ${foreign.at("foreign")}`;
    await sandbox.run(["sh", "-c", script], { cwd: own.path });
    expect(existsSync(own.at("file"))).toBe(true);
    expect(existsSync(foreign.at("foreign"))).toBe(false);
  }
});

test("close kills everything inside, daemons too, and is idempotent", async () => {
  using workspace = new Workspace();
  const sandbox = await sandboxIn(workspace);
  const marker = randomUUID();
  const daemon = `setsid sh -c 'while :; do sleep 0.05; done' ${marker} & `;
  await sandbox.run(["sh", "-c", daemon]);
  const running = sandbox.spawn(["sleep", "60"], { stdio: "ignore" });
  await running.started;
  expect(await eventually(() => processesWith(marker).length > 0)).toBe(true);
  await sandbox.close();
  expect(processesWith(marker)).toEqual([]);
  expect(await running.exited).toMatchObject({ exitCode: null, signal: "SIGKILL" });
  await sandbox.close();
  expect(() => sandbox.spawn(["true"])).toThrow(SandboxClosedError);
  await expect(sandbox.run(["true"])).rejects.toMatchObject({ code: "ERR_NONO_SANDBOX_CLOSED" });
});

test.for(tiers)(
  "a command that is starting when its sandbox is closed was killed (%s)",
  async (tier) => {
    using workspace = new Workspace();
    const sandbox = await sandboxIn(workspace, {}, { tier });
    const child = sandbox.spawn(["sleep", "60"], { stdio: "ignore" });
    await sandbox.close();
    expect(await child.started).toBeGreaterThan(0);
    expect(await child.exited).toMatchObject({ exitCode: null, signal: "SIGKILL" });
  },
);

test("many sandboxes and commands leave no descriptor and no process behind", async () => {
  using workspace = new Workspace();
  const cycle = async (): Promise<void> => {
    await using sandbox = await sandboxIn(workspace);
    await Promise.all(Array.from({ length: 10 }, () => sandbox.run(["sh", "-c", "echo x"])));
    sandbox.spawn(["sh", "-c", "echo unread"]);
    await sandbox.spawn(["false"], { stdio: "ignore" }).exited;
  };
  // Opens what is opened once; what closes, closes a little later.
  await cycle();
  await delay(200);
  const before = { files: openFiles(), children: childrenOf(process.pid) };
  for (let round = 0; round < 20; round++) await cycle();
  expect(await eventually(() => openFiles().length <= before.files.length)).toBe(true);
  expect(childrenOf(process.pid)).toEqual(before.children);
  expect(zombies()).toEqual([]);
});

test("a command sees its own three descriptors and no others", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace, { read: ["/proc"] });
  const inherited = openSync("/dev/null", "r");
  const script = `i=0; while [ $i -lt 64 ]; do [ -e /proc/$$/fd/$i ] && echo $i; i=$((i+1)); done`;
  const { stdout } = await sandbox.run(["sh", "-c", script]);
  closeSync(inherited);
  expect(stdout).toBe("0\n1\n2\n");
});

test("support and guarantees speak of this machine", async () => {
  const { kernel, tiers, landlockAbi } = support();
  expect(kernel).toBe(readFileSync("/proc/sys/kernel/osrelease", "utf8").trim());
  expect(landlockAbi).toBeGreaterThan(0);
  await using sandbox = await createSandbox();
  expect(tiers.filter((tier) => tier.available).map((tier) => tier.name)).toContain(sandbox.tier);
  expect(sandbox.guarantees.length).toBeGreaterThan(5);
  for (const { name, status, mechanism, reason } of sandbox.guarantees) {
    expect(name).toMatch(/^[a-z][a-z-]*$/);
    if (status === "enforced") expect(mechanism).not.toBe("");
    else expect(reason).toBeTruthy();
  }
});
