// Restricts itself and tells what it can do then; see restrict.test.ts.
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { readFile } from "node:fs/promises";
import { createConnection } from "node:net";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { restrictSelf } from "../src/index.ts";

const [directory = "", secret = "", port = "0", code = ""] = process.argv.slice(2);
const attempts: Record<string, string> = {};

async function attempt(what: string, call: () => unknown): Promise<void> {
  try {
    await call();
    attempts[what] = "allowed";
  } catch (error) {
    attempts[what] = (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

const inWorker = `
  const { parentPort } = require("node:worker_threads");
  const fs = require("node:fs");
  parentPort.on("message", async (file) => {
    const answers = [];
    for (const read of [() => fs.readFileSync(file), () => fs.promises.readFile(file)]) {
      try { await read(); answers.push("allowed"); } catch (error) { answers.push(error.code); }
    }
    parentPort.postMessage(answers.join(" "));
  });
`;
const ask = (worker: Worker, file: string): Promise<string> =>
  new Promise((answer) => {
    worker.once("message", answer);
    // oxlint-disable-next-line unicorn/require-post-message-target-origin -- it is no window
    worker.postMessage(file);
  });
const connect = (): Promise<void> =>
  new Promise((done, failed) => {
    const socket = createConnection(Number(port), "127.0.0.1", () => {
      socket.destroy();
      done();
    });
    socket.once("error", failed);
  });

// Threads of every kind are there and have worked, and some are at it.
const worker = new Worker(inWorker, { eval: true });
await attempt("before", () => readFile(secret));
attempts["worker before"] = await ask(worker, secret);
await attempt("connect before", connect);
const busy = new Worker("for (;;) Math.sqrt(Math.random());", { eval: true });
await delay(100);
const reads = Array.from({ length: 64 }, () => readFile("/etc/hostname"));

const capabilities = {
  read: [process.execPath, import.meta.dirname],
  write: [directory],
  exec: ["cat"],
  protect: false,
};
const guarantees = restrictSelf(capabilities);

await Promise.all(reads);
await attempt("granted", () => writeFileSync(`${directory}/file`, "x"));
await attempt("granted by the pool", () => readFile(`${directory}/file`));
await attempt("read", () => readFileSync(secret));
// More at once than the pool has threads, so that each of them has its turn.
const all = await Promise.allSettled(Array.from({ length: 64 }, () => readFile(secret)));
attempts["read by the pool"] = [
  ...new Set(
    all.map((one) =>
      one.status === "rejected" ? (one.reason as NodeJS.ErrnoException).code : "allowed",
    ),
  ),
].join();
await attempt("write", () => writeFileSync(`${secret}.new`, "x"));
attempts["worker"] = await ask(worker, secret);
attempts["new worker"] = await ask(new Worker(inWorker, { eval: true }), secret);
await attempt("child", () =>
  execFileSync("cat", [secret], { stdio: ["ignore", "pipe", "ignore"] }),
);
attempts["child"] = attempts["child"] === "allowed" ? "allowed" : "refused";
await attempt("granted to a child", () => execFileSync("cat", [`${directory}/file`]));
await attempt("other program", () => execFileSync("ls"));
await attempt("connect", connect);
await attempt("native code", () => process.dlopen({ exports: {} }, code));
process.memoryUsage();
await attempt("again", () => restrictSelf({ baseProfile: false }));
await attempt("granted, taken away", () => readFile(`${directory}/file`));

process.stdout.write(JSON.stringify({ attempts, guarantees }));
void busy.terminate();
process.exit(0);
