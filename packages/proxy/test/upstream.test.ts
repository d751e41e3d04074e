import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import tls from "node:tls";
import { afterAll, describe, expect, test } from "vitest";
import { WebSocket, WebSocketServer } from "ws";
import { type Gate, type GateOptions, createGate } from "../src/index.ts";
import { parseHost } from "../src/net/host.ts";
import { CertificateAuthority } from "../src/tls/authority.ts";
import { ask, connectThrough } from "./support/client.ts";
import { closeAll, openGate, token } from "./support/gate.ts";
import { bodyOf, httpsUpstream, listening, upstreamAuthority } from "./support/upstream.ts";

// How the gate meets servers: TLS identities, sessions, proxies of its own, and token endpoints.

const directory = mkdtempSync(path.join(tmpdir(), "nono-upstream-"));
const at = (name: string): string => path.join(directory, name);
const children: ChildProcess[] = [];
afterAll(async () => {
  for (const child of children) child.kill("SIGKILL");
  await closeAll();
  rmSync(directory, { recursive: true });
});

function openssl(...args: string[]): void {
  const { status, stderr } = spawnSync("openssl", args, { encoding: "utf8" });
  if (status !== 0) throw new Error(stderr);
}

const newKey = "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -x509".split(" ");
const pem = (name: string): string => readFileSync(at(name), "utf8");

/** A certificate of our own making. */
function certificate(name: string, ...more: string[]): { cert: string; key: string } {
  openssl(
    ...newKey,
    "-subj",
    `/CN=${name}`,
    "-keyout",
    at(`${name}.key`),
    "-out",
    at(`${name}.pem`),
    ...more,
  );
  return { cert: pem(`${name}.pem`), key: pem(`${name}.key`) };
}

test("a client certificate is shown to its host, and to no other", async () => {
  const identity = certificate("agent-of-the-user");
  const seen: string[] = [];
  const server = https.createServer(
    {
      requestCert: true,
      rejectUnauthorized: false,
      ca: identity.cert,
      SNICallback: (name, done) => done(null, upstreamAuthority.contextFor(parseHost(name))),
    },
    (request, response) => {
      const { subject } = (request.socket as tls.TLSSocket).getPeerCertificate();
      seen.push(`${request.headers.host?.split(":")[0]} ${String(subject?.CN)}`);
      response.end();
    },
  );
  const port = await listening(server);
  const gate = await openGate(port, {
    intercept: "all",
    tls: {
      ca: [upstreamAuthority.certificate],
      // Written as a user might: names are compared in their canonical form.
      clientCertificates: { "Good.Test.": identity },
    },
  });
  await ask(gate, `https://good.test:${port}/`);
  await ask(gate, `https://other.test:${port}/`);
  expect(seen).toEqual(["good.test agent-of-the-user", "other.test undefined"]);
});

test("what is no certificate or no host is refused when the gate is made", () => {
  for (const clientCertificates of [
    { "good.test": { cert: "nonsense", key: "nonsense" } },
    { "https://good.test": certificate("unused") },
  ]) {
    const make = (): Gate => createGate({ allow: [], tls: { clientCertificates } });
    expect(make).toThrow(expect.objectContaining({ code: "ERR_NONO_INVALID_OPTION" }));
  }
  expect(() => createGate({ allow: [], tls: { ca: ["nonsense"] } })).toThrow(
    expect.objectContaining({ code: "ERR_NONO_INVALID_OPTION" }),
  );
});

test.each<[string, string[]]>([
  ["another name", ["-addext", "subjectAltName=DNS:evil.test"]],
  ["no name", []],
  ["an address for a name", ["-addext", "subjectAltName=IP:127.0.0.1"]],
])("a server whose certificate is for %s gets no request", async (what, more) => {
  const name = what.replaceAll(" ", "-");
  const pair = certificate(name, ...more);
  let reached = 0;
  const server = https.createServer(pair, (_request, response) => {
    reached += 1;
    response.end();
  });
  const port = await listening(server);
  // Even where it is trusted as a root.
  const gate = await openGate(port, { credentials: [token(port)], tls: { ca: [pair.cert] } });
  const answer = await ask(gate, `https://good.test:${port}/`);
  expect(answer.status).toBe(502);
  expect(JSON.parse(answer.body)).toMatchObject({ error: "ERR_NONO_UPSTREAM_TLS" });
  expect(reached).toBe(0);
});

