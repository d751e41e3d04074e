import { once } from "node:events";
import http2 from "node:http2";
import tls from "node:tls";
import {
  brotliCompressSync,
  brotliDecompressSync,
  constants,
  gunzipSync,
  gzipSync,
} from "node:zlib";
import { afterAll, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import type { Gate } from "../../src/index.ts";
import { ask, connectThrough } from "../support/client.ts";
import { closeAll, openGate, real, say, secureThrough, token } from "../support/gate.ts";
import { http2Upstream, httpsUpstream } from "../support/upstream.ts";

// Escape case 47: the phantom in every place that a request has. At its own host it is replaced, or refused with a
// reason; at any other host it is refused and reported.

afterAll(closeAll);

interface Seen {
  readonly url: string;
  readonly headers: string[];
  readonly body: Buffer;
  readonly trailers: string[];
}

async function recordingServer(): Promise<{ port: number; seen: Seen[] }> {
  const seen: Seen[] = [];
  const { port } = await httpsUpstream((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("error", () => undefined);
    request.once("end", () => {
      const { url = "", rawHeaders: headers, rawTrailers: trailers } = request;
      seen.push({ url, headers, trailers, body: Buffer.concat(chunks) });
      response.end("taken");
    });
  });
  return { port, seen };
}

const phantomOf = (gate: Gate): string => gate.env()["API_TOKEN"] ?? "";
const post = (headers: Record<string, string>, body: string | Buffer): object => ({
  method: "POST",
  headers: { "content-length": String(Buffer.byteLength(body)), ...headers },
  body,
});
const basic = (pair: string): string => `Basic ${Buffer.from(pair).toString("base64")}`;

test("in every place of the request line and the header, the value stands where the phantom stood", async () => {
  const { port, seen } = await recordingServer();
  // A scheme of its own place, so that what is seen is the replacement and not the scheme's work.
  const scheme = { type: "header", header: "x-scheme" } as const;
  const gate = await openGate(port, { credentials: [token(port, { scheme })] });
  const phantom = phantomOf(gate);
  const url = `https://good.test:${port}`;
  await ask(gate, `${url}/a/${phantom}/b?q=${phantom}&r=1`, {
    headers: {
      authorization: basic(`user:${phantom}`),
      cookie: `a=1; t=${phantom}`,
      "x-twice": `${phantom},${phantom}`,
    },
  });
  const { url: path, headers } = seen[0] as Seen;
  const encoded = encodeURIComponent(real);
  expect(path).toBe(`/a/${encoded}/b?q=${encoded}&r=1`);
  expect(headers).toContain(basic(`user:${real}`));
  expect(headers).toContain(`a=1; t=${real}`);
  expect(headers).toContain(`${real},${real}`);
  expect(JSON.stringify(headers)).not.toContain(phantom);
});

test("in bodies: JSON, form, multipart, text, chunked and cut within", async () => {
  const { port, seen } = await recordingServer();
  const gate = await openGate(port, { credentials: [token(port)] });
  const phantom = phantomOf(gate);
  const url = `https://good.test:${port}/`;
  const multipart = `--b\r\nContent-Disposition: form-data; name="t"\r\n\r\n${phantom}\r\n--b--\r\n`;
  await ask(
    gate,
    url,
    post({ "content-type": "application/json" }, JSON.stringify({ t: phantom })),
  );
  await ask(
    gate,
    url,
    post({ "content-type": "application/vnd.api+json" }, JSON.stringify([phantom])),
  );
  await ask(
    gate,
    url,
    post({ "content-type": "application/x-www-form-urlencoded" }, `t=${phantom}`),
  );
  await ask(gate, url, post({ "content-type": "multipart/form-data; boundary=b" }, multipart));
  const chunks = Array.from(`<${phantom}>`, (c) => `1\r\n${c}\r\n`).join("");
  const head =
    "POST / HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
  await say(gate, port, `${head}${chunks}0\r\n\r\n`);
  expect(seen.map(({ body }) => body.toString())).toEqual([
    JSON.stringify({ t: real }),
    JSON.stringify([real]),
    `t=${encodeURIComponent(real)}`,
    multipart.replace(phantom, real),
    `<${real}>`,
  ]);
});

test("in compressed bodies: short ones are replaced in their coding, untouched ones pass byte by byte", async () => {
  const { port, seen } = await recordingServer();
  const gate = await openGate(port, { credentials: [token(port)] });
  const phantom = phantomOf(gate);
  const url = `https://good.test:${port}/`;
  const json = { "content-type": "application/json" };
  const text = JSON.stringify({ t: phantom });
  await ask(gate, url, post({ ...json, "content-encoding": "gzip" }, gzipSync(text)));
  await ask(gate, url, post({ ...json, "content-encoding": "br" }, brotliCompressSync(text)));
  const other = gzipSync("nothing in here", { level: 1 });
  await ask(gate, url, post({ "content-encoding": "gzip" }, other));
  const broken = Buffer.from("not gzip at all");
  await ask(gate, url, post({ "content-encoding": "gzip" }, broken));
  // Beyond four codings nothing is decoded: what is said of a body must not decide what looking at it costs.
  let nested = gzipSync(text);
  for (let i = 0; i < 4; i += 1) nested = gzipSync(nested);
  await ask(gate, url, post({ "content-encoding": "gzip,".repeat(5) }, nested));
  const bodies = seen.map(({ body }) => Buffer.from(body));
  expect(bodies[4]).toEqual(nested);
  expect(gunzipSync(bodies[0] ?? "").toString()).toBe(JSON.stringify({ t: real }));
  expect(brotliDecompressSync(bodies[1] ?? Buffer.alloc(0)).toString()).toBe(
    JSON.stringify({ t: real }),
  );
  expect(bodies[2]).toEqual(other);
  expect(bodies[3]).toEqual(broken);
});

/** A chunked upload; the answer, or "" where the connection was broken off. */
async function stream(gate: Gate, port: number, header: string, body: Uint8Array): Promise<string> {
  const head = `POST / HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n${header}\r\n`;
  const pieces: Uint8Array[] = [Buffer.from(head)];
  for (let at = 0; at < body.length; at += 10_000) {
    const piece = body.subarray(at, at + 10_000);
    pieces.push(Buffer.from(`${piece.length.toString(16)}\r\n`), piece, Buffer.from("\r\n"));
  }
  return say(gate, port, Buffer.concat([...pieces, Buffer.from("0\r\n\r\n")]));
}

test("what cannot be replaced is refused with a reason: compressed streams, long bodies of fixed length", async () => {
  const { port, seen } = await recordingServer();
  const gate = await openGate(port, { credentials: [token(port)] });
  const phantom = phantomOf(gate);
  const noise = Buffer.from(Array.from({ length: 2_000_000 }, (_, i) => (i * 7919) % 251));
  const hidden = gzipSync(Buffer.concat([noise, Buffer.from(phantom), noise]));
  await stream(gate, port, "content-encoding: gzip\r\n", hidden);
  const twice = brotliCompressSync(hidden, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } });
  await stream(gate, port, "content-encoding: gzip, br\r\n", twice);
  const long = Buffer.concat([noise, Buffer.from(phantom)]);
  const answer = await ask(gate, `https://good.test:${port}/`, post({}, long)).catch(
    () => undefined,
  );
  expect(answer?.status ?? 400).toBe(400);
  expect(seen).toHaveLength(0);
  const reasons = gate.violations.map(({ message }) => message);
  expect(reasons.filter((text) => text.includes("compressed body"))).toHaveLength(2);
  expect(reasons.some((text) => text.includes("announced length"))).toBe(true);
  // The same without a phantom arrives, in its coding.
  const clean = gzipSync(noise);
  expect(await stream(gate, port, "content-encoding: gzip\r\n", clean)).toMatch(/^HTTP\/1\.1 200/);
  expect(seen[0]?.body.equals(clean)).toBe(true);
  // What stands behind the end is no business of the coding.
  const more = Buffer.concat([clean, Buffer.alloc(100_000, "more")]);
  expect(await stream(gate, port, "content-encoding: gzip\r\n", more)).toMatch(/^HTTP\/1\.1 200/);
  expect(seen[1]?.body.equals(more)).toBe(true);
});

