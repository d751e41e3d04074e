import { Readable } from "node:stream";
import { afterAll, expect, test } from "vitest";
import { resign } from "../src/credentials/sigv4-resign.ts";
import { type Gate, type GateOptions, createGate } from "../src/index.ts";
import { parseAuthority } from "../src/net/host.ts";
import { ask } from "./support/client.ts";
import {
  bodyOf,
  closeUpstreams,
  httpUpstream,
  httpsUpstream,
  loopback,
  upstreamAuthority,
} from "./support/upstream.ts";

type Credential = NonNullable<GateOptions["credentials"]>[number];
const gates: Gate[] = [];
afterAll(async () => {
  await Promise.all(gates.map((gate) => gate.close()));
  await closeUpstreams();
});

const secret = "value-of-the-credential";
const fixed = { description: "a test value", read: async () => Buffer.from(secret) };

async function openGate(
  port: number,
  credential: Omit<Credential, "name" | "proxyTo">,
): Promise<Gate> {
  const gate = createGate({
    allow: [`good.test:${port}`, `127.0.0.1:${port}`],
    resolver: loopback,
    tls: { ca: [upstreamAuthority.certificate] },
    credentials: [{ name: "TOKEN", proxyTo: `good.test:${port}`, ...credential }],
  });
  gates.push(gate);
  await gate.listen();
  return gate;
}

test.each<[Credential["scheme"], string, string]>([
  [{ type: "header", header: "X-Api-Key" }, "x-api-key", secret],
  [
    { type: "header", header: "Authorization", template: "token {}" },
    "authorization",
    `token ${secret}`,
  ],
  [
    { type: "basic", username: "u" },
    "authorization",
    `Basic ${Buffer.from(`u:${secret}`).toString("base64")}`,
  ],
  [{ type: "cookie", cookie: "sid" }, "cookie", `a=1; sid=${secret}`],
  [{ type: "query", parameter: "key" }, ":url", `/p?x=1&key=${secret}`],
  [{ type: "path", prefix: "/bot{}" }, ":url", `/bot${secret}/p?x=1&key=mine`],
])("scheme %j", async (scheme, field, expected) => {
  let seen: string | undefined;
  const { port } = await httpsUpstream((request, response) => {
    seen = field === ":url" ? request.url : String(request.headers[field]);
    response.end();
  });
  const gate = await openGate(port, { ...(scheme ? { scheme } : {}), source: fixed });
  await ask(gate, `https://good.test:${port}/p?x=1&key=mine`, {
    headers: { cookie: "a=1; sid=mine" },
  });
  expect(seen).toBe(expected);
});

test("a 401 makes the gate read the source again, once", async () => {
  let reads = 0;
  const tokens: (string | undefined)[] = [];
  const { port } = await httpsUpstream((request, response) => {
    tokens.push(request.headers.authorization);
    response.statusCode = request.headers.authorization === "Bearer generation-2" ? 200 : 401;
    response.end();
  });
  const read = async (): Promise<Buffer> => {
    reads += 1;
    return Buffer.from(`generation-${reads}`);
  };
  const gate = await openGate(port, { source: { description: "rotating", read } });
  expect((await ask(gate, `https://good.test:${port}/`)).status).toBe(200);
  expect(tokens).toEqual(["Bearer generation-1", "Bearer generation-2"]);
});

test("a source that has nothing new is not asked again for every 401", async () => {
  let reads = 0;
  const { port } = await httpsUpstream((_request, response) => {
    response.statusCode = 401;
    response.end();
  });
  const read = async (): Promise<Buffer> => {
    reads += 1;
    return Buffer.from("always-the-same");
  };
  const gate = await openGate(port, { source: { description: "fixed", read } });
  for (let i = 0; i < 5; i += 1) {
    expect((await ask(gate, `https://good.test:${port}/`)).status).toBe(401);
  }
  expect(reads).toBe(2);
});

test("a value is read again when its time is over, and overwritten when it is not needed", async () => {
  const given: Buffer[] = [];
  const { port } = await httpsUpstream((_request, response) => response.end());
  const read = async (): Promise<Buffer> => {
    given.push(Buffer.from(`generation-${given.length}`));
    return given.at(-1) as Buffer;
  };
  const gate = await openGate(port, { source: { description: "short-lived", ttl: 300, read } });
  const url = `https://good.test:${port}/`;
  await ask(gate, url);
  expect(given.map(String)).toEqual(["generation-0"]);
  await new Promise((resolve) => setTimeout(resolve, 400));
  await ask(gate, url);
  const zeroes = "\0".repeat("generation-0".length);
  expect(given.map(String)).toEqual([zeroes, "generation-1"]);
  await gate.close();
  expect(given.map(String)).toEqual([zeroes, zeroes]);
});

