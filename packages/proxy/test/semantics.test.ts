import { once } from "node:events";
import http2 from "node:http2";
import { afterAll, expect, test } from "vitest";
import { h2Session } from "./support/client.ts";
import { closeAll, openGate, say, secureThrough, token } from "./support/gate.ts";
import { bodyOf, http2Upstream, httpsUpstream } from "./support/upstream.ts";

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
