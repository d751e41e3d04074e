// Durable appends: our log against a flat journal that does nothing but JSON.stringify, write and fdatasync
// (groups form the same way), in turns, in one run.
import { closeSync, fdatasync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { ed25519Signer, openAuditLog, type NonoEvent } from "../src/index.ts";

const syncData = promisify(fdatasync);

/** Not /tmp, which may be memory. */
const scratch = process.env["BENCH_DIR"] ?? "/var/tmp";

const event: NonoEvent = {
  type: "net.connect",
  phase: "intent",
  decision: "allow",
  actor: { pid: 4242, ppid: 1, exe: "/usr/bin/python3", uid: 1000 },
  rule: { id: "net:api.example.com:443" },
  object: { host: "api.example.com", address: "203.0.113.6", port: 443, transport: "tcp" },
};

interface Sink {
  record(event: NonoEvent): Promise<unknown>;
  close(): Promise<unknown>;
}

/** The least a durable log can do. */
function flatJournal(dir: string): Sink {
  const fd = openSync(path.join(dir, "flat"), "w");
  let lines: string[] = [];
  let waiting: (() => void)[] = [];
  let running = false;
  const run = async (): Promise<void> => {
    while (waiting.length > 0) {
      const [group, resolvers] = [lines.join(""), waiting];
      lines = [];
      waiting = [];
      writeSync(fd, group);
      await syncData(fd);
      for (const resolve of resolvers) resolve();
      await new Promise((resume) => setImmediate(resume));
    }
    running = false;
  };
  return {
    record: (one) =>
      new Promise<void>((resolve) => {
        lines.push(
          `${JSON.stringify({ ...one, time: Date.now(), mono: process.hrtime.bigint().toString() })}\n`,
        );
        waiting.push(resolve);
        if (running) return;
        running = true;
        setImmediate(() => void run());
      }),
    close: async () => closeSync(fd),
  };
}

async function auditLog(dir: string): Promise<Sink> {
  const origin = "nono.local/bench/session/1";
  const log = await openAuditLog({
    dir: path.join(dir, "log"),
    origin,
    signer: ed25519Signer(origin),
  });
  return { record: (one) => log.record(one), close: () => log.close("done") };
}

/** `count` events by closed-loop writers; events a second and latencies in milliseconds. */
async function load(
  sink: Sink,
  writers: number,
  count: number,
): Promise<{ rate: number; p50: number; p99: number }> {
  let left = count;
  const latencies = new Float64Array(count);
  const start = performance.now();
  const writer = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      const slot = left;
      const before = performance.now();
      await sink.record(event);
      latencies[slot] = performance.now() - before;
    }
  };
  await Promise.all(Array.from({ length: writers }, writer));
  const rate = count / ((performance.now() - start) / 1000);
  latencies.sort();
  const at = (share: number): number => latencies[Math.floor(count * share)] ?? 0;
  return { rate, p50: at(0.5), p99: at(0.99) };
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0;
}

/** Prints one table row per load, medians of five interleaved rounds. */
export async function benchAppend(): Promise<void> {
  console.log("durable appends, natural group commit (median of 5 interleaved rounds)");
  for (const [writers, count] of [
    [1, 2000],
    [16, 20_000],
    [256, 100_000],
    [4096, 400_000],
  ] as const) {
    const rounds: {
      ours: Awaited<ReturnType<typeof load>>;
      flat: Awaited<ReturnType<typeof load>>;
    }[] = [];
    for (let round = 0; round < 5; round += 1) {
      const dir = mkdtempSync(path.join(scratch, "nono-bench-"));
      const ours = await auditLog(dir);
      const flat = flatJournal(dir);
      const measured = {
        ours: await load(ours, writers, count),
        flat: await load(flat, writers, count),
      };
      await Promise.all([ours.close(), flat.close()]);
      rounds.push(measured);
      rmSync(dir, { recursive: true });
    }
    const of = (pick: (round: (typeof rounds)[number]) => number): number =>
      median(rounds.map(pick));
    console.log(
      `  ${String(writers).padStart(5)} writers: ${Math.round(of(({ ours }) => ours.rate))}/s, ` +
        `p50 ${of(({ ours }) => ours.p50).toFixed(2)} ms, p99 ${of(({ ours }) => ours.p99).toFixed(2)} ms; ` +
        `${of(({ ours, flat }) => ours.rate / flat.rate).toFixed(2)} of a flat journal`,
    );
  }
}
