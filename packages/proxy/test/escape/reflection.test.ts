import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import tls from "node:tls";
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from "node:zlib";
import { afterAll, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import type { Gate } from "../../src/index.ts";
import { encodedForms } from "../../src/credentials/encoded-forms.ts";
import { ask, connectThrough } from "../support/client.ts";
import { closeAll, openGate, real, say, secureThrough, token } from "../support/gate.ts";
import { bodyOf, httpsUpstream, listening, upstreamAuthority } from "../support/upstream.ts";
import { parseHost } from "../../src/net/host.ts";

// Escape case 46: the secret is injected for good.test, and the agent tries to have the server say it. The servers
// here do whatever the agent could wish for; nothing of the value may come back, in any coding.

afterAll(closeAll);

const base64 = (text: string): string => Buffer.from(text).toString("base64");

/** The value is nowhere in what the agent got, neither as it is nor in any form that can be turned back. */
function expectHidden(text: string): void {
  for (const form of encodedForms(Buffer.from(real))) expect(text).not.toContain(String(form));
  for (const word of text.split(/[^A-Za-z0-9+/=_-]+/)) {
    expect(Buffer.from(word, "base64").toString("latin1")).not.toContain(real.slice(4, -4));
    expect(Buffer.from(word, "hex").toString("latin1")).not.toContain(real);
  }
}

/** A server that says exactly these bytes after a request has come in. */
async function rawServer(answer: (request: string) => string | Buffer): Promise<number> {
  const secureContext = upstreamAuthority.contextFor(parseHost("good.test"));
  const server = net.createServer((peer) => {
    const secure = new tls.TLSSocket(peer, { isServer: true, secureContext });
    secure.on("error", () => peer.destroy());
    let text = "";
    secure.on("data", (chunk: Buffer) => {
      text += chunk.toString("latin1");
      if (text.includes("\r\n\r\n")) secure.end(answer(text));
    });
  });
  return listening(server);
}

const get = "GET / HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\n\r\n";

test.each<[string, string]>([
  ["the reason phrase", `HTTP/1.1 400 bad ${real}\r\ncontent-length: 0\r\n\r\n`],
  ["a field's value", `HTTP/1.1 200 OK\r\nx-echo: a ${real} b\r\ncontent-length: 0\r\n\r\n`],
  [
    "a field's name",
    `HTTP/1.1 200 OK\r\nx-${real.replace(/[^a-z0-9-]/g, "-")}: 1\r\nx-${Buffer.from(real).toString("hex")}: 1\r\ncontent-length: 0\r\n\r\n`,
  ],
  [
    "Location",
    `HTTP/1.1 302 Found\r\nlocation: https://evil.test/?t=${encodeURIComponent(real)}\r\ncontent-length: 0\r\n\r\n`,
  ],
  [
    "Set-Cookie",
    `HTTP/1.1 200 OK\r\nset-cookie: t=${base64(`x${real}`)}\r\nset-cookie: u=${base64(real)}\r\ncontent-length: 0\r\n\r\n`,
  ],
  ["a body without length", `HTTP/1.1 200 OK\r\n\r\n${real}`],
  [
    "the last bytes of a body",
    `HTTP/1.1 200 OK\r\ncontent-length: ${real.length + 1}\r\n\r\n ${real}`,
  ],
  [
    "an unannounced trailer",
    `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-t: ${real}\r\n\r\n`,
  ],
  [
    "an announced trailer",
    `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-t\r\n\r\n1\r\nx\r\n0\r\nx-t: ${real}\r\n\r\n`,
  ],
  [
    "chunks cut within the value",
    `HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n${Array.from(real, (c) => `1\r\n${c}\r\n`).join("")}0\r\n\r\n`,
  ],
  [
    "early hints",
    `HTTP/1.1 103 Early Hints\r\nlink: </${encodeURIComponent(real)}>; rel=preload\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok`,
  ],
  [
    "an error page",
    `HTTP/1.1 500 Oops\r\ncontent-type: text/html\r\n\r\n<pre>Authorization: Bearer ${real.replace("&", "&amp;").replace('"', "&quot;")}</pre>`,
  ],
  [
    "multipart ranges that were not asked for",
    `HTTP/1.1 206 Partial\r\ncontent-type: multipart/byteranges; boundary=${real.slice(0, 11)}\r\n\r\n--x\r\n\r\n${real}\r\n--x--`,
  ],
])("the server says it in %s", async (_place, answer) => {
  const port = await rawServer(() => answer);
  const gate = await openGate(port, { credentials: [token(port)] });
  const text = await say(gate, port, get);
  expect(text).toMatch(/^HTTP\/1\.1 \d{3}/);
  expectHidden(text);
});

const codings: [string, (text: string) => Buffer][] = [
  ["gzip", (text) => gzipSync(text)],
  ["deflate", (text) => deflateSync(text)],
  ["br", (text) => brotliCompressSync(text)],
  ["zstd", (text) => zstdCompressSync(Buffer.from(text))],
  ["gzip, br", (text) => brotliCompressSync(gzipSync(text))],
];
test.each(codings)("the server says it compressed: %s", async (coding, compress) => {
  const text = `${"padding ".repeat(5_000)}${real}${base64(real)}\n`.repeat(3);
  const { port } = await httpsUpstream((request, response) => {
    response.setHeader("content-encoding", coding);
    const bytes = compress(text);
    // In small pieces, so that nothing is whole anywhere.
    for (let at = 0; at < bytes.length; at += 7) response.write(bytes.subarray(at, at + 7));
    response.end();
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const answer = await ask(gate, `https://good.test:${port}/`, {
    headers: { "accept-encoding": "zstd, br, gzip" },
  });
  expect(answer.headers["content-encoding"]).toBeUndefined();
  expect(answer.body).toHaveLength(text.length);
  expectHidden(answer.body.slice(-500));
});

test("more codings upon each other than anyone needs are not opened: each would cost a decoder", async () => {
  const { port } = await httpsUpstream((request, response) => {
    const times = Number(request.url?.slice(1));
    response.setHeader(
      "content-encoding",
      Array.from({ length: times }, () => "gzip"),
    );
    let body = Buffer.from(real);
    for (let i = 0; i < times; i += 1) body = gzipSync(body);
    response.end(body);
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const few = await ask(gate, `https://good.test:${port}/4`);
  expect([few.status, few.body]).toEqual([200, "*".repeat(real.length)]);
  const many = await ask(gate, `https://good.test:${port}/5`);
  expect(JSON.parse(many.body)).toMatchObject({ error: "ERR_NONO_UNSCRUBBABLE" });
});

test("a coding that cannot be opened is not delivered, and broken compression breaks off", async () => {
  const { port } = await httpsUpstream((request, response) => {
    response.setHeader("content-encoding", request.url === "/broken" ? "gzip" : "aes128gcm");
    response.end(real);
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const answer = await ask(gate, `https://good.test:${port}/`);
  expect(answer.status).toBe(502);
  expect(JSON.parse(answer.body)).toMatchObject({ error: "ERR_NONO_UNSCRUBBABLE" });
  const broken = await say(gate, port, get.replace("/ ", "/broken "));
  expectHidden(broken);
});

test.each([
  ["transfer-encoding", "gzip, chunked"],
  ["im", "gzip"],
  ["grpc-encoding", "gzip"],
  ["connect-content-encoding", "br"],
])("a body that is compressed by %s is not delivered, nor asked for", async (field, coding) => {
  let asked = "";
  const port = await rawServer((request) => {
    asked = request;
    const bytes = gzipSync(real);
    const chunked = field === "transfer-encoding";
    const head = `HTTP/1.1 200 OK\r\n${field}: ${coding}\r\n\r\n`;
    return Buffer.concat([
      Buffer.from(head + (chunked ? `${bytes.length.toString(16)}\r\n` : "")),
      bytes,
      Buffer.from(chunked ? "\r\n0\r\n\r\n" : ""),
    ]);
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const answer = await ask(gate, `https://good.test:${port}/`, {
    headers: {
      te: "gzip",
      "a-im": "gzip",
      "grpc-accept-encoding": "gzip",
      "connect-accept-encoding": "br",
    },
  });
  expect(JSON.parse(answer.body)).toMatchObject({ error: "ERR_NONO_UNSCRUBBABLE" });
  expect(asked).not.toMatch(/^(te|a-im|.*-accept-encoding):/im);
});

test("TRACE and its relatives are refused, in any case", async () => {
  const port = await rawServer((request) => `HTTP/1.1 200 OK\r\n\r\n${request}`);
  const gate = await openGate(port, { credentials: [token(port)] });
  for (const method of ["TRACE", "TRACK", "DEBUG"]) {
    const answer = await say(gate, port, get.replace("GET", method));
    expect(answer).toMatch(/^HTTP\/1\.1 40[05]/);
  }
  expectHidden(await say(gate, port, get));
});

test.each(["websocket", "h2c", "TLS/1.0", "websocket, h2c", "foo/2"])(
  "a request to upgrade to %s is answered by an echo",
  async (protocol) => {
    const port = await rawServer((request) => {
      const bytes = gzipSync(request);
      const head = `HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: ${bytes.length}\r\n\r\n`;
      return /^x-gzip/m.test(request)
        ? Buffer.concat([Buffer.from(head), bytes])
        : `HTTP/1.1 418 ${real}\r\nx-a: ${real}\r\n\r\n${request}`;
    });
    const gate = await openGate(port, { credentials: [token(port)] });
    const upgrade = `Connection: Upgrade, HTTP2-Settings, close\r\nUpgrade: ${protocol}\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13`;
    for (const more of ["", "x-gzip: 1\r\n"]) {
      const text = await say(
        gate,
        port,
        `GET / HTTP/1.1\r\nHost: good.test\r\n${more}${upgrade}\r\n\r\n`,
      );
      expect(text).toMatch(/^HTTP\/1\.1 (200|418) /);
      expect(text).toMatch(/authorization: Bearer \*/i);
      // Only a WebSocket is asked for; to all others the server must not be able to agree.
      expect(/^upgrade: /im.test(text)).toBe(protocol === "websocket");
      expectHidden(text);
    }
  },
);

test("a server that switches protocols unasked is not followed", async () => {
  const port = await rawServer(
    () => `HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n${real}`,
  );
  const gate = await openGate(port, { credentials: [token(port)] });
  const text = await say(gate, port, get);
  expect(text).toMatch(/^HTTP\/1\.1 502/);
  expectHidden(text);
});

test("Range cannot fetch the value in halves", async () => {
  const { port } = await httpsUpstream((request, response) => {
    const [, from, to] = /bytes=(\d+)-(\d+)/.exec(request.headers.range ?? "") ?? [];
    const whole = `token ${request.headers.authorization}`;
    response.end(from === undefined ? whole : whole.slice(Number(from), Number(to) + 1));
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  for (const range of ["bytes=0-29", "bytes=30-99"]) {
    const { body } = await ask(gate, `https://good.test:${port}/`, {
      headers: { range, "if-range": "x" },
    });
    expect(body).toBe(`token Bearer ${"*".repeat(real.length)}`);
  }
});

test("a redirect to another host carries no credential, and the phantom in it is refused there", async () => {
  const seen: string[] = [];
  const { port } = await httpsUpstream((request, response) => {
    seen.push(`${request.headers.host} ${request.headers.authorization}`);
    const location = `https://other.test:${port}/?t=${encodeURIComponent(real)}`;
    if (request.headers.host?.startsWith("good") === true) response.writeHead(307, { location });
    response.end("body");
  });
  const gate = await openGate(port, { credentials: [token(port)], intercept: "all" });
  const phantom = gate.env()["API_TOKEN"] ?? "";
  const headers = { authorization: `Bearer ${phantom}` };
  const first = await ask(gate, `https://good.test:${port}/`, { headers });
  expect(first.status).toBe(307);
  expectHidden(String(first.headers.location));
  // A client that takes its headers along, and one that does not.
  const next = new URL(first.headers.location ?? "");
  const followed = await ask(gate, next.href, { headers });
  expect(followed.status).toBe(403);
  expect(JSON.parse(followed.body)).toMatchObject({ error: "ERR_NONO_PHANTOM_MISUSED" });
  expect((await ask(gate, next.href)).body).toBe("body");
  expect(seen).toEqual([`good.test:${port} Bearer ${real}`, `other.test:${port} undefined`]);
  expect(gate.violations.map(({ code }) => code)).toContain("ERR_NONO_PHANTOM_MISUSED");
});

test("HTTP/2: header, body and trailers", async () => {
  const server = http2.createSecureServer({
    SNICallback: (name, done) => done(null, upstreamAuthority.contextFor(parseHost(name))),
  });
  const sessions: http2.ServerHttp2Session[] = [];
  server.on("session", (session) => sessions.push(session));
  server.on("stream", (stream, headers) => {
    stream.respond(
      {
        ":status": 200,
        "x-echo": headers.authorization,
        [`x-${Buffer.from(real).toString("hex")}`]: "1",
      },
      { waitForTrailers: true },
    );
    stream.on("wantTrailers", () => stream.sendTrailers({ "x-trailer": real }));
    for (const byte of String(headers.authorization)) stream.write(byte);
    stream.end();
  });
  const port = await listening(server);
  const gate = await openGate(port, { credentials: [token(port)] });
  const socket = await connectThrough(gate, `good.test:${port}`);
  const options = {
    socket,
    servername: "good.test",
    ca: gate.caCertificate,
    ALPNProtocols: ["h2"],
  };
  const session = http2.connect(`https://good.test:${port}`, {
    createConnection: () => tls.connect(options),
  });
  const stream = session.request({ ":path": "/" });
  const response = once(stream, "response");
  const trailers = once(stream, "trailers");
  const body = await bodyOf(stream);
  expect(body).toBe(`Bearer ${"*".repeat(real.length)}`);
  expectHidden(JSON.stringify([await response, await trailers]));
  expect((await trailers)[0]).toMatchObject({ "x-trailer": "*".repeat(real.length) });
  session.destroy();
  for (const each of sessions) each.destroy();
});

test("WebSocket: handshake, text, binary, fragments, close reason", async () => {
  const { port, server } = await httpsUpstream((_request, response) => response.end());
  const sockets = new WebSocketServer({ server });
  sockets.on("headers", (headers, request) =>
    headers.push(`x-echo: ${request.headers.authorization}`),
  );
  sockets.on("connection", (peer) => {
    peer.send(`text ${real}`);
    peer.send(Buffer.from(`binary ${base64(real)}`));
    for (const character of real) peer.send(character, { fin: false });
    peer.send(".", { fin: true });
    peer.close(4000, real);
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const secure = await secureThrough(gate, port);
  const client = new WebSocket(`wss://good.test:${port}/`, { createConnection: () => secure });
  const messages: string[] = [];
  client.on("message", (data) => messages.push((data as Buffer).toString()));
  client.on("upgrade", (response) => messages.push(String(response.headers["x-echo"])));
  const [code, reason] = (await once(client, "close")) as [number, Buffer];
  messages.push(String(reason));
  expect(messages).toHaveLength(5);
  expect(code).toBe(4000);
  for (const message of messages) expectHidden(message);
});

test("the gate's own refusals, events and violations never hold it", async () => {
  const port = await rawServer(() => "not HTTP at all");
  const events: unknown[] = [];
  const gate: Gate = await openGate(port, {
    credentials: [token(port, { scheme: { type: "query", parameter: "key" } })],
    onEvent: (event) => events.push(event),
  });
  const text = await say(gate, port, get);
  expect(text).toMatch(/^HTTP\/1\.1 502/);
  expectHidden(text + JSON.stringify([events, gate.violations]));
});
