import { once } from "node:events";
import { afterAll, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { resign } from "../../src/credentials/sigv4-resign.ts";
import { parseAuthority } from "../../src/net/host.ts";
import { ask } from "../support/client.ts";
import { closeAll, openGate, secureThrough, token } from "../support/gate.ts";
import { bodyOf, httpsUpstream } from "../support/upstream.ts";

// The phantom of a key pair is its key id. It stands for the pair in signatures: wherever else the agent writes it, no
// part of the pair may take its place, or the server keeps the secret key (as metadata, as a file) for anybody to read.

afterAll(closeAll);

const keys = JSON.stringify({
  accessKeyId: "AKIAIOSFODNN7EXAMPLE",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
});
const scope = "20130524/us-east-1/s3/aws4_request";
const zeroes = "0".repeat(64);

const signedBy = (id: string, headers: string): Record<string, string> => ({
  authorization: `AWS4-HMAC-SHA256 Credential=${id}/${scope}, SignedHeaders=${headers}, Signature=${zeroes}`,
  "x-amz-date": "20130524T000000Z",
  "x-amz-content-sha256": "UNSIGNED-PAYLOAD",
});

test("the secret key travels in no place, whatever the phantom is written into", async () => {
  const seen: string[] = [];
  const { port, server } = await httpsUpstream((request, response) => {
    void bodyOf(request).then((body) => {
      seen.push(JSON.stringify([request.url, request.rawHeaders, body, request.rawTrailers]));
      return response.end();
    });
  });
  const sockets = new WebSocketServer({ server });
  sockets.on("connection", (peer) => {
    peer.on("message", (data: Buffer) => seen.push(data.toString()));
  });
  const source = { description: "keys", read: async () => Buffer.from(keys) };
  const gate = await openGate(port, {
    credentials: [token(port, { name: "AWS", scheme: "aws-sigv4", source })],
  });
  const id = gate.env()["AWS_ACCESS_KEY_ID"] ?? "";
  const url = `https://good.test:${port}/`;
  const headers = { ...signedBy(id, "host;x-amz-date;x-amz-meta-a"), "x-amz-meta-a": id };
  await ask(gate, `${url}?x=${id}`, { headers });
  expect(seen.join()).toContain(`Credential=AKIAIOSFODNN7EXAMPLE/${scope}, SignedHeaders=host;x-`);
  const body = `my id is ${id}`;
  const length = { "content-length": body.length };
  const kept = await ask(gate, url, { method: "PUT", body, headers: { ...headers, ...length } });
  expect(JSON.parse(kept.body)).toMatchObject({ error: "ERR_NONO_PHANTOM_MISUSED" });
  const chunked = { ...headers, "transfer-encoding": "chunked" };
  await ask(gate, url, { method: "PUT", body, headers: chunked }).catch(() => undefined);
  const secure = await secureThrough(gate, port);
  const options = { createConnection: () => secure, headers };
  const client = new WebSocket(`wss://good.test:${port}/`, options);
  client.on("error", () => undefined);
  await once(client, "open");
  client.send(id);
  await once(client, "close");
  expect(seen).toHaveLength(1);
  expect(seen.join()).not.toMatch(/wJalr|K7MDENG|EXAMPLEKEY/);
});

test("a signature that would hold at another host is not made", async () => {
  const endpoint = parseAuthority("examplebucket.s3.amazonaws.com", 443);
  const draft = { method: "GET", path: "/", body: undefined };
  const headers = Object.entries(signedBy("AKIAPHANTOM", "x-amz-date")).flat();
  const query = `/?X-Amz-Credential=AKIAPHANTOM/${scope}&X-Amz-Date=20130524T000000Z&X-Amz-SignedHeaders=x-a`;
  const refused = { code: "ERR_NONO_PROTOCOL" };
  await expect(resign({ ...draft, headers }, endpoint, keys)).rejects.toMatchObject(refused);
  const presigned = resign({ ...draft, path: query, headers: [] }, endpoint, keys);
  await expect(presigned).rejects.toMatchObject(refused);
});
