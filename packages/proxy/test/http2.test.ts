import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import tls from "node:tls";
import { afterAll, expect, test } from "vitest";
import type { Gate } from "../src/index.ts";
import { connectThrough, h2Session } from "./support/client.ts";
import { closeAll, openGate, real, token } from "./support/gate.ts";
import { parseHost } from "../src/net/host.ts";
import {
  bodyOf,
  http2Upstream,
  httpsUpstream,
  listening,
  upstreamAuthority,
} from "./support/upstream.ts";

// HTTP/2 to the server: what RFC 9113 has and HTTP/1.1 has not, and what becomes of it where the server is older.

afterAll(closeAll);

const phantomOf = (gate: Gate): string => gate.env()["API_TOKEN"] ?? "";

interface Seen {
  readonly headers: http2.IncomingHttpHeaders;
  readonly body: string;
  readonly trailers: Record<string, string>;
}

/** Without the symbol that Node adds. */
const plain = (fields: object): Record<string, string> =>
  Object.fromEntries(Object.entries(fields)) as Record<string, string>;

/** A server that keeps whole requests, and answers each with "taken". */
async function recordingServer(): Promise<{ port: number; seen: Seen[] }> {
  const seen: Seen[] = [];
  const port = await http2Upstream((stream, headers) => {
    let trailers: http2.IncomingHttpHeaders = {};
    stream.on("error", () => undefined);
    stream.once("trailers", (fields) => {
      trailers = fields;
    });
    let body = "";
    stream.on("data", (chunk: Buffer) => {
      body += String(chunk);
    });
    stream.once("end", () => {
      if (stream.aborted) return;
      seen.push({ headers, body, trailers: plain(trailers) });
      stream.respond({ ":status": 200 });
      stream.end("taken");
    });
  });
  return { port, seen };
}

/** The answer's status and body; status 0: the stream was broken off. */
async function post(
  gate: Gate,
  port: number,
  trailers: http2.OutgoingHttpHeaders,
  more: http2.OutgoingHttpHeaders = {},
  host = "good.test",
  body = "body",
): Promise<[number, string]> {
  const session = await h2Session(gate, port, host);
  const stream = session.request({ ":method": "POST", ...more }, { waitForTrailers: true });
  stream.once("wantTrailers", () => stream.sendTrailers(trailers));
  stream.end(body);
  let status = 0;
  stream.once("response", (headers) => {
    status = headers[":status"] ?? 0;
  });
  const text = await bodyOf(stream).catch(() => "");
  session.destroy();
  return [status, text];
}

test.each([{}, { trailer: "x-sum" }, { "content-length": "4" }])(
  "trailers of a request arrive with %o, phantoms swapped, without what would frame or route it anew",
  async (more) => {
    const { port, seen } = await recordingServer();
    const gate = await openGate(port, { credentials: [token(port)] });
    const trailers = {
      "x-sum": `1 ${phantomOf(gate)}`,
      host: "x",
      authorization: "x",
      cookie: "x",
    };
    expect(await post(gate, port, trailers, more)).toEqual([200, "taken"]);
    expect(seen).toHaveLength(1);
    expect(seen[0]).toMatchObject({ body: "body", headers: { authorization: `Bearer ${real}` } });
    expect(seen[0]?.trailers).toEqual({ "x-sum": `1 ${real}` });
  },
);

test.each(["trailers", "a body", "the end of a long body"])(
  "at another host a phantom in %s is refused, and no request arrives whole",
  async (place) => {
    const { port, seen } = await recordingServer();
    const gate = await openGate(port, { credentials: [token(port)], intercept: "all" });
    const phantom = phantomOf(gate);
    const trailers = place === "trailers" ? { "x-sum": phantom } : {};
    const padding = place === "a body" ? "" : "x".repeat(1_000_000);
    const body = place === "trailers" ? "body" : padding + phantom;
    const [status, text] = await post(gate, port, trailers, {}, "other.test", body);
    expect(status).toBe(403);
    expect(text).toContain("ERR_NONO_PHANTOM_MISUSED");
    expect(gate.violations.at(-1)?.code).toBe("ERR_NONO_PHANTOM_MISUSED");
    // The request that comes after it on the same connection does.
    expect((await post(gate, port, {}, {}, "other.test"))[0]).toBe(200);
    expect(seen.map((each) => each.body)).toEqual(["body"]);
  },
);

test("a client that leaves in the middle of its upload has sent no request", async () => {
  const { port, seen } = await recordingServer();
  const gate = await openGate(port, { credentials: [token(port)] });
  const session = await h2Session(gate, port);
  const stream = session.request({ ":method": "POST", ":path": "/" });
  stream.on("error", () => undefined);
  stream.write("half");
  setTimeout(() => session.destroy(), 100);
  await once(session, "close");
  expect((await post(gate, port, {}))[0]).toBe(200);
  expect(seen.map((each) => each.body)).toEqual(["body"]);
});

