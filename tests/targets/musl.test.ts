// What is different on a system whose only C library is musl.
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { expect, test } from "vitest";
import { createSandbox, support, type Capabilities } from "../../packages/core/src/index.ts";

const tiers = support()
  .tiers.filter(({ available }) => available)
  .map(({ name }) => name as "namespaces" | "flat");
const node = process.execPath;

async function run(
  tier: "namespaces" | "flat",
  argv: [string, ...string[]],
  capabilities: Capabilities = {},
) {
  const own = mkdtempSync(path.join(tmpdir(), "nono-musl-"));
  try {
    await using sandbox = await createSandbox(
      { write: [own], exec: [node], ...capabilities },
      { tier },
    );
    const { exitCode, signal, stdout, stderr } = await sandbox.run(argv);
    return { exitCode, signal, stdout, stderr };
  } finally {
    rmSync(own, { recursive: true });
  }
}

test("there is no other C library, and both tiers", () => {
  expect(existsSync("/lib64/ld-linux-x86-64.so.2")).toBe(false);
  expect(tiers).toEqual(["namespaces", "flat"]);
});

test.each(tiers)("libraries are found where /etc/ld-musl-ARCH.path says (%s)", async (tier) => {
  // Its C++ library is in a directory that only this file names.
  expect(await run(tier, [node, "-p", "6 * 7"])).toEqual({
    exitCode: 0,
    signal: null,
    stdout: "42\n",
    stderr: "",
  });
});

test.each(tiers)("musl's loader runs no program that is not allowed (%s)", async (tier) => {
  const loader = "/lib/ld-musl-x86_64.so.1";
  const script = `const { spawnSync } = require("node:child_process");
    const { status, signal, stdout, error } = spawnSync("${loader}", ["${node}", "-p", "6 * 7"]);
    console.log(JSON.stringify({ status, signal, stdout: String(stdout ?? ""), error: error?.code }));`;
  const { stdout } = await run(tier, [node, "-e", script]);
  const told = JSON.parse(stdout) as { status: number | null; stdout: string };
  expect(told.stdout).toBe("");
  expect(told.status).not.toBe(0);
});

test.each(tiers)("threads and child processes of a program start (%s)", async (tier) => {
  const script = `const { Worker } = require("node:worker_threads");
    const { execFileSync } = require("node:child_process");
    new Worker("require('node:worker_threads').parentPort.postMessage(1)", { eval: true })
      .on("message", (one) => console.log(one + Number(execFileSync(process.execPath, ["-p", "1"]))));`;
  expect(await run(tier, [node, "-e", script])).toMatchObject({ exitCode: 0, stdout: "2\n" });
});

test.each(tiers)("localhost is found (%s)", async (tier) => {
  const script = `require("node:dns").lookup("localhost", (error, address) => console.log(error?.code, address));`;
  const { stdout } = await run(tier, [node, "-e", script]);
  expect(stdout).toMatch(/^undefined (127\.0\.0\.1|::1)\n$/);
});

test.each(tiers)("an open network is that of the machine (%s)", async (tier) => {
  const server: Server = createServer((socket) => socket.end("hello")).listen(0, "127.0.0.1");
  await new Promise((listening) => server.once("listening", listening));
  const { port } = server.address() as { port: number };
  const script = `require("node:net").connect(${port}, "127.0.0.1").on("error", ({ code }) => console.log(code)).pipe(process.stdout);`;
  const open = await run(tier, [node, "-e", script], { network: "open" });
  const blocked = await run(tier, [node, "-e", script], { network: "blocked" });
  server.close();
  expect(open.stdout).toBe("hello");
  expect(blocked.stdout).toMatch(/^E[A-Z]+\n$/);
});

test.each(tiers)("a unix socket is reached if it is listed (%s)", async (tier) => {
  // Naming its file without opening it takes O_PATH, which musl counts among the bits of O_ACCMODE.
  const own = mkdtempSync(path.join(tmpdir(), "nono-musl-"));
  const socket = path.join(own, "agent");
  const server = createServer((connection) => connection.end("hello")).listen(socket);
  await new Promise((listening) => server.once("listening", listening));
  const script = `require("node:net").connect("${socket}").on("error", ({ code }) => console.log(code)).pipe(process.stdout);`;
  const listed = await run(tier, [node, "-e", script], { unixSockets: [socket] });
  const others = await run(tier, [node, "-e", script]);
  server.close();
  rmSync(own, { recursive: true });
  expect(listed.stdout).toBe("hello");
  expect(others.stdout).toMatch(/^E[A-Z]+\n$/);
});

test.each(tiers)("a command has a terminal of its own (%s)", async (tier) => {
  await using sandbox = await createSandbox({ exec: ["sh", "tty"] }, { tier });
  const { stdout } = await sandbox.run(["sh", "-c", "tty; test -t 0 && echo yes"], { pty: true });
  expect(stdout).toMatch(/^\/dev\/\S+\r\nyes\r\n$/);
});