test("OAuth 2.0: an access token is fetched with the client's secret and presented", async () => {
  const forms: string[] = [];
  const tokenPort = await httpUpstream((request, response) => {
    const answer = async (): Promise<void> => {
      forms.push(await bodyOf(request));
      response.setHeader("content-type", "application/json");
      response.end('{"access_token":"issued-access-token","expires_in":3600}');
    };
    void answer();
  });
  const { port } = await httpsUpstream((request, response) =>
    response.end(request.headers.authorization),
  );
  const client = JSON.stringify({ clientId: "app", clientSecret: "client-secret-value" });
  const gate = await openGate(port, {
    scheme: { type: "oauth2", tokenUrl: `http://127.0.0.1:${tokenPort}/token`, scope: "read" },
    source: { description: "client", read: async () => Buffer.from(client) },
  });
  for (let i = 0; i < 2; i += 1) {
    const { body } = await ask(gate, `https://good.test:${port}/`);
    expect(body).toBe(`Bearer ${"*".repeat("issued-access-token".length)}`);
  }
  expect(forms).toEqual([
    "grant_type=client_credentials&client_id=app&client_secret=client-secret-value&scope=read",
  ]);
});

// The worked examples of the AWS documentation, "Authenticating Requests (AWS Signature Version 4)" for S3.
const exampleKeys = JSON.stringify({
  accessKeyId: "AKIAIOSFODNN7EXAMPLE",
  secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
});
const phantomScope = "AKIAPHANTOMPHANTOM22/20130524/us-east-1/s3/aws4_request";
const zeroes = "0".repeat(64);

test("SigV4 in the header: AWS's GET example", async () => {
  const hash = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
  const headers = [
    "range",
    "bytes=0-9",
    "x-amz-content-sha256",
    hash,
    "x-amz-date",
    "20130524T000000Z",
    "authorization",
    `AWS4-HMAC-SHA256 Credential=${phantomScope}, SignedHeaders=host;range;x-amz-content-sha256;x-amz-date, Signature=${zeroes}`,
  ];
  const endpoint = parseAuthority("examplebucket.s3.amazonaws.com", 443);
  const draft = { method: "GET", path: "/test.txt", headers, body: undefined };
  const signed = await resign(draft, endpoint, exampleKeys);
  expect(signed.headers.at(-1)).toMatch(
    /Credential=AKIAIOSFODNN7EXAMPLE\/.*Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41$/,
  );
});

test("SigV4 in the query: AWS's presigned example", async () => {
  const endpoint = parseAuthority("examplebucket.s3.amazonaws.com", 443);
  const query = new URLSearchParams({
    "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
    "X-Amz-Credential": phantomScope,
    "X-Amz-Date": "20130524T000000Z",
    "X-Amz-Expires": "86400",
    "X-Amz-SignedHeaders": "host",
    "X-Amz-Signature": zeroes,
  });
  const draft = {
    method: "GET",
    path: `/test.txt?${query.toString()}`,
    headers: [],
    body: undefined,
  };
  const { path } = await resign(draft, endpoint, exampleKeys);
  expect(path).toMatch(
    /X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404$/,
  );
});

test("SigV4 chunk by chunk: AWS's streaming example", async () => {
  const chunk = (size: number): string =>
    `${size.toString(16)};chunk-signature=${zeroes}\r\n${"a".repeat(size)}\r\n`;
  const headers = [
    "content-encoding",
    "aws-chunked",
    "content-length",
    "66824",
    "x-amz-content-sha256",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "x-amz-date",
    "20130524T000000Z",
    "x-amz-decoded-content-length",
    "66560",
    "x-amz-storage-class",
    "REDUCED_REDUNDANCY",
    "authorization",
    `AWS4-HMAC-SHA256 Credential=${phantomScope},SignedHeaders=content-encoding;content-length;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class,Signature=${zeroes}`,
  ];
  const endpoint = parseAuthority("s3.amazonaws.com", 443);
  const body = Readable.from([Buffer.from(chunk(65536)), Buffer.from(chunk(1024) + chunk(0))]);
  const draft = { method: "PUT", path: "/examplebucket/chunkObject.txt", headers, body };
  const signed = await resign(draft, endpoint, exampleKeys);
  expect(signed.headers.at(-1)).toContain(
    "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
  );
  const text = await bodyOf(signed.body ?? Readable.from([]));
  expect(text.match(/chunk-signature=\w+/g)).toEqual([
    "chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648",
    "chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497",
    "chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9",
  ]);
});