test("a server of HTTP/1.1 gets them in chunks; behind a length they are refused, not lost", async () => {
  let connections = 0;
  const { port, server } = await httpsUpstream((request, response) => {
    request.on("error", () => undefined);
    void bodyOf(request).then(() => response.end(JSON.stringify(request.trailers)));
  });
  server.on("connection", () => (connections += 1));
  const gate = await openGate(port);
  const all = await openGate(port, { intercept: "all" });
  expect(await post(all, port, { "x-sum": "1" })).toEqual([200, '{"x-sum":"1"}']);
  const announced = { "content-length": "4", trailer: "x-sum" };
  expect(await post(all, port, { "x-sum": "1" }, announced)).toEqual([200, '{"x-sum":"1"}']);
  // The first connection asked what the server speaks; the answer is remembered, and the second is kept.
  expect(connections).toBe(2);
  const [status, text] = await post(all, port, { "x-sum": "1" }, { "content-length": "4" });
  expect([status, text]).toEqual([400, expect.stringContaining("no Trailer field has announced")]);
  expect(await post(all, port, {}, { "content-length": "4" })).toEqual([200, "{}"]);
  await gate.close();
});

const hasNghttp = spawnSync("nghttp", ["--version"]).status === 0;
if (!hasNghttp) console.log("SKIPPED: trailers by nghttp: it is not installed");
test.skipIf(!hasNghttp)("nghttp's trailers arrive", async () => {
  const { port, seen } = await recordingServer();
  const gate = await openGate(port, { credentials: [token(port)] });
  // nghttp knows no proxy.
  const forwarder = net.createServer((client) => {
    client.on("error", () => undefined);
    void connectThrough(gate, `good.test:${port}`).then((way) => client.pipe(way).pipe(client));
  });
  const near = await listening(forwarder);
  const headers = ["-H", `:authority: good.test:${port}`, "--trailer", "x-sum: 1"];
  const args = ["-y", ...headers, "-d", import.meta.filename, `https://127.0.0.1:${near}/`];
  const child = spawn("nghttp", args, { stdio: ["ignore", "pipe", "inherit"] });
  expect(await bodyOf(child.stdout)).toBe("taken");
  expect(seen[0]?.body).toContain("nghttp's trailers arrive");
  expect(seen[0]?.trailers).toEqual({ "x-sum": "1" });
});

