import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import http2 from "node:http2";
import net from "node:net";
import { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import tls from "node:tls";
import { afterAll, expect, test } from "vitest";
import type { GateEvent } from "../src/index.ts";
import { ask, connectThrough, h2Session } from "./support/client.ts";
import { closeAll, openGate, say, secureThrough, token } from "./support/gate.ts";
import {
  bodyOf,
  http2Upstream,
  httpUpstream,
  httpsUpstream,
  listening,
} from "./support/upstream.ts";

// HTTP as RFC 9110, 9112 and 9113 have it, through a gate that terminates.

afterAll(closeAll);

const request = (line: string, ...headers: string[]): string =>
  `${[`${line} HTTP/1.1`, "Host: good.test", ...headers].join("\r\n")}\r\n\r\n`;

test("HEAD, 204 and 304 have no body, and keep their headers; the connection goes on", async () => {
  let connections = 0;
  const { port, server } = await httpsUpstream((incoming, response) => {
    if (incoming.method === "HEAD") response.setHeader("content-length", "1234");
    else response.statusCode = incoming.url === "/204" ? 204 : 304;
    response.setHeader("etag", '"x"');
    response.end();
  });
  server.on("secureConnection", () => {
    connections += 1;
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const secure = await secureThrough(gate, port);
  const ask1 = async (line: string): Promise<string> => {
    secure.write(request(line));
    return String(((await once(secure, "data")) as [Buffer])[0]);
  };
  expect(await ask1("GET /204")).toMatch(/^HTTP\/1\.1 204 [^]*etag: "x"[^]*\r\n\r\n$/i);
  expect(await ask1("GET /304")).toMatch(/^HTTP\/1\.1 304 [^]*etag: "x"[^]*\r\n\r\n$/i);
  expect(connections).toBe(1);
  expect(await ask1("HEAD /")).toMatch(/^HTTP\/1\.1 200 [^]*content-length: 1234[^]*\r\n\r\n$/i);
  expect(await ask1("GET /304")).toMatch(/^HTTP\/1\.1 304 /);
  secure.destroy();
});

test("what is not the gate's business passes as it is: methods, cookies, order, unknown fields", async () => {
  let seen: [string | undefined, string[]] = ["", []];
  const { port } = await httpsUpstream((incoming, response) => {
    seen = [incoming.method, incoming.rawHeaders];
    response.writeHead(207, "Multi-Status", [
      "Set-Cookie",
      "a=1",
      "X-B",
      "2",
      "Set-Cookie",
      "c=3",
      "Date",
      "then",
    ]);
    response.end();
  });
  const gate = await openGate(port, { rules: [{ host: `good.test:${port}` }] });
  const answer = await say(
    gate,
    port,
    request(
      "PROPFIND /x?y=z",
      "Depth: 1",
      "X-A: 1",
      "X-A: 2",
      "Connection: close, X-Hop",
      "X-Hop: 1",
    ),
  );
  expect(seen[0]).toBe("PROPFIND");
  expect(seen[1].join("|")).toContain("Depth|1|X-A|1|X-A|2");
  expect(seen[1]).not.toContain("X-Hop");
  expect(answer).toMatch(
    /^HTTP\/1\.1 207 Multi-Status\r\nSet-Cookie: a=1\r\nX-B: 2\r\nSet-Cookie: c=3\r\nDate: then/,
  );
});

test("HTTP/1.0 gets no chunks and no informational answer", async () => {
  const { port } = await httpsUpstream((_incoming, response) => {
    response.writeEarlyHints({ link: "</a>; rel=preload" });
    response.write("one");
    response.end("two");
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const answer = await say(gate, port, "GET / HTTP/1.0\r\n\r\n");
  expect(answer).toMatch(/^HTTP\/1\.1 200/);
  expect(answer).toMatch(/\r\n\r\nonetwo$/);
});

test("early hints go through on both protocols", async () => {
  const { port } = await httpsUpstream((_incoming, response) => {
    response.writeEarlyHints({ link: "</style.css>; rel=preload; as=style" });
    setTimeout(() => response.end("page"), 20);
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const answer = await say(gate, port, request("GET /", "Connection: close"));
  expect(answer).toMatch(/^HTTP\/1\.1 103 Early Hints\r\nLink: <\/style\.css>/);
  expect(answer).toMatch(/\r\nHTTP\/1\.1 200 OK\r\n/);
  const session = await h2Session(gate, port);
  const stream = session.request({ ":path": "/" });
  const [hints] = (await once(stream, "headers")) as [http2.IncomingHttpHeaders];
  expect(hints).toMatchObject({ ":status": 103, link: "</style.css>; rel=preload; as=style" });
  expect(await bodyOf(stream)).toBe("page");
  session.destroy();
});

test("early hints without end are not all passed on", async () => {
  const { port } = await httpsUpstream((_incoming, response) => {
    for (let i = 0; i < 200; i += 1) response.writeEarlyHints({ link: `</${i}.css>; rel=preload` });
    response.end("page");
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const answer = await say(gate, port, request("GET /", "Connection: close"));
  expect(answer.match(/^HTTP\/1\.1 103/gm)).toHaveLength(16);
  expect(answer).toMatch(/page$/m);
});

test("100-continue: the server decides whether the body is sent", async () => {
  const bodies: string[] = [];
  const { port, server } = await httpsUpstream((incoming, response) => {
    void bodyOf(incoming).then((body) => {
      bodies.push(`${body.length} ${incoming.headers.expect}`);
      return response.end("stored");
    });
  });
  server.on("checkContinue", (incoming: http.IncomingMessage, response: http.ServerResponse) => {
    if (incoming.url === "/refused") {
      response.writeHead(417, { connection: "close" });
      return void response.end("too large");
    }
    response.writeContinue();
    return void server.emit("request", incoming, response);
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const upload = async (path: string, length: number): Promise<[string, boolean]> => {
    const secure = await secureThrough(gate, port);
    secure.write(
      request(
        `PUT ${path}`,
        "Expect: 100-continue",
        `Content-Length: ${length}`,
        "Connection: close",
      ),
    );
    let answer = "";
    let sent = false;
    secure.on("data", (chunk: Buffer) => {
      answer += String(chunk);
      if (sent || !answer.startsWith("HTTP/1.1 100")) return;
      sent = true;
      secure.write(Buffer.alloc(length, "x"));
    });
    await once(secure, "close");
    return [answer, sent];
  };
  // Larger than what is held to be looked through, so that the question goes to the server.
  const [stored, sentFirst] = await upload("/stored", 2_000_000);
  expect(sentFirst).toBe(true);
  expect(stored).toContain("stored");
  const [refused, sentSecond] = await upload("/refused", 2_000_000);
  expect(refused).toMatch(/^HTTP\/1\.1 417/);
  expect(sentSecond).toBe(false);
  // A short one is looked through as a whole: the gate itself says continue, once the rules have passed.
  const [short] = await upload("/refused", 100);
  expect(short).toContain("stored");
  expect(bodies).toEqual(["2000000 100-continue", "100 undefined"]);
});

test("a refused request never gets a 100", async () => {
  const { port } = await httpsUpstream((_incoming, response) => response.end());
  const gate = await openGate(port, { rules: [{ host: `good.test:${port}`, allow: ["GET /**"] }] });
  const answer = await say(
    gate,
    port,
    request("PUT /", "Expect: 100-continue", "Content-Length: 9", "Connection: close"),
  );
  expect(answer).toMatch(/^HTTP\/1\.1 403/);
});

test("both directions stream at once, and neither waits for the other's end", async () => {
  const { port } = await httpsUpstream((incoming, response) => {
    response.writeHead(200);
    incoming.on("data", (chunk: Buffer) => response.write(`got ${String(chunk)}\n`));
    incoming.once("end", () => response.end());
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const secure = await secureThrough(gate, port);
  secure.write(request("POST /", "Transfer-Encoding: chunked", "Connection: close"));
  let answer = "";
  secure.on("data", (chunk: Buffer) => {
    answer += String(chunk);
  });
  for (const word of ["one", "two", "three"]) {
    secure.write(`${word.length.toString(16)}\r\n${word}\r\n`);
    await expect.poll(() => answer).toContain(`got ${word}`);
  }
  secure.end("0\r\n\r\n");
  await once(secure, "close");
});

test.each([true, false])(
  "trailers of an HTTP/2 request go on to a server of HTTP/1.1, announced %s",
  async (announced) => {
    let seen: string[] = [];
    let ended = 0;
    const { port } = await httpsUpstream((incoming, response) => {
      incoming.on("error", () => undefined).resume();
      incoming.once("end", () => {
        ended += 1;
        seen = incoming.rawTrailers;
        response.end("taken");
      });
    });
    const gate = await openGate(port, { credentials: [token(port)] });
    const session = await h2Session(gate, port);
    const stream = session.request(
      { ":method": "POST", ":path": "/", ...(announced ? { trailer: "x-sum" } : {}) },
      { waitForTrailers: true },
    );
    stream.once("wantTrailers", () => stream.sendTrailers({ "x-sum": "1" }));
    stream.end("body");
    const [headers] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
    expect(headers[":status"]).toBe(200);
    expect(await bodyOf(stream)).toBe("taken");
    expect([ended, seen]).toEqual([1, ["x-sum", "1"]]);
    session.destroy();
  },
);

/** Reads in fits and starts: the gate has to hold the server up, and to go on where it stopped. */
async function digestOf(body: NodeJS.ReadableStream): Promise<string> {
  const hash = createHash("sha256");
  let rests = 0;
  for await (const chunk of body) {
    hash.update(chunk as Buffer);
    if (rests++ % 40 === 0) await delay(5);
  }
  return hash.digest("hex");
}

test.each([
  ["with its length", 1024 * 1024, "good.test"],
  ["in chunks of all sizes", 70_001, "good.test"],
  ["in small chunks", 777, "good.test"],
  ["until the connection ends", 70_000, "good.test"],
  ["until the connection ends, unscrubbed", 70_000, "other.test"],
  ["with its length, unscrubbed", 1024 * 1024, "other.test"],
  ["in chunks, unscrubbed", 70_001, "other.test"],
])("a body %s is the same at the other end, on both protocols", async (_how, size, host) => {
  const sent = randomBytes(6 * 1024 * 1024);
  const { port } = await httpsUpstream((_incoming, response) => {
    if (size > 1_000_000) response.setHeader("content-length", sent.length);
    response.useChunkedEncodingByDefault = size !== 70_000;
    const pieces = function* (): Generator<Buffer> {
      for (let at = 0; at < sent.length; at += size) yield sent.subarray(at, at + size);
    };
    Readable.from(pieces()).pipe(response);
  });
  const gate = await openGate(port, { credentials: [token(port)], intercept: "all" });
  const expected = createHash("sha256").update(sent).digest("hex");
  const socket = await connectThrough(gate, `${host}:${port}`);
  const secure = tls.connect({ socket, servername: host, ca: gate.caCertificate });
  const outgoing = http.get({ createConnection: () => secure, headers: { host } });
  const [answer] = (await once(outgoing, "response")) as [http.IncomingMessage];
  expect(await digestOf(answer)).toBe(expected);
  secure.destroy();
  const session = await h2Session(gate, port, host);
  expect(await digestOf(session.request({ ":path": "/" }))).toBe(expected);
  session.destroy();
});

/** Five words that take 2.5 s. */
async function* slowWords(encode: (word: string) => string): AsyncGenerator<string> {
  for (const word of ["a", "b", "c", "d", "e"]) {
    await delay(500);
    yield encode(word);
  }
}

test("an upload may take longer than the answer that is waited for, in chunks and on both protocols", async () => {
  const { port } = await httpsUpstream((incoming, response) => {
    void bodyOf(incoming).then((body) => response.end(body));
  });
  const gate = await openGate(port, {
    credentials: [token(port)],
    limits: { responseTimeout: 1_500 },
  });
  const secure = await secureThrough(gate, port);
  secure.write(request("POST /", "Transfer-Encoding: chunked", "Connection: close"));
  const answer = bodyOf(secure);
  for await (const chunk of slowWords((word) => `1\r\n${word}\r\n`)) secure.write(chunk);
  secure.write("0\r\n\r\n");
  expect(await answer).toContain("abcde");
  const session = await h2Session(gate, port);
  const stream = session.request({ ":method": "POST", ":path": "/" });
  Readable.from(slowWords((word) => word)).pipe(stream);
  expect(await bodyOf(stream)).toBe("abcde");
  session.destroy();
});

test("an early answer ends the upload, and the client can go on", async () => {
  const { port } = await httpsUpstream((_incoming, response) => {
    response.writeHead(413);
    response.end("too large");
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const answer = await ask(gate, `https://good.test:${port}/`, {
    method: "POST",
    headers: { "transfer-encoding": "chunked" },
    body: Buffer.alloc(8_000_000, "x"),
  });
  expect([answer.status, answer.body]).toEqual([413, "too large"]);
});

test("a client that leaves ends its upload at the server; a server that breaks off ends the answer", async () => {
  let aborted!: () => void;
  const gone = new Promise<void>((resolve) => {
    aborted = resolve;
  });
  const { port } = await httpsUpstream((incoming, response) => {
    if (incoming.method === "POST")
      incoming
        .resume()
        .once("aborted", aborted)
        .on("error", () => undefined);
    else {
      response.writeHead(200, { "content-length": "100" });
      response.write("half");
      setTimeout(() => incoming.socket.destroy(), 20);
    }
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const secure = await secureThrough(gate, port);
  secure.write(`${request("POST /", "Content-Length: 3000000")}some`);
  setTimeout(() => secure.destroy(), 100);
  await gone;
  await expect(ask(gate, `https://good.test:${port}/`)).rejects.toThrow(/aborted|hang up|reset/i);
  const session = await h2Session(gate, port);
  const stream = session.request({ ":path": "/" });
  stream.resume();
  await expect(once(stream, "end")).rejects.toThrow();
  session.destroy();
});

test("a hundred streams of one HTTP/2 connection, with a slow one among them", async () => {
  let release!: () => void;
  const slow = new Promise<void>((resolve) => {
    release = resolve;
  });
  const port = await http2Upstream((stream, headers) => {
    const answer = (): void => {
      stream.respond({ ":status": 200 });
      stream.end(headers[":path"]);
    };
    if (headers[":path"] === "/0") void slow.then(answer);
    else answer();
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const session = await h2Session(gate, port);
  const first = bodyOf(session.request({ ":path": "/0" }));
  const others = Array.from({ length: 99 }, (_, i) =>
    bodyOf(session.request({ ":path": `/${i + 1}` })),
  );
  expect(await Promise.all(others)).toEqual(Array.from({ length: 99 }, (_, i) => `/${i + 1}`));
  release();
  expect(await first).toBe("/0");
  session.destroy();
});

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
