import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import net from "node:net";
import process from "node:process";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { connectThrough } from "./support/client.ts";
import { closeAll, openGate, secureThrough, token } from "./support/gate.ts";
import { bodyOf, httpsUpstream, listening } from "./support/upstream.ts";

// Opaque tunnels: what passes is what was sent, and what they hold while they are open is little.

afterAll(closeAll);

test("a tunnel through which little has come takes little memory", async () => {
  const port = await listening(net.createServer((peer) => peer.write("hello")));
  const gate = await openGate(port);
  const before = process.memoryUsage().arrayBuffers;
  const sockets = await Promise.all(
    Array.from({ length: 200 }, async () => {
      const socket = await connectThrough(gate, `good.test:${port}`);
      await once(socket.resume(), "data");
      return socket;
    }),
  );
  // Both ends of each are here, with a read's memory or two of their own.
  expect((process.memoryUsage().arrayBuffers - before) / 200).toBeLessThan(100_000);
  for (const socket of sockets) socket.destroy();
});

async function digestOf(bytes: AsyncIterable<Buffer>, rest: () => Promise<void>): Promise<string> {
  const hash = createHash("sha256");
  for await (const chunk of bytes) {
    hash.update(chunk);
    await rest();
  }
  return hash.digest("hex");
}

test("bytes pass unchanged both ways, at whatever pace each side reads, and each direction ends on its own", async () => {
  const sent = randomBytes(6 * 1024 * 1024);
  const expected = createHash("sha256").update(sent).digest("hex");
  let chunks = 0;
  const slowly = async (): Promise<void> => {
    if (chunks++ % 7 === 0) await delay(3);
  };
  const port = await listening(
    net.createServer({ allowHalfOpen: true }, (peer) => {
      void digestOf(peer, slowly).then((digest) => {
        peer.write(`${digest}\n`);
        return peer.end(sent);
      });
    }),
  );
  const gate = await openGate(port);
  const socket = await connectThrough(gate, `good.test:${port}`);
  socket.allowHalfOpen = true;
  socket.end(sent);
  const answer: Buffer[] = [];
  for await (const chunk of socket) {
    answer.push(chunk as Buffer);
    await slowly();
  }
  const all = Buffer.concat(answer);
  expect(all.toString("latin1", 0, 64)).toBe(expected);
  expect(createHash("sha256").update(all.subarray(65)).digest("hex")).toBe(expected);
});

test("a tunnel and a WebSocket that are silent both ways are closed, and not while either side speaks", async () => {
  let ended = 0;
  const raw = await listening(
    net.createServer((peer) => {
      peer.on("error", () => undefined);
      peer.once("close", () => (ended += 1));
      peer.once("data", (chunk: Buffer) => {
        if (String(chunk) !== "talk") return;
        let words = 8;
        const timer = setInterval(() => {
          peer.write("word");
          if (--words === 0) clearInterval(timer);
        }, 100);
      });
    }),
  );
  const limits = { tunnelTimeout: 400 };
  const gate = await openGate(raw, { limits });
  const spoken = async (line: string): Promise<[string, number]> => {
    const started = performance.now();
    const socket = await connectThrough(gate, `good.test:${raw}`);
    socket.write(line);
    return [await bodyOf(socket).catch(() => "reset"), performance.now() - started];
  };
  const [[silence], [words, lasted]] = await Promise.all([spoken("listen"), spoken("talk")]);
  expect(silence).toBe("");
  expect(words).toBe("word".repeat(8));
  expect(lasted).toBeGreaterThan(1_100);
  await expect.poll(() => ended).toBe(2);

  const { port, server } = await httpsUpstream((_request, response) => response.end());
  const peers = new WebSocketServer({ server });
  const terminating = await openGate(port, { credentials: [token(port)], limits });
  const secure = await secureThrough(terminating, port);
  const client = new WebSocket(`wss://good.test:${port}/`, { createConnection: () => secure });
  await once(client, "open");
  client.on("error", () => undefined);
  await once(client, "close");
  await expect.poll(() => peers.clients.size).toBe(0);
});