test("a compressed body that decodes to far more than it is ends there", async () => {
  const { port, seen } = await recordingServer();
  const gate = await openGate(port, { credentials: [token(port)] });
  const zeros = Buffer.alloc(64 * 1024 * 1024);
  // gzip's own growth is let through, since nothing in it can be worse.
  const once1 = gzipSync(zeros);
  expect(await stream(gate, port, "content-encoding: gzip\r\n", once1)).toMatch(/^HTTP\/1\.1 200/);
  expect(seen[0]?.body.equals(once1)).toBe(true);
  const bomb = gzipSync(brotliCompressSync(zeros));
  await stream(gate, port, "content-encoding: br, gzip\r\n", bomb);
  expect(gate.violations.map(({ code }) => code)).toEqual(["ERR_NONO_LIMIT"]);
  expect(seen).toHaveLength(1);
});

const chunkedPost = (host: string, ...headers: string[]): string =>
  `${[`POST / HTTP/1.1`, `Host: ${host}`, "Transfer-Encoding: chunked", ...headers].join("\r\n")}\r\n\r\n`;
const announcements = [
  ["announced", ["Trailer: x-t"]],
  ["not announced", []],
] as const;

test.each(announcements)("in request trailers, %s, which go on to the server", async (_, more) => {
  const { port, seen } = await recordingServer();
  const gate = await openGate(port, { credentials: [token(port)] });
  const head = chunkedPost("good.test", "Connection: close", ...more);
  // What would frame, route or authenticate the message anew stays here.
  const refused = ["Host: other.test", "Authorization: x", "Content-Type: x", "Connection: x-u"];
  const trailers = [`x-t: ${phantomOf(gate)}`, ...refused, "x-u: 1"].join("\r\n");
  const answer = await say(gate, port, `${head}4\r\nbody\r\n0\r\n${trailers}\r\n\r\n`);
  expect(answer).toContain("taken");
  expect(seen[0]?.body.toString()).toBe("body");
  expect(seen[0]?.trailers).toEqual(["x-t", real]);
});

