import net from "node:net";
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
