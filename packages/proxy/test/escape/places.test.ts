import { once } from "node:events";
import { gzipSync } from "node:zlib";
import { afterAll, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { ask, h2Session } from "../support/client.ts";
import { closeAll, openGate, real, say, secureThrough, token } from "../support/gate.ts";
import { bodyOf, httpsUpstream } from "../support/upstream.ts";

// The agent has the value written into what its host keeps, and reads it where nothing is scrubbed. A credential that
// names its places is not replaced anywhere else.

afterAll(closeAll);

const length = (body: string | Buffer): { "content-length": number } => ({
  "content-length": Buffer.byteLength(body),
});

test("in a body that the host keeps: refused where bodies are no place, replaced where they are", async () => {
  let kept = "";
  const { port, server } = await httpsUpstream((request, response) => {
    void bodyOf(request).then((body) => {
      if (request.method === "POST") kept += body;
      return response.end(request.method === "POST" ? "" : kept);
    });
  });
  const sockets = new WebSocketServer({ server });
  sockets.on("connection", (peer) =>
    peer.on("message", (data) => (kept += (data as Buffer).toString())),
  );
  const places = ["header"] as const;
  const gate = await openGate(port, { credentials: [token(port, { places })], intercept: "all" });
  const phantom = gate.env()["API_TOKEN"] ?? "";
  const url = `https://good.test:${port}`;
  const post = async (body: string | Buffer, headers = {}): Promise<unknown> => {
    const answer = await ask(gate, url, { method: "POST", body, headers }).catch(() => undefined);
    return answer && JSON.parse(answer.body);
  };
  const misused = { error: "ERR_NONO_PHANTOM_MISUSED" };
  expect(await post(phantom, length(phantom))).toMatchObject(misused);
  const zipped = gzipSync(phantom);
  expect(await post(zipped, { "content-encoding": "gzip", ...length(zipped) })).toMatchObject(
    misused,
  );
  await post(phantom, { "transfer-encoding": "chunked" });
  const target = await ask(gate, `${url}/?q=${phantom}`);
  expect(JSON.parse(target.body)).toMatchObject(misused);
  const secure = await secureThrough(gate, port);
  const client = new WebSocket(`wss://good.test:${port}/`, { createConnection: () => secure });
  client.on("error", () => undefined);
  await once(client, "open");
  client.send(phantom);
  await once(client, "close");
  expect(gate.violations).toHaveLength(5);
  expect((await ask(gate, `https://other.test:${port}/`)).body).toBe("");
  // Its own place, and fields, are where the value belongs; a body without it passes.
  const session = await h2Session(gate, port);
  const stream = session.request({ ":method": "POST", ":path": "/", "x-any": phantom });
  stream.end("words");
  await bodyOf(stream);
  session.destroy();
  expect(kept).toBe("words");

  // The default, for APIs that take their token in the body: what is kept is the value.
  const wide = await openGate(port, { credentials: [token(port)], intercept: "all" });
  const body = wide.env()["API_TOKEN"] ?? "";
  await ask(wide, url, { method: "POST", body, headers: length(body) });
  expect((await ask(wide, `https://other.test:${port}/`)).body).toBe(`words${real}`);
});

test("in trailers, and for a place that is none", async () => {
  const { port } = await httpsUpstream((request, response) => {
    void bodyOf(request).then(
      () => response.end(JSON.stringify(request.rawTrailers)),
      () => undefined,
    );
  });
  const gate = await openGate(port, { credentials: [token(port, { places: ["body"] })] });
  const phantom = gate.env()["API_TOKEN"] ?? "";
  const head = "POST / HTTP/1.1\r\nHost: good.test\r\nTransfer-Encoding: chunked\r\n\r\n";
  await say(gate, port, `${head}1\r\nx\r\n0\r\nx-t: ${phantom}\r\n\r\n`, () => true);
  expect(gate.violations.map(({ code }) => code)).toEqual(["ERR_NONO_PHANTOM_MISUSED"]);
  const places = ["cookie"] as unknown as ["header"];
  await expect(openGate(port, { credentials: [token(port, { places })] })).rejects.toThrow(
    expect.objectContaining({ code: "ERR_NONO_INVALID_OPTION", value: "cookie" }),
  );
});
