import { once } from "node:events";
import http2 from "node:http2";
import net from "node:net";
import tls from "node:tls";
import { gzipSync } from "node:zlib";
import { afterAll, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import type { GateEvent, HttpRule } from "../src/index.ts";
import { ask, connectThrough } from "./support/client.ts";
import { closeAll, openGate, real, token } from "./support/gate.ts";
import {
  bodyOf,
  http2Upstream,
  httpUpstream,
  httpsUpstream,
  listening,
  upstreamAuthority,
} from "./support/upstream.ts";

afterAll(closeAll);

test("a credential is injected when the client sends none, and the phantom is swapped when it does", async () => {
  const seen: (string | undefined)[] = [];
  const { port } = await httpsUpstream((request, response) => {
    seen.push(request.headers.authorization);
    response.end("ok");
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const phantom = gate.env()["API_TOKEN"] ?? "";
  expect(phantom).toMatch(/^nono_\w{40}$/);
  await ask(gate, `https://good.test:${port}/`);
  await ask(gate, `https://good.test:${port}/`, {
    headers: { authorization: `Bearer ${phantom}` },
  });
  await ask(gate, `https://good.test:${port}/`, { headers: { authorization: "Bearer attackers" } });
  expect(seen).toEqual(Array(3).fill(`Bearer ${real}`));
});

test("every encoded form of the secret is masked in headers, bodies, gzip and trailers", async () => {
  const basic = Buffer.from(`user:${real}`).toString("base64");
  const forms = [
    real,
    encodeURIComponent(real),
    JSON.stringify(real)
      .slice(1, -1)
      .replaceAll("/", String.raw`\/`),
    Buffer.from(real).toString("hex"),
    Buffer.from(real).toString("base64"),
    Buffer.from(real).toString("base64url"),
    basic,
  ];
  const { port } = await httpsUpstream((request, response) => {
    response.setHeader("x-echo", real);
    if (request.url === "/gzip") {
      response.setHeader("content-encoding", "gzip");
      response.end(gzipSync(forms.join("\n")));
      return;
    }
    response.setHeader("trailer", "x-trailer");
    // Byte by byte: the secret is split over chunks everywhere.
    for (const byte of forms.join("\n")) response.write(byte);
    response.addTrailers({ "x-trailer": real });
    response.end();
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  for (const path of ["/plain", "/gzip"]) {
    const answer = await ask(gate, `https://good.test:${port}${path}`, {
      headers: { "accept-encoding": "gzip" },
    });
    expect(answer.headers["x-echo"]).toBe("*".repeat(real.length));
    for (const form of forms.slice(0, -1)) expect(answer.body).not.toContain(form);
    expect(
      Buffer.from(answer.body.split("\n").at(-1) ?? "", "base64").toString("latin1"),
    ).not.toContain(real.slice(4, -4));
    expect(answer.body.split("\n")).toHaveLength(forms.length);
    if (path === "/plain") expect(answer.trailers["x-trailer"]).toBe("*".repeat(real.length));
  }
});

test("a phantom sent to another host is refused and reported", async () => {
  let reached = 0;
  const { port } = await httpsUpstream((request, response) => {
    reached += 1;
    request.resume();
    request.once("end", () => response.end("reached"));
    request.once("error", () => undefined);
  });
  const gate = await openGate(port, { credentials: [token(port)], intercept: "all" });
  const phantom = gate.env()["API_TOKEN"] ?? "";
  const url = `https://other.test:${port}/`;
  const basic = Buffer.from(`x:${phantom}`).toString("base64");
  for (const attempt of [
    { headers: { "x-any": phantom } },
    { headers: { authorization: `Basic ${basic}` } },
    { path: `/?q=${phantom}` },
    { path: `/?q=%6e${phantom.slice(1)}` },
    { path: `/a/${phantom}/b` },
  ]) {
    const answer = await ask(gate, url, attempt);
    expect(answer.status).toBe(403);
    expect(JSON.parse(answer.body)).toMatchObject({ error: "ERR_NONO_PHANTOM_MISUSED" });
  }
  expect(reached).toBe(0);
  await ask(gate, url, { method: "POST", body: `{"token":"${phantom}"}` }).catch(() => undefined);
  expect(gate.violations.filter(({ code }) => code === "ERR_NONO_PHANTOM_MISUSED")).toHaveLength(6);
});

test("a phantom in a body is swapped in the body's own encoding", async () => {
  const { port } = await httpsUpstream((request, response) => {
    // What arrived is given back reversed: masking does not see it.
    const answer = async (): Promise<void> => {
      response.end((await bodyOf(request)).split("").toReversed().join(""));
    };
    void answer();
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const phantom = gate.env()["API_TOKEN"] ?? "";
  const send = async (type: string, body: string): Promise<string> => {
    const answer = await ask(gate, `https://good.test:${port}/`, {
      method: "POST",
      headers: { "content-type": type, "content-length": String(body.length) },
      body,
    });
    return answer.body.split("").toReversed().join("");
  };
  expect(await send("application/json", `{"t":"${phantom}"}`)).toBe(JSON.stringify({ t: real }));
  const form = await send("application/x-www-form-urlencoded", `t=${phantom}&u=1`);
  expect(form).toBe(`t=${encodeURIComponent(real)}&u=1`);
});

test("Host that differs from the destination gets 421, TRACE 405, a repeated Host 400", async () => {
  const { port } = await httpsUpstream((_request, response) => response.end("reached"));
  const gate = await openGate(port, { credentials: [token(port)] });
  const url = `https://good.test:${port}/`;
  const wrong = await ask(gate, url, { headers: { host: "evil.test" } });
  expect(wrong.status).toBe(421);
  expect((await ask(gate, url, { method: "TRACE" })).status).toBe(405);
});

test("HTTP/2 is spoken on both legs, with trailers, as gRPC needs", async () => {
  const port = await http2Upstream((stream, headers) => {
    stream.respond(
      { ":status": 200, "content-type": "application/grpc", "x-te": String(headers["te"]) },
      { waitForTrailers: true },
    );
    stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
    stream.pipe(stream);
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const socket = await connectThrough(gate, `good.test:${port}`);
  const secure = tls.connect({
    socket,
    servername: "good.test",
    ca: gate.caCertificate,
    ALPNProtocols: ["h2"],
  });
  const session = http2.connect(`https://good.test:${port}`, { createConnection: () => secure });
  const streams = Array.from({ length: 20 }, async (_, i) => {
    const stream = session.request({ ":method": "POST", ":path": "/svc", te: "trailers" });
    stream.end(`message ${i}`);
    const trailers = once(stream, "trailers") as Promise<[http2.IncomingHttpHeaders]>;
    const body = await bodyOf(stream);
    expect(body).toBe(`message ${i}`);
    expect((await trailers)[0]["grpc-status"]).toBe("0");
  });
  await Promise.all(streams);
  session.destroy();
});

test("server-sent events arrive one by one; a client that leaves ends the upstream request", async () => {
  let aborted!: () => void;
  const gone = new Promise<void>((resolve) => {
    aborted = resolve;
  });
  const { port } = await httpsUpstream((_request, response) => {
    response.writeHead(200, { "content-type": "text/event-stream" });
    response.write("data: one\n\n");
    response.once("close", aborted);
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const socket = await connectThrough(gate, `good.test:${port}`);
  const secure = tls.connect({ socket, servername: "good.test", ca: gate.caCertificate });
  secure.write("GET / HTTP/1.1\r\nHost: good.test\r\n\r\n");
  let text = "";
  while (!text.includes("data: one")) text += String(((await once(secure, "data")) as [Buffer])[0]);
  secure.destroy();
  await gone;
});

test("a WebSocket inside terminated TLS: phantoms swapped, secrets masked, misuse closes it", async () => {
  const { port, server } = await httpsUpstream((_request, response) => response.end());
  const received: string[] = [];
  new WebSocketServer({ server }).on("connection", (peer, request) => {
    received.push(request.headers.authorization ?? "");
    peer.on("message", (data) => {
      const text = (data as Buffer).toString();
      received.push(text.split("").toReversed().join(""));
      peer.send(`echo ${text}`);
    });
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const phantom = gate.env()["API_TOKEN"] ?? "";
  const socket = await connectThrough(gate, `good.test:${port}`);
  const client = new WebSocket(`wss://good.test:${port}/`, {
    createConnection: () =>
      tls.connect({ socket, servername: "good.test", ca: gate.caCertificate }),
  });
  await once(client, "open");
  client.send(`{"auth":"${phantom}"}`);
  const [message] = (await once(client, "message")) as [Buffer];
  expect(received[0]).toBe(`Bearer ${real}`);
  expect((received[1] ?? "").split("").toReversed().join("")).toBe(JSON.stringify({ auth: real }));
  expect(String(message)).toBe(`echo {"auth":"${"*".repeat(JSON.stringify(real).length - 2)}"}`);
  const big = "x".repeat(300_000);
  client.send(big);
  const [long] = (await once(client, "message")) as [Buffer];
  expect(String(long)).toBe(`echo ${big}`);
  client.terminate();
});

test("L7 rules judge the normal path; what servers read differently is refused", async () => {
  const { port } = await httpsUpstream((request, response) => response.end(request.url));
  const gate = await openGate(port, {
    rules: [{ host: `good.test:${port}`, allow: ["GET /repos/**"], deny: ["* /repos/*/secrets"] }],
  });
  const status = async (path: string, method = "GET"): Promise<number> =>
    (await ask(gate, `https://good.test:${port}/`, { path, method })).status;
  expect(await status("/repos/a/b")).toBe(200);
  expect(await status("/repos/a/b?x=../..")).toBe(200);
  expect(await status("/r%65pos/a")).toBe(200);
  expect(await status("/user")).toBe(403);
  expect(await status("/repos/a/secrets")).toBe(403);
  expect(await status("/repos/a%2fsecrets")).toBe(403);
  expect(await status("/repos/a/b", "DELETE")).toBe(403);
  for (const path of [
    "/repos/../user",
    "/repos/%2e%2e/user",
    "/repos//x",
    "/repos/..;/user",
    "/repos/%252e%252e/x",
    "/repos/\\..\\x",
    "/repos/%5c",
    "/repos/%00",
  ]) {
    expect(await status(path), path).toBe(400);
  }
});

test("a rate limit answers 429", async () => {
  const { port } = await httpsUpstream((_request, response) => response.end());
  const gate = await openGate(port, {
    rules: [{ host: `good.test:${port}`, rateLimit: { requests: 2, perSeconds: 3600 } }],
  });
  const statuses: number[] = [];
  for (let i = 0; i < 3; i += 1)
    statuses.push((await ask(gate, `https://good.test:${port}/`)).status);
  expect(statuses).toEqual([200, 200, 429]);
});

test("each rule of a host has a rate limit of its own, for the requests that it names", async () => {
  const { port } = await httpsUpstream((_request, response) => response.end());
  const host = `good.test:${port}`;
  const limit = (requests: number, ...of: string[]): object => ({
    host,
    rateLimit: { requests, perSeconds: 3600, of },
  });
  const rules = [limit(1, "POST /issues"), limit(2, "GET /search/**")] as HttpRule[];
  const gate = await openGate(port, { rules });
  const statuses = async (method: string, path: string, times: number): Promise<number[]> => {
    const all: number[] = [];
    for (let i = 0; i < times; i += 1)
      all.push((await ask(gate, `https://${host}${path}`, { method })).status);
    return all;
  };
  expect(await statuses("POST", "/issues", 2)).toEqual([200, 429]);
  // HEAD is GET, and an encoded slash may be one.
  expect(await statuses("HEAD", "/search%2fx", 1)).toEqual([200]);
  expect(await statuses("GET", "/search/code", 2)).toEqual([200, 429]);
  expect(await statuses("GET", "/issues", 3)).toEqual([200, 200, 200]);
});

test("a refusal is an answer that the agent can read: what, why, and who tells more", async () => {
  const { port } = await httpsUpstream((_request, response) => response.end());
  const rules = [{ host: `good.test:${port}`, allow: ["GET /a"] }];
  const gate = await openGate(port, { rules });
  const { status, headers, body } = await ask(gate, `https://good.test:${port}/b`);
  expect([status, headers["content-type"]]).toEqual([403, "application/json"]);
  expect(headers["x-nono-refused"]).toBe("ERR_NONO_RULE_DENIED");
  expect(JSON.parse(body)).toMatchObject({
    error: "ERR_NONO_RULE_DENIED",
    message: expect.stringContaining("no rule allows it") as string,
    hint: expect.stringContaining("nono why") as string,
  });
});

test("without a credential or a rule TLS is not terminated: the client sees the server's own certificate", async () => {
  const { port } = await httpsUpstream((_request, response) => response.end("ok"));
  const gate = await openGate(port);
  const socket = await connectThrough(gate, `good.test:${port}`);
  const secure = tls.connect({
    socket,
    servername: "good.test",
    ca: upstreamAuthority.certificate,
  });
  await once(secure, "secureConnect");
  expect(secure.authorized).toBe(true);
  socket.destroy();
});

test("an opaque tunnel with another server name is refused", async () => {
  const { port } = await httpsUpstream((_request, response) => response.end("ok"));
  const events: GateEvent[] = [];
  const gate = await openGate(port, { onEvent: (event) => events.push(event) });
  const socket = await connectThrough(gate, `good.test:${port}`);
  const secure = tls.connect({ socket, servername: "fronted.test", rejectUnauthorized: false });
  await once(secure, "error");
  expect(gate.violations.at(-1)).toMatchObject({
    code: "ERR_NONO_NAME_MISMATCH",
    value: "fronted.test",
  });
  expect(events.some(({ decision }) => decision === "deny")).toBe(true);
});

test("an untrusted upstream certificate stops the request before the credential is sent", async () => {
  const { port } = await httpsUpstream((_request, response) => response.end("reached"));
  const gate = await openGate(port, { credentials: [token(port)], tls: {} });
  const answer = await ask(gate, `https://good.test:${port}/`);
  expect(answer.status).toBe(502);
  expect(JSON.parse(answer.body)).toMatchObject({ error: "ERR_NONO_UPSTREAM_TLS" });
});

test("the proxy needs its token, and answers 407 without it", async () => {
  const gate = await openGate(1);
  const { port } = new URL(gate.env()["HTTPS_PROXY"] ?? "");
  for (const authorization of ["", "Proxy-Authorization: Basic bm9ubzp3cm9uZw==\r\n"]) {
    const socket = net.connect(Number(port), "127.0.0.1");
    socket.write(`CONNECT good.test:1 HTTP/1.1\r\nHost: good.test:1\r\n${authorization}\r\n`);
    const [answer] = (await once(socket, "data")) as [Buffer];
    expect(String(answer)).toMatch(/^HTTP\/1\.1 407 /);
    expect(String(answer)).toContain("Proxy-Authenticate");
  }
});

test("plain HTTP through the proxy: allowed hosts pass, a credential does not", async () => {
  const port = await httpUpstream((request, response) =>
    response.end(request.headers.authorization ?? "none"),
  );
  const gate = await openGate(port, { credentials: [token(port)] });
  const proxy = new URL(gate.env()["HTTP_PROXY"] ?? "");
  const socket = net.connect(Number(proxy.port), "127.0.0.1");
  const pair = Buffer.from(`nono:${proxy.password}`).toString("base64");
  socket.write(
    `GET http://good.test:${port}/ HTTP/1.1\r\nHost: good.test:${port}\r\nProxy-Authorization: Basic ${pair}\r\n\r\n`,
  );
  const [answer] = (await once(socket, "data")) as [Buffer];
  expect(String(answer)).toContain("none");
  socket.destroy();
});

test("a refused intent stops the request: no unlogged action", async () => {
  let reached = 0;
  const { port } = await httpsUpstream((_request, response) => {
    reached += 1;
    response.end();
  });
  const sink = { record: async () => Promise.reject(new Error("disk full")) };
  const gate = await openGate(port, { credentials: [token(port)], sink });
  expect((await ask(gate, `https://good.test:${port}/`)).status).toBe(503);
  expect(reached).toBe(0);
});

test("large bodies pass in both directions without being kept", async () => {
  const { port } = await httpsUpstream((request, response) => {
    if (request.method === "POST") {
      let length = 0;
      request.on("data", (chunk: Buffer) => {
        length += chunk.length;
      });
      request.once("end", () => response.end(String(length)));
    } else {
      response.setHeader("content-length", String(64 * 1024 * 1024));
      const piece = Buffer.alloc(1024 * 1024, "x");
      let left = 64;
      const more = (): void => {
        while (left > 0) {
          left -= 1;
          if (!response.write(piece)) return void response.once("drain", more);
        }
        response.end();
      };
      more();
    }
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const download = await ask(gate, `https://good.test:${port}/`);
  expect(download.body).toHaveLength(64 * 1024 * 1024);
  const upload = await ask(gate, `https://good.test:${port}/`, {
    method: "POST",
    body: Buffer.alloc(32 * 1024 * 1024, "y"),
  });
  expect(upload.body).toBe(String(32 * 1024 * 1024));
});

test("a server that speaks first is tunnelled", async () => {
  const port = await listening(net.createServer((peer) => void peer.end("SSH-2.0-test\r\n")));
  const gate = await openGate(port);
  const socket = await connectThrough(gate, `good.test:${port}`);
  socket.resume();
  const [banner] = (await once(socket, "data")) as [Buffer];
  expect(String(banner)).toBe("SSH-2.0-test\r\n");
  socket.destroy();
});