test("in WebSocket messages, in fragments, in pings and in the close reason", async () => {
  const { port, server } = await httpsUpstream((_request, response) => response.end());
  const got: string[] = [];
  new WebSocketServer({ server }).on("connection", (peer) => {
    peer.on("message", (data) => got.push((data as Buffer).toString()));
    peer.on("ping", (data) => got.push(`ping ${data.toString()}`));
    peer.on("close", (_code, reason) => got.push(`close ${reason.toString()}`));
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const phantom = phantomOf(gate);
  const secure = await secureThrough(gate, port);
  const client = new WebSocket(`wss://good.test:${port}/`, { createConnection: () => secure });
  await once(client, "open");
  client.send(JSON.stringify({ t: phantom }));
  client.ping(phantom);
  for (const c of phantom) client.send(c, { fin: false });
  client.send("", { fin: true });
  client.close(4000, phantom);
  await once(client, "close");
  const escaped = JSON.stringify(real).slice(1, -1);
  const expected = [JSON.stringify({ t: real }), `ping ${escaped}`, escaped, `close ${escaped}`];
  await expect.poll(() => got).toEqual(expected);
});

test("over HTTP/2, in header and body", async () => {
  let seen: [string, string] | undefined;
  const port = await http2Upstream((peer, headers) => {
    let body = "";
    peer.on("data", (chunk: Buffer) => {
      body += chunk.toString();
    });
    peer.once("end", () => {
      seen = [String(headers["x-any"]), body];
      peer.respond({ ":status": 200 });
      peer.end();
    });
  });
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
  const request = session.request({ ":method": "POST", ":path": "/", "x-any": phantomOf(gate) });
  request.end(phantomOf(gate));
  await once(request, "response");
  expect(seen).toEqual([real, real]);
  session.destroy();
});

const encoders: Record<string, (phantom: string) => object> = {
  "a header": (phantom) => ({ headers: { "x-any": `a ${phantom} b` } }),
  "a header's name": (phantom) => ({ headers: { [`x-${phantom}`]: "1" } }),
  "Basic, as password": (phantom) => ({ headers: { authorization: basic(`u:${phantom}`) } }),
  "Basic, as user": (phantom) => ({ headers: { authorization: basic(`${phantom}:p`) } }),
  "basic in lower case": (phantom) => ({
    headers: { authorization: basic(phantom).replace("Basic", "basic") },
  }),
  "a cookie": (phantom) => ({ headers: { cookie: `t=${phantom}` } }),
  "the query": (phantom) => ({ path: `/?q=${phantom}` }),
  "the query, encoded, beside a broken escape": (phantom) => ({
    path: `/?x=%zz&q=%6e${phantom.slice(1)}`,
  }),
  "the query, encoded": (phantom) => ({ path: `/?q=%6e${phantom.slice(1)}` }),
  "the path": (phantom) => ({ path: `/a/${phantom}` }),
  "a JSON body": (phantom) => post({ "content-type": "application/json" }, `{"t":"${phantom}"}`),
  "a gzip body": (phantom) => post({ "content-encoding": "gzip" }, gzipSync(`{"t":"${phantom}"}`)),
  "a body after a megabyte": (phantom) => post({}, "x".repeat(1_100_000) + phantom),
};
test.each(Object.entries(encoders))(
  "at another host %s is refused and reported",
  async (_place, make) => {
    const { port, seen } = await recordingServer();
    const gate = await openGate(port, { credentials: [token(port)], intercept: "all" });
    const request = ask(gate, `https://other.test:${port}/`, make(phantomOf(gate)));
    const answer = await request.catch(() => undefined);
    if (answer)
      expect(JSON.parse(answer.body)).toMatchObject({ error: "ERR_NONO_PHANTOM_MISUSED" });
    expect(seen).toHaveLength(0);
    expect(gate.violations.map(({ code }) => code)).toContain("ERR_NONO_PHANTOM_MISUSED");
  },
);

test.each(announcements)(
  "at another host a trailer, %s, is refused and reported",
  async (_, more) => {
    const { port, seen } = await recordingServer();
    const gate = await openGate(port, { credentials: [token(port)], intercept: "all" });
    const socket = await connectThrough(gate, `other.test:${port}`);
    const secure = tls.connect({ socket, servername: "other.test", ca: gate.caCertificate });
    const head = chunkedPost("other.test", ...more);
    secure.write(`${head}4\r\nbody\r\n0\r\nx-t: ${phantomOf(gate)}\r\n\r\n`);
    const [answer] = (await once(secure, "data")) as [Buffer];
    expect(String(answer)).toMatch(/^HTTP\/1\.1 403 /);
    expect(seen).toHaveLength(0);
    expect(gate.violations.at(-1)?.code).toBe("ERR_NONO_PHANTOM_MISUSED");
    secure.destroy();
  },
);

test("another sandbox's phantom is worth nothing here", async () => {
  const { port, seen } = await recordingServer();
  const first = await openGate(port, { credentials: [token(port)] });
  const second = await openGate(port, {
    credentials: [token(port, { scheme: { type: "header", header: "x-key" } })],
  });
  const headers = { "x-any": phantomOf(first) };
  await ask(second, `https://good.test:${port}/`, { headers });
  expect(JSON.stringify(seen[0]?.headers)).toContain(phantomOf(first));
  expect(phantomOf(first)).not.toBe(phantomOf(second));
});

test("a credential for HTTPS is not sent in the clear, nor to another port", async () => {
  const { port, seen } = await recordingServer();
  const gate = await openGate(port, {
    credentials: [token(port, { proxyTo: ["good.test", "*.good.test"] })],
    intercept: "all",
  });
  await ask(gate, `https://good.test:${port}/`);
  expect(seen[0]?.headers.join().toLowerCase()).not.toContain("authorization");
});
