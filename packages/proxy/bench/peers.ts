// The gate as an explicit proxy beside others, by the same client in the same run: CONNECT, then TLS inside. Needs nginx
// and curl. MITMDUMP names mitmproxy's mitmdump (PyPI: mitmproxy), SRT the directory of an installed
// @anthropic-ai/sandbox-runtime (npm).
import { once } from "node:events";
import { readFileSync } from "node:fs";
import net from "node:net";
import path from "node:path";
import process from "node:process";
import tls from "node:tls";
import { endChildren, need, start } from "./children.ts";
import { at, directory, download, freePort, listens, median, startNginx } from "./upstream.ts";

need("nginx", "curl", "openssl", "setpriv");

const rounds = Number(process.env["NONO_BENCH_ROUNDS"] ?? 3);
const keepAlive = 400;
const fresh = 60;
const upstream = await freePort();
const authority = `127.0.0.1:${upstream}`;

interface Way {
  readonly name: string;
  /** The proxy's port; undefined: direct. */
  readonly port?: number;
  readonly authorization?: string;
}

async function startGate(mode: string): Promise<Way> {
  const script = path.join(import.meta.dirname, "gate-process.ts");
  const { stdout } = start(process.execPath, [script, mode, String(upstream), "listen"], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, NONO_BENCH_CA: readFileSync(at("cert.pem"), "utf8") },
  });
  if (!stdout) throw new Error("a gate without output");
  const [line] = (await once(stdout, "data")) as [Buffer];
  const { username, password, port } = new URL(String(line).trim());
  return {
    name: `gate: ${mode}`,
    port: Number(port),
    authorization: basic(username, password),
  };
}

const basic = (user: string, password: string): string =>
  `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`;

async function startMitmproxy(): Promise<Way | undefined> {
  const command = process.env["MITMDUMP"];
  if (command === undefined) return skipped("mitmproxy: MITMDUMP is not set");
  const port = await freePort();
  const args = ["-q", "--listen-host", "127.0.0.1", "-p", String(port), "--ssl-insecure"];
  const more = ["--set", `confdir=${directory}`, "--set", "stream_large_bodies=1m"];
  start(command, [...args, ...more], { stdio: "ignore" });
  await listens(port);
  return { name: "mitmproxy", port };
}

async function startSrt(terminate: boolean): Promise<Way | undefined> {
  const root = process.env["SRT"];
  if (root === undefined) return skipped("srt: SRT is not set");
  const port = await freePort();
  const program = `
    import { createHttpProxyServer } from ${JSON.stringify(path.join(root, "dist/sandbox/http-proxy.js"))};
    import { createMitmCA } from ${JSON.stringify(path.join(root, "dist/sandbox/mitm-ca.js"))};
    import { readFileSync } from "node:fs";
    const mitm = ${terminate} ? { mitmCA: createMitmCA({}), tlsTerminateUpstreamCA: readFileSync(${JSON.stringify(at("cert.pem"))}) } : {};
    createHttpProxyServer({ filter: () => true, ...mitm }).listen(${port}, "127.0.0.1");`;
  start(process.execPath, ["--input-type=module", "-e", program], { stdio: "ignore" });
  await listens(port);
  return { name: terminate ? "srt: tlsTerminate" : "srt: opaque tunnel", port };
}

function skipped(what: string): undefined {
  console.log(`SKIPPED: ${what}`);
  return undefined;
}

/** A TLS connection by this way. */
async function connect(way: Way): Promise<tls.TLSSocket> {
  const socket = net.connect({ port: way.port ?? upstream, host: "127.0.0.1", noDelay: true });
  if (way.port !== undefined) {
    const proof = way.authorization ? `Proxy-Authorization: ${way.authorization}\r\n` : "";
    socket.write(`CONNECT ${authority} HTTP/1.1\r\nHost: ${authority}\r\n${proof}\r\n`);
    const [answer] = (await once(socket, "data")) as [Buffer];
    if (!String(answer).startsWith("HTTP/1.1 200"))
      throw new Error(`${way.name}: ${String(answer)}`);
  }
  return tls.connect({ socket, rejectUnauthorized: false });
}

async function get(secure: tls.TLSSocket): Promise<void> {
  secure.write(`GET /small HTTP/1.1\r\nHost: ${authority}\r\n\r\n`);
  let answer = "";
  while (!/\r\n\r\nx{100}$/.test(answer)) {
    answer += String(((await once(secure, "data")) as [Buffer])[0]);
    if (!answer.startsWith("HTTP/1.1 200")) throw new Error(answer);
  }
}

async function timed(work: () => Promise<void>): Promise<number> {
  const started = performance.now();
  await work();
  return performance.now() - started;
}

function bulk({ port, authorization }: Way): number {
  const proxy = port === undefined ? [] : ["-x", `http://127.0.0.1:${port}`];
  const proof = authorization ? ["--proxy-header", `Proxy-Authorization: ${authorization}`] : [];
  // HTTP/1.1 for all: srt's proxy speaks nothing else.
  return download(`https://${authority}/bulk`, "1.1", [...proxy, ...proof]);
}

const at95 = (values: number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length * 0.95)] ?? Number.NaN;

await startNginx(upstream);
const ways: Way[] = [{ name: "direct" }];
for (const mode of ["tunnel", "terminate", "credential"]) ways.push(await startGate(mode));
for (const start of [() => startSrt(false), () => startSrt(true), startMitmproxy]) {
  const way = await start();
  if (way) ways.push(way);
}
const results = ways.map(() => ({
  kept: [] as number[],
  fresh: [] as number[],
  bulk: [] as number[],
}));
for (let round = 0; round < rounds; round += 1) {
  for (const [index, way] of ways.entries()) {
    const result = results[index];
    if (!result) continue;
    const secure = await connect(way);
    for (let i = 0; i < 20; i += 1) await get(secure);
    for (let i = 0; i < keepAlive; i += 1) result.kept.push(await timed(() => get(secure)));
    secure.destroy();
    for (let i = 0; i < fresh; i += 1) {
      const work = async (): Promise<void> => {
        const once1 = await connect(way);
        await get(once1);
        once1.destroy();
      };
      result.fresh.push(await timed(work));
    }
    result.bulk.push(bulk(way));
  }
}
const [direct] = results;
console.log(
  `medians of ${rounds} interleaved rounds, one client for all; nginx and the client share the machine\n`,
);
console.log(
  "| way | keep-alive p50 / p95 ms | new connection p50 / p95 ms | bulk MiB/s (to direct) |",
);
console.log("|---|---|---|---|");
for (const [index, { name }] of ways.entries()) {
  const result = results[index];
  if (!result || !direct) continue;
  const [kept, once1] = [result.kept, result.fresh].map(
    (all) => `${median(all).toFixed(2)} / ${at95(all).toFixed(2)}`,
  );
  const speed = median(result.bulk);
  const ratio = (speed / median(direct.bulk)).toFixed(2);
  console.log(`| ${name} | ${kept} | ${once1} | ${speed.toFixed(0)} (${ratio}x) |`);
}
await endChildren();
