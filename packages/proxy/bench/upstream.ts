// The server that all benches talk to, and what they share.
import { type ChildProcess, execFileSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { find, start } from "./children.ts";

/** Size of `/bulk`. */
export const bulkMiB = 256;
export const directory: string = mkdtempSync(path.join(tmpdir(), "nono-bench-"));
export const at = (name: string): string => path.join(directory, name);
process.once("exit", () => rmSync(directory, { recursive: true, force: true }));

export const median = (values: number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;

export async function freePort(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  server.close();
  return port;
}

/** Milliseconds of processor time, all threads, that a process has had. */
export function processorTime({ pid }: ChildProcess): number {
  const fields = readFileSync(`/proc/${pid}/stat`, "utf8")
    .replace(/^.*\) /s, "")
    .split(" ");
  return (Number(fields[11]) + Number(fields[12])) * 10; // USER_HZ is 100
}

/** MiB per second of one download by curl; both ends must speak the protocol that is asked for. */
export function download(url: string, version: "1.1" | "2", more: readonly string[] = []): number {
  const wanted = ["-fsk", `--http${version}`, "-o", "/dev/null"];
  const report = ["-w", "%{http_version} %{speed_download}"];
  const text = execFileSync("curl", [...wanted, ...report, ...more, url], { encoding: "utf8" });
  const [spoken, speed] = text.split(" ");
  if (spoken !== version) throw new Error(`${url} speaks HTTP/${spoken}, not ${version}`);
  return Number(speed) / 1024 ** 2;
}

/** nginx over TLS with `/small` (100 bytes) and `/bulk`; its certificate is `cert.pem`. */
export async function startNginx(port: number): Promise<void> {
  const certificate =
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=bench";
  const names = [
    "-addext",
    "subjectAltName=IP:127.0.0.1",
    "-keyout",
    at("key.pem"),
    "-out",
    at("cert.pem"),
  ];
  execFileSync("openssl", [...certificate.split(" "), ...names], { stdio: "ignore" });
  writeFileSync(at("small"), "x".repeat(100));
  execFileSync("truncate", ["-s", `${bulkMiB}M`, at("bulk")]);
  writeFileSync(
    at("nginx.conf"),
    `daemon off; worker_processes 1; pid ${at("pid")}; error_log /dev/null;
events { worker_connections 4096; }
http { access_log off; keepalive_requests 10000000; client_body_temp_path ${at("b")};
  proxy_temp_path ${at("p")}; fastcgi_temp_path ${at("f")}; uwsgi_temp_path ${at("u")}; scgi_temp_path ${at("s")};
  server { listen 127.0.0.1:${port} ssl http2 backlog=2048; root ${directory};
    ssl_certificate ${at("cert.pem")}; ssl_certificate_key ${at("key.pem")}; } }
${process.getuid?.() === 0 ? "user root;" : ""}
`,
  );
  start(find("nginx") ?? "nginx", ["-c", at("nginx.conf")], { stdio: "ignore" });
  await listens(port);
}

/** Resolves once something listens at the port; rejects after ten seconds. */
export async function listens(port: number): Promise<void> {
  for (let tries = 0; tries < 100; tries += 1) {
    if (await answers(port)) return;
    await new Promise((resolve) => {
      setTimeout(resolve, 100);
    });
  }
  throw new Error(`nothing listens at port ${port}`);
}

async function answers(port: number): Promise<boolean> {
  const socket = net.connect(port, "127.0.0.1");
  const result = await Promise.race([
    once(socket, "connect").then(() => true),
    once(socket, "error").then(() => false),
  ]).catch(() => false);
  socket.destroy();
  return result;
}