test("a server that never finishes its handshake is given up", async () => {
  const port = await listening(net.createServer((peer) => void peer.on("error", () => undefined)));
  const gate = await openGate(port, {
    credentials: [token(port)],
    limits: { connectTimeout: 300 },
  });
  const answer = await ask(gate, `https://good.test:${port}/`);
  expect(JSON.parse(answer.body)).toMatchObject({ error: "ERR_NONO_UPSTREAM_TLS" });
});

test("TLS sessions are resumed on both legs", async () => {
  const upstream: boolean[] = [];
  const { port, server } = await httpsUpstream((_request, response) => {
    response.setHeader("connection", "close");
    response.end();
  });
  server.on("secureConnection", (socket) => upstream.push(socket.isSessionReused()));
  const gate = await openGate(port, { credentials: [token(port)] });
  let session: Buffer | undefined;
  const fetchOnce = async (): Promise<boolean> => {
    const socket = await connectThrough(gate, `good.test:${port}`);
    const secure = tls.connect({
      socket,
      servername: "good.test",
      ca: gate.caCertificate,
      ...(session ? { session } : {}),
    });
    secure.on("session", (ticket: Buffer) => {
      session = ticket;
    });
    await once(secure, "secureConnect");
    const reused = secure.isSessionReused();
    secure.write("GET / HTTP/1.1\r\nHost: good.test\r\nConnection: close\r\n\r\n");
    secure.resume();
    await once(secure, "close");
    return reused;
  };
  expect([await fetchOnce(), await fetchOnce()]).toEqual([false, true]);
  expect(upstream).toEqual([false, true]);
});

test("certificates are kept for the names that are used, and not for ever more of them", () => {
  const authority = new CertificateAuthority();
  const contextFor = (name: string): unknown => authority.contextFor(parseHost(name));
  const [first, second] = [contextFor("first.test"), contextFor("second.test")];
  for (let i = 0; i < 600; i += 1) {
    contextFor(`${i}.many.test`);
    expect(contextFor("first.test")).toBe(first);
  }
  expect(contextFor("second.test")).not.toBe(second);
});

test("the gate's certificates satisfy OpenSSL's strictest reading", async () => {
  const gate = await openGate(1);
  writeFileSync(at("ca.pem"), gate.caCertificate);
  for (const name of ["good.test", "127.0.0.1", "2606:4700::1111", `${"a".repeat(63)}.test`]) {
    const { CertificateAuthority } = await import("../src/tls/authority.ts");
    const authority = new CertificateAuthority();
    writeFileSync(at("root.pem"), authority.certificate);
    writeFileSync(at("leaf.pem"), authority.leafFor(parseHost(name)));
    const check = /^[\d.]+$|:/.test(name) ? "-verify_ip" : "-verify_hostname";
    const args = ["-x509_strict", "-purpose", "sslserver", check, name];
    openssl("verify", ...args, "-CAfile", at("root.pem"), at("leaf.pem"));
  }
  openssl("verify", "-x509_strict", "-CAfile", at("ca.pem"), at("ca.pem"));
});

const client = JSON.stringify({
  clientId: "app",
  clientSecret: "client-secret-value",
  refreshToken: "refresh-token-1",
});

/** A token endpoint that rotates refresh tokens and gives short-lived access tokens. */
async function tokenServer(): Promise<{ port: number; forms: URLSearchParams[] }> {
  const forms: URLSearchParams[] = [];
  const { port } = await httpsUpstream((request, response) => {
    const answer = async (): Promise<void> => {
      const form = new URLSearchParams(await bodyOf(request));
      forms.push(form);
      const n = forms.length;
      response.setHeader("content-type", "application/json");
      if (form.get("refresh_token") !== `refresh-token-${n}`) response.statusCode = 400;
      const tokens = { access_token: `access-token-${n}`, refresh_token: `refresh-token-${n + 1}` };
      response.end(JSON.stringify({ ...tokens, token_type: "bearer", expires_in: 3600 }));
    };
    void answer();
  });
  return { port, forms };
}

test("OAuth 2.0 by refresh token: used once, rotated, asked again after a 401", async () => {
  const { port: tokenPort, forms } = await tokenServer();
  const seen: (string | undefined)[] = [];
  const { port } = await httpsUpstream((request, response) => {
    seen.push(request.headers.authorization);
    response.statusCode = request.headers.authorization === "Bearer access-token-1" ? 401 : 200;
    response.end(`refresh-token-2 ${request.headers.authorization}`);
  });
  const gate = await openGate(port, {
    credentials: [
      token(port, {
        scheme: { type: "oauth2", tokenUrl: `https://localhost:${tokenPort}/token`, scope: "read" },
        source: { description: "client", read: async () => Buffer.from(client) },
      }),
    ],
  });
  const first = await ask(gate, `https://good.test:${port}/`);
  const second = await ask(gate, `https://good.test:${port}/`);
  expect([first.status, second.status]).toEqual([200, 200]);
  expect(seen).toEqual(["1", "2", "2"].map((n) => `Bearer access-token-${n}`));
  expect(forms.map((form) => [form.get("grant_type"), form.get("refresh_token")])).toEqual([
    ["refresh_token", "refresh-token-1"],
    ["refresh_token", "refresh-token-2"],
  ]);
  expect(first.body).toBe(`${"*".repeat(15)} Bearer ${"*".repeat(14)}`);
});