test("SigV4 chunk by chunk with a trailing checksum: AWS's example", async () => {
  const chunk = (size: number): string =>
    `${size.toString(16)};chunk-signature=${zeroes}\r\n${size > 0 ? `${"a".repeat(size)}\r\n` : ""}`;
  const headers = [
    "content-encoding",
    "aws-chunked",
    "x-amz-content-sha256",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER",
    "x-amz-date",
    "20130524T000000Z",
    "x-amz-decoded-content-length",
    "66560",
    "x-amz-storage-class",
    "REDUCED_REDUNDANCY",
    "x-amz-trailer",
    "x-amz-checksum-crc32c",
    "authorization",
    `AWS4-HMAC-SHA256 Credential=${phantomScope},SignedHeaders=content-encoding;host;x-amz-content-sha256;x-amz-date;x-amz-decoded-content-length;x-amz-storage-class;x-amz-trailer,Signature=${zeroes}`,
  ];
  const trailer = `x-amz-checksum-crc32c:sOO8/Q==\r\nx-amz-trailer-signature:${zeroes}\r\n\r\n`;
  const whole = Buffer.from(chunk(65536) + chunk(1024) + chunk(0) + trailer);
  const endpoint = parseAuthority("s3.amazonaws.com", 443);
  for (const size of [whole.length, 1_000, 7]) {
    const pieces = Array.from({ length: Math.ceil(whole.length / size) }, (_, i) =>
      whole.subarray(i * size, (i + 1) * size),
    );
    const draft = {
      method: "PUT",
      path: "/examplebucket/chunkObject.txt",
      headers,
      body: Readable.from(pieces),
    };
    const signed = await resign(draft, endpoint, exampleKeys);
    expect(signed.headers.at(-1)).toContain(
      "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
    );
    const text = await bodyOf(signed.body ?? Readable.from([]));
    expect(text).toHaveLength(whole.length);
    expect(text.match(/signature[=:]\w+/g)).toEqual([
      "signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
      "signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
      "signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
      "signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435",
    ]);
  }
});

test("SigV4: a chunk that is malformed, or bytes after the end, break the upload off", async () => {
  const endpoint = parseAuthority("s3.amazonaws.com", 443);
  const headers = [
    "x-amz-content-sha256",
    "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
    "x-amz-date",
    "20130524T000000Z",
    "authorization",
    `AWS4-HMAC-SHA256 Credential=${phantomScope},SignedHeaders=host,Signature=${zeroes}`,
  ];
  const end = `0;chunk-signature=${zeroes}\r\n\r\n`;
  const endless = `0;chunk-signature=${zeroes}\r\n${"x-a: b\r\n".repeat(4_000)}`;
  const texts = [
    "nothing\r\n",
    "5\r\nabcde\r\n",
    end + end,
    "5;chunk-signature=0\r\n",
    "3",
    endless,
  ];
  for (const text of texts) {
    const body = Readable.from([Buffer.from(text)]);
    const draft = { method: "PUT", path: "/x", headers, body };
    const signed = await resign(draft, endpoint, exampleKeys);
    await expect(bodyOf(signed.body ?? body), text).rejects.toMatchObject({
      code: "ERR_NONO_PROTOCOL",
    });
  }
});

test("a value that is no pair of AWS keys is named as such, and not quoted", async () => {
  const { port } = await httpsUpstream((_request, response) => response.end());
  const source = { description: "a test value", read: async () => Buffer.from("not-json-at-all") };
  const gate = await openGate(port, { scheme: "aws-sigv4", source });
  const answer = await ask(gate, `https://good.test:${port}/`);
  expect(JSON.parse(answer.body)).toMatchObject({ error: "ERR_NONO_CREDENTIAL_INVALID" });
  expect(answer.body).not.toContain("not-json");
});
