// What the gate costs: ratios to the direct connection in the same run, rounds interleaved. Needs nginx, wrk and
// curl; mitmdump (PyPI: mitmproxy) is measured beside the gate where MITMDUMP or the PATH has it. The gate, nginx and
// the client are three processes; where they share two cores, a ratio holds all three, and the gate's own part is its
// processor time.
import { type ChildProcess, execFileSync, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { cpus, loadavg } from "node:os";
import net from "node:net";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline";
import tls from "node:tls";
import { endChildren, need, start } from "./children.ts";
import {
  at,
  bulkMiB,
  directory,
  download,
  freePort,
  listens,
  median,
  processorTime,
  startNginx,
} from "./upstream.ts";

need("nginx", "wrk", "curl", "openssl", "setpriv");

const rounds = Number(process.env["NONO_BENCH_ROUNDS"] ?? 3);
const seconds = 3;
const newConnections = 200;
const upstream = await freePort();
/** The gate judges requests by the server they are for, whatever port they came in by. */
const host = `Host: 127.0.0.1:${upstream}`;

interface Way {
  readonly name: string;
  readonly port: number;
  readonly child?: ChildProcess;
}

async function startGate(mode: string, upstream: number): Promise<Way> {
  const server = net.createServer().listen({ port: 0, host: "127.0.0.1", backlog: 2048 });
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  const script = path.join(import.meta.dirname, "gate-process.ts");
  // Node passes a server on only by its number.
  const { fd } = (server as unknown as { _handle: { fd: number } })._handle;
  const child = start(process.execPath, [script, mode, String(upstream)], {
    stdio: ["pipe", "pipe", "inherit", fd],
    env: { ...process.env, NONO_BENCH_CA: readFileSync(at("cert.pem"), "utf8") },
  });
  server.close(); // the child has its own descriptor of the socket
  if (child.stdout) await once(child.stdout, "data");
  return { name: `gate: ${mode}`, port, child };
}

async function startMitmproxy(upstream: number): Promise<Way | undefined> {
  const command = process.env["MITMDUMP"] ?? "mitmdump";
  if (spawnSync(command, ["--version"]).status !== 0) {
    console.log("SKIPPED: mitmproxy: mitmdump is not installed");
    return undefined;
  }
  const port = await freePort();
  const mode = ["--mode", `reverse:https://127.0.0.1:${upstream}`, "--listen-host", "127.0.0.1"];
  const more = [
    "-q",
    "-p",
    String(port),
    "--ssl-insecure",
    "--set",
    `confdir=${directory}`,
    "--set",
    "stream_large_bodies=1m",
  ];
  const child = start(command, [...mode, ...more], { stdio: "ignore" });
  await listens(port);
  return { name: "mitmproxy", port, child };
}

/** wrk's requests per second and median latency in milliseconds. */
function load(port: number, connections: number): { rate: number; p50: number; errors: string } {
  const args = [
    "-t1",
    `-c${connections}`,
    `-d${seconds}s`,
    "--latency",
    "-H",
    host,
    `https://127.0.0.1:${port}/small`,
  ];
  const text = execFileSync("wrk", args, { encoding: "utf8" });
  const [, value = "0", unit = "ms"] = /50%\s+([\d.]+)(us|ms|s)/.exec(text) ?? [];
  const factor = { us: 0.001, ms: 1, s: 1000 }[unit] ?? 1;
  const refused = /Non-2xx.*/.exec(text)?.[0];
  if (refused !== undefined) throw new Error(`the load was not served: ${refused}`);
  const errors = /Socket errors.*/.exec(text)?.[0] ?? "";
  return {
    rate: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]),
    p50: Number(value) * factor,
    errors,
  };
}

