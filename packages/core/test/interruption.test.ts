import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { InterruptedError } from "../src/index.ts";
import { sandboxIn, Workspace } from "./workspace.ts";

async function interruptionOf(run: Promise<unknown>): Promise<InterruptedError> {
  const error: unknown = await run.then(
    () => new Error("the command was not interrupted"),
    (reason: unknown) => reason,
  );
  if (error instanceof InterruptedError) return error;
  throw error;
}

test("a timeout ends the command and tells what it had written", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const run = sandbox.run(["sh", "-c", "echo begun; sleep 60"], { timeout: 300 });
  const error = await interruptionOf(run);
  expect(error).toMatchObject({ code: "ERR_NONO_TIMEOUT", value: 300 });
  expect(error.result).toMatchObject({ exitCode: null, signal: "SIGTERM", stdout: "begun\n" });
});

test("a command may catch SIGTERM and end in its own way within the grace period", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const script = "trap 'echo tidied; exit 3' TERM; while :; do sleep 0.05; done";
  const run = sandbox.run(["sh", "-c", script], { timeout: 300, killGrace: 10_000 });
  const error = await interruptionOf(run);
  expect(error.result).toMatchObject({ exitCode: 3, signal: null, stdout: "tidied\n" });
});

test("a command that ignores SIGTERM is killed after the grace period", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const script = "trap '' TERM; while :; do sleep 0.05; done";
  const run = sandbox.run(["sh", "-c", script], { timeout: 200, killGrace: 200 });
  expect((await interruptionOf(run)).result).toMatchObject({ signal: "SIGKILL" });
});

test("abort ends the command and gives the reason as the cause", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const controller = new AbortController();
  const run = sandbox.run(["sleep", "60"], { signal: controller.signal });
  await delay(100);
  controller.abort("changed my mind");
  const error = await interruptionOf(run);
  expect(error).toMatchObject({
    name: "AbortError",
    code: "ERR_NONO_ABORTED",
    cause: "changed my mind",
  });
  expect(error.result).toMatchObject({ signal: "SIGTERM" });
});

test("a signal that was aborted before starts nothing", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const file = workspace.at("ran");
  const run = sandbox.run(["sh", "-c", `echo > ${file}`], { signal: AbortSignal.abort() });
  expect((await interruptionOf(run)).result).toBeUndefined();
  expect((await sandbox.run(["cat", file])).exitCode).toBe(1);
});

test("abort ends a spawned command as well", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const controller = new AbortController();
  const child = sandbox.spawn(["sleep", "60"], { stdio: "ignore", signal: controller.signal });
  await child.started;
  controller.abort();
  expect(await child.exited).toMatchObject({ exitCode: null, signal: "SIGTERM" });
});

test("a command that floods its output is killed, and the memory stays bounded", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const script = "while :; do echo xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx; done";
  const error = await interruptionOf(sandbox.run(["sh", "-c", script], { maxOutput: 100_000 }));
  expect(error).toMatchObject({ code: "ERR_NONO_OUTPUT_LIMIT", value: 100_000 });
  expect(error.result?.stdout).toHaveLength(100_000);
});

test("exactly as much output as allowed is allowed", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const command = ["head", "-c", "100000", "/dev/zero"];
  expect((await sandbox.run(command, { maxOutput: 100_000 })).stdout).toHaveLength(100_000);
  await expect(sandbox.run(command, { maxOutput: 99_999 })).rejects.toThrow(InterruptedError);
});

test("the end of a scope ends its command", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  let exited;
  {
    await using child = sandbox.spawn(["sleep", "60"]);
    await child.started;
    exited = child.exited;
  }
  expect(await exited).toMatchObject({ signal: "SIGTERM" });
});
