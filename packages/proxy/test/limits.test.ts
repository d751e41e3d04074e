import { once } from "node:events";
import type http from "node:http";
import net from "node:net";
import { afterAll, expect, test } from "vitest";
import { ask, connectThrough, h2Session } from "./support/client.ts";
import { closeAll, openGate, say, token } from "./support/gate.ts";
import { bodyOf, httpUpstream, httpsUpstream } from "./support/upstream.ts";

// What a gate bounds, and what it serves at once.

afterAll(closeAll);

const request = (line: string, ...headers: string[]): string =>
  `${[`${line} HTTP/1.1`, "Host: good.test", ...headers].join("\r\n")}\r\n\r\n`;

test("limits have clear errors: headers both ways, time, connections", async () => {
  const { port } = await httpsUpstream((incoming, response) => {
    if (incoming.url === "/large") response.setHeader("x-large", "x".repeat(40_000));
    if (incoming.url !== "/never") response.end();
  });
  const limits = { headerBytes: 16_384, responseTimeout: 1_000, connections: 4 };
  const gate = await openGate(port, { credentials: [token(port)], limits });
  const large = await say(gate, port, request("GET /", `X-Large: ${"x".repeat(40_000)}`));
  expect(large).toMatch(/^HTTP\/1\.1 503 /);
  expect(large).toContain("ERR_NONO_LIMIT");
  const response = await ask(gate, `https://good.test:${port}/large`);
  expect(JSON.parse(response.body)).toMatchObject({ error: "ERR_NONO_LIMIT" });
  const never = await ask(gate, `https://good.test:${port}/never`);
  expect([never.status, JSON.parse(never.body)]).toMatchObject([
    504,
    { error: "ERR_NONO_UPSTREAM_TIMEOUT" },
  ]);
  const held = await Promise.all(
    Array.from({ length: 4 }, () => connectThrough(gate, `good.test:${port}`)),
  );
  await expect(connectThrough(gate, `good.test:${port}`)).rejects.toThrow();
  expect(gate.violations.at(-1)).toMatchObject({ code: "ERR_NONO_LIMIT" });
  for (const socket of held) socket.destroy();
  await expect
    .poll(async () => connectThrough(gate, `good.test:${port}`).then(() => "open", String))
    .toBe("open");
});

test("a client's connection without a request is closed, on both protocols; one that waits for its answer is not", async () => {
  const { port } = await httpsUpstream((_incoming, response) => {
    setTimeout(() => response.end("late"), 1_500);
  });
  const gate = await openGate(port, { credentials: [token(port)], limits: { clientTimeout: 500 } });
  const slow = await say(gate, port, "GET / HTTP/1.1\r\nHost: good.test\r\nX-A:");
  expect(slow).toMatch(/^HTTP\/1\.1 503 .*took longer than the limit/s);
  const silent = await h2Session(gate, port);
  await once(silent, "close");
  const session = await h2Session(gate, port);
  expect(await bodyOf(session.request({ ":path": "/" }))).toBe("late");
  await once(session, "close");
  // Kept open by the client, closed by the gate after the answer.
  expect(await say(gate, port, request("GET /"))).toMatch(/late$/m);
});

test("requests without end in one connection are not all begun, through either door", async () => {
  let begun = 0;
  const { port } = await httpsUpstream(() => (begun += 1));
  const gate = await openGate(port, { credentials: [token(port)] });
  await say(gate, port, request("GET /").repeat(400));
  expect(begun).toBeLessThanOrEqual(32);
  expect(gate.violations.map(({ code }) => code)).toEqual(["ERR_NONO_LIMIT"]);

  const plain = await httpUpstream(() => (begun += 1));
  const open = await openGate(plain);
  const { port: proxyPort, password } = new URL(open.env()["HTTP_PROXY"] ?? "");
  const socket = net.connect(Number(proxyPort), "127.0.0.1");
  socket.on("error", () => undefined);
  begun = 0;
  const head = `GET http://good.test:${plain}/ HTTP/1.1\r\nHost: good.test:${plain}\r\nProxy-Authorization: Bearer ${password}\r\n\r\n`;
  socket.write(head.repeat(400));
  await once(socket, "close");
  expect(begun).toBeLessThanOrEqual(32);
  // In order, and as many as there are, where they are answered.
  const quick = await httpsUpstream((incoming, response) => response.end(`<${incoming.url}>`));
  const third = await openGate(quick.port, { credentials: [token(quick.port)] });
  const lines = Array.from({ length: 20 }, (_, i) => request(`GET /${i}`)).join("");
  const answers = await say(third, quick.port, lines + request("GET /", "Connection: close"));
  expect(answers.match(/<[^>]*>/g)).toHaveLength(21);
});

test("one connection of HTTP/2 does not open connections to servers without end", async () => {
  const waiting: http.ServerResponse[] = [];
  const { port } = await httpsUpstream((_incoming, response) => waiting.push(response));
  const gate = await openGate(port, { credentials: [token(port)], limits: { connections: 2 } });
  const session = await h2Session(gate, port);
  const statuses: unknown[] = [];
  for (let i = 0; i < 12; i += 1) {
    const stream = session.request({ ":path": `/${i}` });
    stream.on("error", () => undefined).resume();
    stream.once("response", (headers) => statuses.push(headers[":status"]));
    // The server is met, and found to speak HTTP/1.1 only, by the first.
    if (i === 0) await expect.poll(() => waiting.length).toBe(1);
  }
  await expect.poll(() => statuses).toEqual(Array.from({ length: 8 }, () => 503));
  await expect.poll(() => waiting.length).toBe(4);
  for (const response of waiting) response.end();
  await expect.poll(() => statuses.slice(8)).toEqual([200, 200, 200, 200]);
  const later = session.request({ ":path": "/" });
  await expect.poll(() => waiting.length).toBe(5);
  waiting[4]?.end("later");
  expect(await bodyOf(later)).toBe("later");
  session.destroy();
});

test("a thousand connections at once are served", async () => {
  const port = await httpUpstream((_incoming, response) => response.end("ok"));
  const gate = await openGate(port);
  const proxy = new URL(gate.env()["HTTP_PROXY"] ?? "");
  const pair = Buffer.from(`nono:${proxy.password}`).toString("base64");
  const sockets = await Promise.all(
    Array.from({ length: 1_000 }, async () => {
      const socket = net.connect(Number(proxy.port), "127.0.0.1");
      await once(socket, "connect");
      return socket;
    }),
  );
  const head = `GET http://good.test:${port}/ HTTP/1.1\r\nHost: good.test:${port}\r\nProxy-Authorization: Basic ${pair}\r\n\r\n`;
  const answers = await Promise.all(
    sockets.map(async (socket) => {
      socket.write(head);
      const [answer] = (await once(socket, "data")) as [Buffer];
      return String(answer).slice(0, 12);
    }),
  );
  expect(new Set(answers)).toEqual(new Set(["HTTP/1.1 200"]));
  for (const socket of sockets) socket.destroy();
}, 30_000);