test("a length without a body is none to wait for", async () => {
  const port = await http2Upstream((stream, headers) => {
    const status = headers[":path"] === "/304" ? 304 : 200;
    stream.respond({ ":status": status, "content-length": "100" }, { endStream: true });
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const session = await h2Session(gate, port);
  for (const headers of [{ ":method": "HEAD" }, { ":path": "/304" }]) {
    const stream = session.request(headers);
    const [answer] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
    expect([answer["content-length"], await bodyOf(stream)]).toEqual(["100", ""]);
  }
  session.destroy();
});

/** RFC 9113 section 4.1; on the first stream, or none. */
function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const header = Buffer.from([0, 0, payload.length, type, flags, 0, 0, 0, stream]);
  return Buffer.concat([header, payload]);
}

const { NGHTTP2_NO_ERROR, NGHTTP2_CANCEL, NGHTTP2_INTERNAL_ERROR } = http2.constants;
test.each([
  ["cancelled before an answer", NGHTTP2_CANCEL, "", ""],
  ["cancelled", NGHTTP2_CANCEL, "", "half"],
  ["broken", NGHTTP2_INTERNAL_ERROR, "", "half"],
  ["shorter than its length, and said to be no error", NGHTTP2_NO_ERROR, "100", "half"],
])("an answer that is %s is not passed off as whole", async (_what, code, length, body) => {
  const secureContext = upstreamAuthority.contextFor(parseHost("good.test"));
  const ALPNProtocols = ["h2"];
  const server = net.createServer((peer) => {
    const secure = new tls.TLSSocket(peer, { isServer: true, secureContext, ALPNProtocols });
    secure.on("error", () => peer.destroy());
    let received = Buffer.alloc(0);
    secure.on("data", (chunk: Buffer) => {
      const before = received.includes("the body");
      received = Buffer.concat([received, chunk]);
      if (before || !received.includes("the body")) return;
      // HPACK: ":status: 200" is entry 8 of the static table, content-length 28 (RFC 7541 appendix A).
      const field = length === "" ? [] : [0x0f, 28 - 15, length.length, ...Buffer.from(length)];
      const answer = [
        frame(1, 4, 1, Buffer.from([0x88, ...field])),
        frame(0, 0, 1, Buffer.from(body)),
      ];
      secure.write(frame(4, 0, 0, Buffer.alloc(0)));
      if (body !== "") secure.write(Buffer.concat(answer));
      secure.write(frame(3, 0, 1, Buffer.from([0, 0, 0, code])));
    });
  });
  const port = await listening(server);
  const gate = await openGate(port, { credentials: [token(port)] });
  const session = await h2Session(gate, port);
  const stream = session.request({ ":method": "POST", ":path": "/" });
  stream.end("the body");
  const whole = bodyOf(stream);
  if (body === "") expect(await whole).toContain("ERR_NONO_UPSTREAM");
  else await expect(whole).rejects.toThrow();
  session.destroy();
});

test("streams beyond what a server allows at once go to a further connection; one that says goodbye gets no more", async () => {
  let sessions = 0;
  const held: http2.ServerHttp2Stream[] = [];
  const port = await http2Upstream(
    (stream, headers) => {
      if (headers[":path"] === "/held") held.push(stream);
      else {
        stream.respond({ ":status": 200 });
        stream.end("answer");
      }
      if (headers[":path"] === "/last") stream.session?.goaway();
    },
    { settings: { maxConcurrentStreams: 3 } },
    () => (sessions += 1),
  );
  const gate = await openGate(port, { credentials: [token(port)] });
  const session = await h2Session(gate, port);
  const get = (path: string): Promise<string> => bodyOf(session.request({ ":path": path }));
  expect(await get("/")).toBe("answer");
  const waiting = Array.from({ length: 7 }, () => get("/held"));
  await expect.poll(() => held.length).toBe(7);
  expect(sessions).toBe(3);
  expect(await get("/")).toBe("answer");
  for (const stream of held) {
    stream.respond({ ":status": 200 });
    stream.end("held");
  }
  expect(new Set(await Promise.all(waiting))).toEqual(new Set(["held"]));
  expect(sessions).toBe(3);
  // Each of the three connections ends with its last answer; the next request finds or makes another.
  for (let round = 0; round < 5; round += 1) expect(await get("/last")).toBe("answer");
  expect(await get("/")).toBe("answer");
  session.destroy();
});

test("a client may have 256 streams at once, and no more", async () => {
  const held: http2.ServerHttp2Stream[] = [];
  const port = await http2Upstream((stream) => void held.push(stream));
  const gate = await openGate(port, { credentials: [token(port)] });
  const session = await h2Session(gate, port);
  const [settings] = (await once(session, "remoteSettings")) as [http2.Settings];
  expect(settings.maxConcurrentStreams).toBe(256);
  for (let i = 0; i < 300; i += 1) session.request({ ":path": "/" }).on("error", () => undefined);
  await expect.poll(() => held.length).toBe(256);
  held[0]?.respond({ ":status": 200 }, { endStream: true });
  await expect.poll(() => held.length).toBe(257);
  session.destroy();
});

test("100-continue is the server's word on HTTP/2 as well", async () => {
  const port = await http2Upstream((stream, headers) => {
    expect(headers["expect"]).toBe("100-continue");
    if (headers[":path"] === "/refused") {
      stream.respond({ ":status": 417 }, { endStream: true });
      return;
    }
    stream.additionalHeaders({ ":status": 100 });
    void bodyOf(stream).then((body) => {
      stream.respond({ ":status": 200 });
      return stream.end(`${body.length}`);
    });
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const session = await h2Session(gate, port);
  const put = async (path: string): Promise<[number, boolean, string]> => {
    const stream = session.request({ ":method": "PUT", ":path": path, expect: "100-continue" });
    let asked = false;
    stream.once("continue", () => {
      asked = true;
      stream.end(Buffer.alloc(2_000_000, "x"));
    });
    const [headers] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
    const text = await bodyOf(stream);
    return [Number(headers[":status"]), asked, text];
  };
  expect(await put("/stored")).toEqual([200, true, "2000000"]);
  expect(await put("/refused")).toEqual([417, false, ""]);
  session.destroy();
});

test("a server that does not answer on HTTP/2 is given up, and its connection with it", async () => {
  let sessions = 0;
  const port = await http2Upstream(
    (stream, headers) => {
      stream.on("error", () => undefined);
      if (headers[":path"] === "/silent") return;
      stream.respond({ ":status": 200 });
      stream.end("answer");
    },
    {},
    () => (sessions += 1),
  );
  const gate = await openGate(port, {
    credentials: [token(port)],
    limits: { responseTimeout: 300 },
  });
  const session = await h2Session(gate, port);
  const stream = session.request({ ":path": "/silent" });
  const [headers] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
  expect(headers[":status"]).toBe(504);
  expect(await bodyOf(stream)).toContain("ERR_NONO_UPSTREAM_TIMEOUT");
  expect(await bodyOf(session.request({ ":path": "/" }))).toBe("answer");
  expect(sessions).toBe(2);
  session.destroy();
});

test("a value with a line end is not sent to a server of HTTP/2 either", async () => {
  const { port, seen } = await recordingServer();
  const source = { description: "broken", read: async () => Buffer.from("a-secret\r\nx-more: 1") };
  const gate = await openGate(port, { credentials: [token(port, { source })] });
  const [status, text] = await post(gate, port, {});
  expect(status).toBe(400);
  expect(text).not.toContain("a-secret");
  expect(seen).toHaveLength(0);
});

test("fields that are called as what every object has are fields, both ways", async () => {
  const names = { constructor: "1", valueof: "3" };
  const port = await http2Upstream((stream, headers) => {
    stream.respond({ ":status": 200, ...names, "x-seen": JSON.stringify(headers["constructor"]) });
    stream.end();
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const session = await h2Session(gate, port);
  const stream = session.request({ ":path": "/", ...names });
  const [answer] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
  expect(answer).toMatchObject({ constructor: "1", valueof: "3", "x-seen": '"1"' });
  session.destroy();
});