const withTokenUrl = (tokenUrl: string): Gate =>
  createGate({
    allow: ["good.test"],
    credentials: [token(443, { scheme: { type: "oauth2", tokenUrl } })],
  });

test("a token endpoint in the clear is refused, unless it is this machine", () => {
  for (const url of ["http://login.test/token", "ftp://login.test/", "login.test/token", ""]) {
    expect(() => withTokenUrl(url), url).toThrow(
      expect.objectContaining({ code: "ERR_NONO_INVALID_OPTION" }),
    );
  }
  for (const url of [
    "https://login.test/token",
    "http://127.0.0.1:8080/token",
    "http://localhost/",
  ]) {
    expect(() => withTokenUrl(url), url).not.toThrow();
  }
});

const tinyproxy = spawnSync("sh", ["-c", "command -v tinyproxy"]).status === 0;
if (!tinyproxy) console.log("SKIPPED: upstreamProxy: tinyproxy is not installed");

async function startTinyproxy(): Promise<{ port: number; log: () => string }> {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as net.AddressInfo;
  server.close();
  const log = at(`tinyproxy-${port}.log`);
  writeFileSync(
    at(`tinyproxy-${port}.conf`),
    `Port ${port}\nListen 127.0.0.1\nTimeout 60\nMaxClients 50\nLogFile "${log}"\nLogLevel Info\nBasicAuth user pass\n`,
  );
  const child = spawn("tinyproxy", ["-d", "-c", at(`tinyproxy-${port}.conf`)], {
    stdio: "ignore",
  });
  children.push(child);
  for (let tries = 0; tries < 100; tries += 1) {
    const socket = net.connect(port, "127.0.0.1");
    const open = await new Promise((resolve) => {
      socket.once("connect", () => resolve(true)).once("error", () => resolve(false));
    });
    socket.destroy();
    if (open === true) break;
    await new Promise((resolve) => {
      setTimeout(resolve, 50);
    });
  }
  return { port, log: () => readFileSync(log, "utf8") };
}

