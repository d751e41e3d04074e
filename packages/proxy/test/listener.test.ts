import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import path from "node:path";
import process from "node:process";
import { afterAll, beforeAll, expect, test } from "vitest";
import { dnsQuery } from "./support/dns.ts";
import { closeUpstreams, listening } from "./support/upstream.ts";

// A stand-in for the supervisor of a sandbox without a network namespace: it connects for the programs, to listeners
// on the machine's own loopback, and knows each connection by its connecting end.

let gate: ChildProcess;
let upstreamPort: number;
const ports: { connections: number; dns: number } = { connections: 0, dns: 0 };

async function free(): Promise<number> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  server.close();
  return port;
}

const tell = async (message: unknown): Promise<unknown> => {
  const answered = once(gate, "message");
  gate.send(message as object);
  return (await answered)[0];
};

/** connect(2) on a program's behalf: bound first, noted, then connected. */
async function connectFor(
  purpose: keyof typeof ports,
  meant: { address: string; port: number } | undefined,
): Promise<net.Socket> {
  for (;;) {
    const localPort = await free();
    if (meant) await tell({ key: `127.0.0.1 ${localPort}`, ...meant });
    const socket = net.connect({ host: "127.0.0.1", port: ports[purpose], localPort });
    const outcome = await new Promise<string | undefined>((resolve) => {
      socket.once("connect", () => resolve(undefined));
      socket.on("error", ({ code }: NodeJS.ErrnoException) => resolve(code));
    });
    // Somebody else on this machine was given the port in between.
    if (outcome !== "EADDRINUSE") return socket;
  }
}

async function allOf(socket: net.Socket): Promise<string> {
  let text = "";
  socket.on("data", (chunk: Buffer) => {
    text += chunk.toString("latin1");
  });
  // Not once(): it rejects on the "error" that a reset is.
  if (socket.closed) return text;
  await new Promise((resolve) => {
    socket.once("close", resolve);
  });
  return text;
}

function query(name: string): Buffer {
  const message = dnsQuery(name);
  return Buffer.concat([Buffer.from([0, message.length]), message]);
}

async function resolveFor(name: string): Promise<string> {
  const socket = await connectFor("dns", { address: "9.9.9.9", port: 53 });
  socket.write(query(name));
  const [answer] = (await once(socket, "data")) as [Buffer];
  socket.destroy();
  return (answer[5] ?? 0) & 15 ? "refused" : [...answer.subarray(-4)].join(".");
}

beforeAll(async () => {
  const server = net.createServer((peer) => {
    peer.once("data", (chunk) => peer.end(`upstream got ${String(chunk)}`));
    peer.on("error", () => undefined);
  });
  upstreamPort = await listening(server);
  const listeners = [net.createServer(), net.createServer()];
  for (const each of listeners) await once(each.listen(0, "127.0.0.1"), "listening");
  const [connections = 0, dns = 0] = listeners.map(
    (each) => (each.address() as net.AddressInfo).port,
  );
  Object.assign(ports, { connections, dns });
  // Node passes a server on only by its number.
  const fds = listeners.map((each) => (each as unknown as { _handle: { fd: number } })._handle.fd);
  const script = path.join(import.meta.dirname, "support", "flat-gate.ts");
  gate = spawn(process.execPath, [script, String(upstreamPort)], {
    stdio: ["ignore", "inherit", "inherit", ...fds, "ipc"],
  });
  await once(gate, "message");
  for (const each of listeners) each.close();
});

afterAll(async () => {
  gate.disconnect();
  await once(gate, "exit");
  await closeUpstreams();
});

test("DNS over TCP and a connection by the answer reach the server, without namespaces", async () => {
  const address = await resolveFor("good.test");
  expect(address).toMatch(/^198\.18\./);
  const socket = await connectFor("connections", { address, port: upstreamPort });
  socket.write("hello");
  expect(await allOf(socket)).toBe("upstream got hello");
});

test("a name or a port that is not allowed is refused as in any other sandbox", async () => {
  expect(await resolveFor("evil.test")).toBe("refused");
  const address = await resolveFor("good.test");
  for (const meant of [
    { address, port: 22 },
    { address: "1.1.1.1", port: upstreamPort },
    { address: "198.18.77.77", port: upstreamPort },
    { address: "not an address", port: upstreamPort },
    { address: "throw", port: upstreamPort },
  ]) {
    const socket = await connectFor("connections", meant);
    socket.write("hello");
    expect(await allOf(socket), meant.address).toBe("");
  }
});

test("a process outside the sandbox that finds the gate's ports is reset, at the DNS port too", async () => {
  for (const purpose of ["connections", "dns"] as const) {
    const socket = await connectFor(purpose, undefined);
    socket.write(query("good.test"));
    expect(await allOf(socket)).toBe("");
  }
});

test("the listener is asked exactly once for each connection", async () => {
  const { asked, violations } = (await tell("report")) as {
    asked: string[];
    violations: { code: string; message: string }[];
  };
  expect(new Set(asked).size).toBe(asked.length);
  const unknown = violations.filter(({ message }) => message.includes("destination is unknown"));
  expect(unknown.map(({ code }) => code)).toEqual(Array(4).fill("ERR_NONO_HOST_DENIED"));
});