/** Milliseconds from connecting to the answer's first byte, each on a connection of its own. */
async function fresh(port: number): Promise<{ p50: number; p95: number }> {
  const times: number[] = [];
  for (let i = 0; i < newConnections; i += 1) {
    const started = performance.now();
    const socket = tls.connect({ port, host: "127.0.0.1", rejectUnauthorized: false });
    socket.write("GET /small HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    await once(socket, "data");
    times.push(performance.now() - started);
    socket.destroy();
  }
  times.sort((a, b) => a - b);
  return {
    p50: times[newConnections / 2] ?? 0,
    p95: times[Math.floor(newConnections * 0.95)] ?? 0,
  };
}

async function memory({ child }: Way): Promise<number> {
  if (!child?.stdin || !child.stdout) return Number.NaN;
  const lines = createInterface({ input: child.stdout });
  child.stdin.write("\n");
  const [line] = (await once(lines, "line")) as [string];
  lines.close();
  return Number(line) / 1024 / 1024;
}

await startNginx(upstream);
const ways: Way[] = [{ name: "direct", port: upstream }];
for (const mode of ["tunnel", "terminate", "credential"])
  ways.push(await startGate(mode, upstream));
const peer = await startMitmproxy(upstream);
if (peer) ways.push(peer);

/** What `work` returns, and the gate's milliseconds of processor time for it. */
function costing<T>({ child }: Way, work: () => T): { value: T; spent: number } {
  const before = child ? processorTime(child) : Number.NaN;
  const value = work();
  return { value, spent: (child ? processorTime(child) : Number.NaN) - before };
}

interface Result {
  readonly one: number[];
  readonly rate: number[];
  /** Microseconds of processor time for a request. */
  readonly each: number[];
  readonly bulk: number[];
  /** Seconds of processor time for a GiB. */
  readonly gib: number[];
  readonly bulk2: number[];
  readonly p50: number[];
  readonly p95: number[];
}

async function measure(way: Way, result: Result): Promise<void> {
  const { port } = way;
  result.one.push(load(port, 1).p50);
  const many = costing(way, () => load(port, 32).rate);
  result.rate.push(many.value);
  result.each.push((1000 * many.spent) / (many.value * seconds));
  const url = `https://127.0.0.1:${port}/bulk`;
  const large = costing(way, () => download(url, "1.1", ["-H", host]));
  result.bulk.push(large.value);
  result.gib.push((large.spent / bulkMiB) * 1.024);
  result.bulk2.push(download(url, "2", ["-H", host]));
  const { p50, p95 } = await fresh(port);
  result.p50.push(p50);
  result.p95.push(p95);
}

const results = ways.map((): Result => ({
  one: [],
  rate: [],
  each: [],
  bulk: [],
  gib: [],
  bulk2: [],
  p50: [],
  p95: [],
}));
console.log(`load average at the start: ${loadavg()[0]?.toFixed(1)}, ${cpus().length} processors`);
for (let round = 0; round < rounds; round += 1) {
  for (const [index, way] of ways.entries()) await measure(way, results[index] as Result);
}
const [base] = results as [Result];
console.log(`medians of ${rounds} interleaved rounds; nginx, wrk and curl share the machine\n`);
console.log(
  "| way | keep-alive p50 ms (over direct) | req/s, 32 connections (CPU each) | new TLS connection p50 / p95 ms | bulk MiB/s, HTTP/1.1 (to direct; CPU) | HTTP/2 (to direct) |",
);
console.log("|---|---|---|---|---|---|");
for (const [index, { name }] of ways.entries()) {
  const { one, rate, each, bulk, gib, bulk2, p50, p95 } = results[index] as Result;
  const over = median(one) - median(base.one);
  const speed = median(bulk);
  const speed2 = median(bulk2);
  const own = index > 0;
  const cells = [
    name,
    `${median(one).toFixed(3)} (+${over.toFixed(3)})`,
    median(rate).toFixed(0) + (own ? ` (${median(each).toFixed(0)} µs)` : ""),
    `${median(p50).toFixed(2)} / ${median(p95).toFixed(2)}`,
    `${speed.toFixed(0)} (${(speed / median(base.bulk)).toFixed(2)}x${own ? `; ${median(gib).toFixed(2)} s/GiB` : ""})`,
    `${speed2.toFixed(0)} (${(speed2 / median(base.bulk2)).toFixed(2)}x)`,
  ];
  console.log(`| ${cells.join(" | ")} |`);
}
const [, , terminate, credential] = results as [Result, Result, Result, Result];
const cost = 1 - median(credential.bulk) / median(terminate.bulk);
const more = median(credential.gib) / median(terminate.gib) - 1;
console.log(
  `\nscrubbing costs ${(100 * cost).toFixed(1)} % of terminated bulk throughput, ${(100 * more).toFixed(1)} % more CPU`,
);

const scrubbing = ways[3];
if (scrubbing) {
  const thousand = load(scrubbing.port, 1000);
  console.log(`1,000 connections: ${thousand.rate.toFixed(0)} req/s ${thousand.errors}`);
  const before = await memory(scrubbing);
  for (let requests = 0; requests < 100_000;) requests += load(scrubbing.port, 32).rate * seconds;
  const after = await memory(scrubbing);
  console.log(
    `resident memory: ${before.toFixed(0)} MiB, after 100,000 more requests ${after.toFixed(0)} MiB`,
  );
}
await endChildren();
