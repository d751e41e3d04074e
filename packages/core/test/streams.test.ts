import { createHash } from "node:crypto";
import { closeSync, openSync, readFileSync } from "node:fs";
import { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { expect, test } from "vitest";
import { sandboxIn, Workspace } from "./workspace.ts";

const megabyte = 1024 * 1024;

test("input arrives whole and output comes back whole, both larger than a pipe", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const input = Buffer.alloc(8 * megabyte, "0123456789abcdef");
  const { stdout } = await sandbox.run(["cat"], { input, encoding: "buffer" });
  expect(stdout.equals(input)).toBe(true);
});

test("input may be a stream", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const { stdout } = await sandbox.run(["cat"], { input: Readable.from(["a", "b", "c"]) });
  expect(stdout).toBe("abc");
});

test("stdin may be a descriptor of the owner", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const stdin = openSync(import.meta.filename, "r");
  const { stdout } = await sandbox.run(["head", "-n", "1"], { stdin });
  closeSync(stdin);
  expect(stdout).toBe('import { createHash } from "node:crypto";\n');
});

test("an input stream that fails makes the run fail, and ends the command", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const input = new Readable({
    read() {
      this.destroy(new Error("the source broke"));
    },
  });
  await expect(sandbox.run(["cat"], { input })).rejects.toThrow("the source broke");
});

test("a command that does not read its input is no error", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const input = Buffer.alloc(4 * megabyte);
  const ends = Array.from({ length: 20 }, () => sandbox.run(["true"], { input }));
  for (const { exitCode } of await Promise.all(ends)) expect(exitCode).toBe(0);
  expect(await sandbox.run(["head", "-c", "3"], { input: "abcdef" })).toMatchObject({
    stdout: "abc",
  });
});

test("text that is split within a character between two reads is decoded whole", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const script = String.raw`printf '\342\202'; sleep 0.1; printf '\254'`;
  expect((await sandbox.run(["sh", "-c", script])).stdout).toBe("€");
});

test("a reader that pauses holds the command back", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const progress = workspace.at("progress");
  const script = `i=0; while [ $i -lt 64 ]; do dd if=/dev/zero bs=65536 count=1 2>/dev/null; i=$((i+1)); echo $i > ${progress}; done`;
  const child = sandbox.spawn(["sh", "-c", script], { stdio: ["ignore", "pipe", "ignore"] });
  const written = (): number => Number(readFileSync(progress, "utf8"));
  await child.started;
  await delay(500);
  const early = written();
  await delay(200);
  // 64 KiB in the pipe, as much in the stream's buffer, one block under way.
  expect(early).toBeLessThan(8);
  expect(written()).toBe(early);
  let size = 0;
  for await (const chunk of child.stdout!) size += (chunk as Buffer).length;
  expect(size).toBe(64 * 65_536);
  expect((await child.exited).exitCode).toBe(0);
});

test("output can be read after the command has exited", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const child = sandbox.spawn(["sh", "-c", "echo late"]);
  await child.exited;
  await delay(20);
  expect(Buffer.concat(await child.stdout!.toArray()).toString()).toBe("late\n");
});

test("the conversation with a command goes both ways", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const child = sandbox.spawn(["cat"], { stdio: ["pipe", "pipe", "ignore"] });
  const answers = child.stdout![Symbol.asyncIterator]();
  for (const word of ["one", "two", "three"]) {
    child.stdin!.write(word);
    expect(String((await answers.next()).value)).toBe(word);
  }
  child.stdin!.end();
  expect((await answers.next()).done).toBe(true);
  expect((await child.exited).exitCode).toBe(0);
});

test("writing to a command that is gone is an error event with EPIPE", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const child = sandbox.spawn(["true"], { stdio: ["pipe", "ignore", "ignore"] });
  await child.exited;
  const failed = new Promise((resolve) => child.stdin!.once("error", resolve));
  child.stdin!.write("hello?");
  expect(await failed).toMatchObject({ code: "EPIPE" });
});

test("a descriptor of the owner can be handed in, and stays open", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const fd = openSync(workspace.at("log"), "w");
  try {
    for (const word of ["first", "second"]) {
      await sandbox.run(["sh", "-c", `echo ${word}; echo ${word} >&2`], { stdout: fd, stderr: fd });
    }
  } finally {
    closeSync(fd);
  }
  expect(readFileSync(workspace.at("log"), "utf8")).toBe("first\nfirst\nsecond\nsecond\n");
});

test("a fourth descriptor is one more pipe", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const child = sandbox.spawn(["sh", "-c", "echo report >&3"], {
    stdio: ["ignore", "ignore", "ignore", "pipe"],
  });
  const chunks = await (child.stdio[3] as Readable).toArray();
  expect(Buffer.concat(chunks as Buffer[]).toString()).toBe("report\n");
});

test("a background process that keeps the pipe open does not keep run waiting", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const begin = performance.now();
  const { stdout } = await sandbox.run(["sh", "-c", "sleep 20 & echo done"]);
  expect(stdout).toBe("done\n");
  expect(performance.now() - begin).toBeLessThan(10_000);
});

test("all of a large output is there even when the command exits at once", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace);
  const script = "dd if=/dev/zero bs=65536 count=1 2>/dev/null; sleep 20 & exit 0";
  for (let round = 0; round < 10; round++) {
    const { stdout } = await sandbox.run(["sh", "-c", script], { encoding: "buffer" });
    const digest = createHash("sha256").update(stdout).digest("hex");
    expect(digest).toBe(createHash("sha256").update(Buffer.alloc(65_536)).digest("hex"));
  }
});
