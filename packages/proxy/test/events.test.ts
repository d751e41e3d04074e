import { once } from "node:events";
import net from "node:net";
import { afterAll, expect, test } from "vitest";
import type { GateEvent } from "../src/index.ts";
import { ask, connectThrough } from "./support/client.ts";
import { closeAll, openGate, token } from "./support/gate.ts";
import { httpsUpstream, listening } from "./support/upstream.ts";

// What goes on record, and what is left when a gate is closed.

afterAll(closeAll);

test("every query, connection and request is an event, from intent to result", async () => {
  const { port } = await httpsUpstream((_incoming, response) => response.end("hello"));
  const recorded: GateEvent[] = [];
  const sink = {
    record: async (event: GateEvent) => {
      recorded.push(event);
      return { seq: recorded.length };
    },
  };
  const gate = await openGate(port, {
    sink,
    credentials: [token(port)],
    rules: [{ host: `good.test:${port}`, allow: ["GET /a/**"] }],
  });
  await ask(gate, `https://good.test:${port}/a/b?secret=1`);
  await ask(gate, `https://good.test:${port}/c`);
  await connectThrough(gate, "evil.test:443").catch(() => undefined);
  await gate.close();
  const host = "good.test";
  const find = (type: string, phase: string): GateEvent | undefined =>
    recorded.find((event) => event.type === type && event.phase === phase);
  const seqOf = (event: GateEvent | undefined): number =>
    event ? recorded.indexOf(event) + 1 : -1;
  expect(find("http.request", "intent")).toMatchObject({
    decision: "allow",
    rule: { id: "GET /a/**" },
    object: { method: "GET", scheme: "https", host, port, path: "/a/b?…" },
  });
  expect(find("credential.inject", "intent")).toMatchObject({
    object: { name: "API_TOKEN", host, scheme: "bearer" },
  });
  expect(find("net.connect", "intent")).toMatchObject({
    object: { host, address: "127.0.0.1", port, transport: "tcp", sni: host },
  });
  expect(find("http.response", "result")).toMatchObject({
    ref: seqOf(find("http.request", "intent")),
    outcome: { status: 200, bytes: 5, durationUs: expect.any(Number) as number },
  });
  expect(find("net.connect", "result")).toMatchObject({
    ref: seqOf(find("net.connect", "intent")),
    outcome: { bytes: expect.any(Number) as number, durationUs: expect.any(Number) as number },
  });
  const denied = recorded.filter(({ decision }) => decision === "deny");
  expect(
    denied.map(({ type, object }) => [type, "reason" in object && object.reason !== undefined]),
  ).toEqual([
    ["http.request", true],
    ["net.connect", true],
  ]);
  expect(JSON.stringify(recorded)).not.toContain("secret=1");
});

test("what fails is an error on record; only what the policy refuses is a violation", async () => {
  const events: GateEvent[] = [];
  const gate = await openGate(9, {
    credentials: [token(9)],
    onEvent: (event) => events.push(event),
  });
  const answer = await ask(gate, "https://good.test:9/");
  expect(answer.status).toBe(502);
  expect(gate.violations).toEqual([]);
  expect(events.at(-1)).toMatchObject({
    type: "http.request",
    decision: "error",
    object: { reason: expect.stringContaining("ECONNREFUSED") as string },
  });
});

test("a gate that is closed leaves nothing open and serves nothing", async () => {
  const port = await listening(net.createServer((peer) => void peer.on("error", () => undefined)));
  const gate = await openGate(port);
  const { port: proxyPort } = new URL(gate.env()["HTTPS_PROXY"] ?? "");
  const socket = await connectThrough(gate, `good.test:${port}`);
  const closed = once(socket, "close");
  await gate.close();
  await gate.close();
  await closed;
  const late = net.connect(Number(proxyPort), "127.0.0.1");
  await expect(once(late, "connect")).rejects.toThrow(/ECONNREFUSED/);
});