describe.skipIf(!tinyproxy)("through a proxy of the user's network (tinyproxy)", () => {
  // Names are the proxy's to resolve: asking here would be a leak, and often impossible.
  const noResolver = { resolve: async () => Promise.reject(new Error("asked")) };
  const through = (upstreamProxy: string, port: number): Partial<GateOptions> => ({
    upstreamProxy,
    resolver: noResolver,
    allow: [`localhost:${port}`],
    credentials: [token(port, { proxyTo: `localhost:${port}` })],
  });

  test("requests, WebSockets, opaque tunnels and token requests all take it", async () => {
    const { port: proxyPort, log } = await startTinyproxy();
    const { port, server } = await httpsUpstream((request, response) =>
      response.end(request.headers.authorization?.slice(0, 7)),
    );
    new WebSocketServer({ server }).on("connection", (peer) => peer.send("hello"));
    const { port: opaque } = await httpsUpstream((_request, response) => response.end("opaque"));
    const { port: tokenPort, forms } = await tokenServer();
    const { port: oauth } = await httpsUpstream((request, response) =>
      response.end(request.headers.authorization),
    );
    const url = `http://user:pass@127.0.0.1:${proxyPort}`;
    const gate = await openGate(port, {
      ...through(url, port),
      allow: [`localhost:${port}`, `localhost:${opaque}`, `localhost:${oauth}`],
      credentials: [
        token(port, { proxyTo: `localhost:${port}` }),
        {
          name: "OAUTH",
          proxyTo: `localhost:${oauth}`,
          scheme: { type: "oauth2", tokenUrl: `https://localhost:${tokenPort}/token` },
          source: { description: "client", read: async () => Buffer.from(client) },
        },
      ],
    });
    expect((await ask(gate, `https://localhost:${port}/`)).body).toBe("Bearer ");
    expect((await ask(gate, `https://localhost:${oauth}/`)).body).toBe(`Bearer ${"*".repeat(14)}`);
    expect(forms).toHaveLength(1);
    const tunnel = await connectThrough(gate, `localhost:${opaque}`);
    const secure = tls.connect({
      socket: tunnel,
      servername: "localhost",
      ca: upstreamAuthority.certificate,
    });
    secure.write("GET / HTTP/1.0\r\n\r\n");
    expect(await bodyOf(secure)).toContain("opaque");
    const socket = await connectThrough(gate, `localhost:${port}`);
    const webSocket = new WebSocket(`wss://localhost:${port}/`, {
      createConnection: () =>
        tls.connect({ socket, servername: "localhost", ca: gate.caCertificate }),
    });
    expect(String(((await once(webSocket, "message")) as [Buffer])[0])).toBe("hello");
    webSocket.terminate();
    for (const each of [port, opaque, oauth, tokenPort])
      expect(log()).toContain(`localhost:${each}`);
  });

  test("a proxy that refuses, or is not there, is told by name; over TLS it works as well", async () => {
    const { port: proxyPort } = await startTinyproxy();
    const { port } = await httpsUpstream((_request, response) => response.end("ok"));
    const secureContext = upstreamAuthority.contextFor(parseHost("localhost"));
    const wrapped = await listening(
      tls.createServer({ SNICallback: (_name, done) => done(null, secureContext) }, (peer) => {
        const tcp = net.connect(proxyPort, "127.0.0.1");
        peer.on("error", () => tcp.destroy()).pipe(tcp);
        tcp.on("error", () => peer.destroy()).pipe(peer);
      }),
    );
    const status = async (url: string): Promise<{ status: number; body: string }> => {
      const gate = await openGate(port, through(url, port));
      return ask(gate, `https://localhost:${port}/`);
    };
    expect((await status(`https://user:pass@localhost:${wrapped}`)).body).toBe("ok");
    const refused = await status(`http://user:wrong@127.0.0.1:${proxyPort}`);
    expect(refused.status).toBe(502);
    expect(refused.body).toMatch(/upstream proxy refused the connection: status 40\d/);
    expect(refused.body).not.toContain("wrong");
    const absent = await status("http://127.0.0.1:1");
    expect(absent.body).toMatch(/upstream proxy refused the connection: ECONNREFUSED/);
    const silent = await listening(net.createServer());
    const gate = await openGate(port, {
      ...through(`http://127.0.0.1:${silent}`, port),
      limits: { connectTimeout: 300 },
    });
    expect((await ask(gate, `https://localhost:${port}/`)).status).toBe(504);
  });

  test("addresses are judged here all the same, and bad URLs are refused", async () => {
    const { port: proxyPort } = await startTinyproxy();
    const gate = await openGate(80, {
      upstreamProxy: `http://user:pass@127.0.0.1:${proxyPort}`,
      allow: ["0.0.0.0/0"],
    });
    await expect(connectThrough(gate, "169.254.169.254:80")).rejects.toThrow(/403/);
    for (const upstreamProxy of ["proxy:3128", "socks5://proxy:1080", "", "http://"]) {
      expect(() => createGate({ allow: [], upstreamProxy }), upstreamProxy).toThrow(
        expect.objectContaining({ code: "ERR_NONO_INVALID_OPTION" }),
      );
    }
  });
});

test("a kept connection that breaks under the next request is not the client's trouble, where it is safe", async () => {
  const seen: string[] = [];
  const server = net.createServer((peer) => {
    let first = true;
    peer.on("error", () => undefined);
    peer.on("data", (chunk: Buffer) => {
      seen.push(String(chunk).split(" ")[0] ?? "");
      // As a server does whose idle time ended while the request was on its way.
      if (!first) peer.resetAndDestroy();
      else peer.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
      first = false;
    });
  });
  const port = await listening(server);
  const gate = await openGate(port);
  const proxy = new URL(gate.env()["HTTP_PROXY"] ?? "");
  const pair = Buffer.from(`nono:${proxy.password}`).toString("base64");
  const status = async (method: string): Promise<number> => {
    const headers = { "proxy-authorization": `Basic ${pair}`, host: `good.test:${port}` };
    const options = { port: proxy.port, path: `http://good.test:${port}/`, agent: false, method };
    const outgoing = http.request({ ...options, headers }).end();
    const [response] = (await once(outgoing, "response")) as [http.IncomingMessage];
    response.resume();
    return response.statusCode ?? 0;
  };
  expect([await status("GET"), await status("GET")]).toEqual([200, 200]);
  expect(seen).toEqual(["GET", "GET", "GET"]);
  expect(await status("POST")).toBe(502);
  expect(seen).toEqual(["GET", "GET", "GET", "POST"]);
});
