import net from "node:net";
import { setTimeout } from "node:timers/promises";
import { once } from "node:events";
import { expect, test } from "vitest";
import { type GateListener, createSandbox } from "../src/index.ts";
import { tiers } from "./workspace.ts";

/** Tells each connection where it was meant to go; returns what closes it. */
async function serve(listeners: GateListener[]): Promise<() => void> {
  const servers = listeners
    .filter(({ protocol, purpose }) => protocol === "tcp" && purpose === "connections")
    .map((listener) => {
      const server = net.createServer((socket) => {
        const { localAddress = "", localPort = 0, remoteAddress = "", remotePort = 0 } = socket;
        const ends = { localAddress, localPort, remoteAddress, remotePort };
        const meant = listener.destination(ends);
        if (meant === undefined) return socket.resetAndDestroy();
        return socket.end(`${meant.address} ${meant.port}`);
      });
      return server.listen({ fd: listener.fd });
    });
  await Promise.all(servers.map((server) => once(server, "listening")));
  return () => servers.forEach((server) => server.close());
}

test.each(tiers)("a gate learns where a connection was meant to go: %s", async (tier) => {
  await using sandbox = await createSandbox(
    { network: "gate", gatePorts: [443], exec: ["/usr/bin/python3"] },
    { tier },
  );
  const listeners = sandbox.takeListeners();
  const close = await serve(listeners);
  try {
    const script =
      "import socket; s = socket.create_connection(('203.0.113.9', 443)); print(s.recv(99).decode(), end='')";
    const { stdout, stderr } = await sandbox.run(["/usr/bin/python3", "-c", script]);
    expect(stderr + stdout).toBe("203.0.113.9 443");
    if (tier === "flat") {
      const { port = 0 } = listeners.find(({ purpose }) => purpose === "connections") ?? {};
      const stranger = net.connect(port, "127.0.0.1");
      const [error] = (await once(stranger, "error")) as [NodeJS.ErrnoException];
      expect(error.code).toBe("ECONNRESET");
    }
  } finally {
    close();
  }
});

test.each(tiers)("localhost and published ports cross the loopback: %s", async (tier) => {
  const service = net.createServer((socket) => socket.end("the host's"));
  await once(service.listen(0, "127.0.0.1"), "listening");
  const { port } = service.address() as net.AddressInfo;
  await using sandbox = await createSandbox(
    { localhostPorts: [port], publish: [18_080], exec: ["/usr/bin/python3"] },
    { tier },
  );
  try {
    const script = `
import socket
print(socket.create_connection(('localhost', ${port})).recv(99).decode(), flush=True)
peer, _ = socket.create_server(('127.0.0.1', 18080)).accept(); peer.sendall(b"the sandbox's")`;
    const child = sandbox.spawn(["/usr/bin/python3", "-c", script]);
    const [greeting] = (await once(child.stdout!, "data")) as [Buffer];
    expect(String(greeting)).toBe("the host's\n");
    const client = await connectWhenItListens(sandbox.published.get(18_080) ?? 0);
    expect(client).toBe("the sandbox's");
    expect((await child.exited).exitCode).toBe(0);
  } finally {
    service.close();
  }
});

/** What a server says; it may not listen yet, which resets the connection. */
async function connectWhenItListens(port: number): Promise<string> {
  for (let attempt = 0; attempt < 200; attempt++) {
    try {
      const chunks = await net.connect(port, "127.0.0.1").toArray();
      return String(Buffer.concat(chunks));
    } catch {
      await setTimeout(25);
    }
  }
  throw new Error("nobody listens");
}
