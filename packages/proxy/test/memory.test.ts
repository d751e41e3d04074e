import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { ProxyAgent, request } from "undici";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { closeUpstreams, httpsUpstream, upstreamAuthority } from "./support/upstream.ts";

// The gate keeps nothing of what passes. Short by default; `pnpm --filter @nono/proxy soak` sends a gibibyte each way
// and 100,000 requests.
const mebibytes = Number(process.env["NONO_SOAK_MIB"] ?? 128);
const requests = Number(process.env["NONO_SOAK_REQUESTS"] ?? 2_000);
/** Bytes by which the resident memory may grow: V8's heap breathes, and sockets have buffers. */
const breath = 96 * 1024 * 1024;
const timeout = 900_000;

const hasCurl = spawnSync("curl", ["--version"]).status === 0;
if (!hasCurl) console.log("SKIPPED: memory of the gate: curl is not installed");

describe.skipIf(!hasCurl)("resident memory", () => {
  let gate: ChildProcess;
  let env: NodeJS.ProcessEnv;
  let port: number;

  beforeAll(async () => {
    const piece = Buffer.alloc(256 * 1024, "payload ");
    ({ port } = await httpsUpstream((incoming, response) => {
      let received = 0;
      incoming.on("data", (chunk: Buffer) => {
        received += chunk.length;
      });
      incoming.once("end", () => {
        if (incoming.url === "/small") return void response.end("small");
        if (incoming.method !== "GET") return void response.end(String(received));
        let left = mebibytes * 4;
        const more = (): void => {
          for (; left > 0; left -= 1) {
            if (!response.write(piece)) {
              left -= 1;
              return void response.once("drain", more);
            }
          }
          response.end();
        };
        return more();
      });
    }));
    const script = path.join(import.meta.dirname, "support", "gate-child.ts");
    gate = spawn(process.execPath, [script, String(port)], {
      stdio: ["pipe", "pipe", "inherit"],
      env: { ...process.env, NONO_CA: upstreamAuthority.certificate },
    });
    const [line] = (await once(gate.stdout as NodeJS.ReadableStream, "data")) as [Buffer];
    env = { PATH: process.env["PATH"], ...(JSON.parse(String(line)) as NodeJS.ProcessEnv) };
  });

  afterAll(async () => {
    gate.stdin?.end();
    await once(gate, "exit");
    await closeUpstreams();
  });

  const resident = (): number => {
    const status = readFileSync(`/proc/${gate.pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) * 1024;
  };

  /** What curl printed, and the highest memory while it ran. */
  async function curl(...args: string[]): Promise<{ output: string; peak: number }> {
    let peak = resident();
    const timer = setInterval(() => {
      peak = Math.max(peak, resident());
    }, 20);
    const child = spawn("curl", ["-sS", "--no-progress-meter", ...args], { env });
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => {
      output += String(chunk);
    });
    await once(child, "close");
    clearInterval(timer);
    return { output, peak };
  }

  test.each([
    ["good.test", "--http1.1"],
    ["good.test", "--http2"],
    ["other.test", "--http1.1"],
  ])(
    "stays flat while a large body comes from %s (%s)",
    async (host, version) => {
      const url = `https://${host}:${port}/large`;
      const args = [version, "-k", "-o", "/dev/null", "-w", "%{size_download}"];
      await curl(...args, `https://${host}:${port}/small`);
      const before = resident();
      const { output, peak } = await curl(...args, url);
      expect(output).toBe(String(mebibytes * 1024 * 1024));
      expect(peak - before).toBeLessThan(breath);
    },
    timeout,
  );

  test.each([
    ["good.test", "--http1.1"],
    ["good.test", "--http2"],
  ])(
    "stays flat while a large body goes to %s (%s)",
    async (host, version) => {
      const before = resident();
      // In chunks, their number unknown: nothing could be put aside for them.
      const source = `head -c ${mebibytes * 1024 * 1024} /dev/zero`;
      const upload = `${source} | curl -sS --no-progress-meter ${version} -T - https://${host}:${port}/large`;
      let peak = before;
      const timer = setInterval(() => {
        peak = Math.max(peak, resident());
      }, 20);
      const child = spawn("sh", ["-c", upload], { env });
      let output = "";
      child.stdout.on("data", (chunk: Buffer) => {
        output += String(chunk);
      });
      await once(child, "close");
      clearInterval(timer);
      expect(output).toBe(String(mebibytes * 1024 * 1024));
      expect(peak - before).toBeLessThan(breath);
    },
    timeout,
  );

  test(
    "stays flat over many requests",
    async () => {
      const { username, password, host } = new URL(env["HTTPS_PROXY"] ?? "");
      const pair = Buffer.from(`${username}:${password}`).toString("base64");
      const client = new ProxyAgent({
        uri: `http://${host}`,
        token: `Basic ${pair}`,
        requestTls: { ca: readFileSync(env["SSL_CERT_FILE"] ?? "", "utf8") },
        connections: 8,
      });
      const all = async (count: number): Promise<void> => {
        let left = count;
        const worker = async (): Promise<void> => {
          for (; left > 0; left -= 1) {
            const url = `https://good.test:${port}/small`;
            const { statusCode, body } = await request(url, { dispatcher: client });
            expect([statusCode, await body.text()]).toEqual([200, "small"]);
          }
        };
        await Promise.all(Array.from({ length: 8 }, worker));
      };
      await all(requests / 2);
      const before = resident();
      await all(requests);
      console.log(
        `resident memory over ${requests} requests: ${before >> 20} -> ${resident() >> 20} MiB`,
      );
      expect(resident() - before).toBeLessThan(breath);
      await client.close();
    },
    timeout,
  );

  test(
    "a slow client holds the server up, not the gate's memory",
    async () => {
      const before = resident();
      const args = ["--http1.1", "--limit-rate", "4M", "-m", "3", "-o", "/dev/null"];
      const { peak } = await curl(...args, `https://good.test:${port}/large`);
      expect(peak - before).toBeLessThan(breath);
    },
    timeout,
  );
});
