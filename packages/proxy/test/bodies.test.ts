import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import http from "node:http";
import { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import tls from "node:tls";
import { afterAll, expect, test } from "vitest";
import { ask, connectThrough, h2Session } from "./support/client.ts";
import { closeAll, openGate, say, secureThrough, token } from "./support/gate.ts";
import { bodyOf, httpsUpstream } from "./support/upstream.ts";

// Bodies on their way through a gate that terminates: whole, at any pace, and ended from either side.

afterAll(closeAll);

const request = (line: string, ...headers: string[]): string =>
  `${[`${line} HTTP/1.1`, "Host: good.test", ...headers].join("\r\n")}\r\n\r\n`;

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
