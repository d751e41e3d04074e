// Real services on loopback: a witness, a Rekor v2 log, a time-stamp authority.
import { spawn, spawnSync, type ChildProcess } from "node:child_process";
import { createHash, createPublicKey, generateKeyPairSync, type KeyObject } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { createServer as createHttpServer } from "node:http";
import { createServer } from "node:net";
import path from "node:path";
import { DatabaseSync } from "node:sqlite";
import { fulcioHandler, initializeCA, initializeCTLog } from "@sigstore/mock";
import { afterAll } from "vitest";
import { temporaryDirectory } from "./logs.ts";
import { oracleDirectory } from "./oracles.ts";

const children: ChildProcess[] = [];
afterAll(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
});

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, "close");
  return port;
}

function start(
  program: string,
  args: string[],
  env: NodeJS.ProcessEnv = {},
): { child: ChildProcess; output: () => string } {
  const child = spawn(program, args, {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });
  children.push(child);
  let text = "";
  child.stdout?.on("data", (data: Buffer) => (text += data.toString()));
  child.stderr?.on("data", (data: Buffer) => (text += data.toString()));
  return { child, output: () => text };
}

async function until<T>(
  what: string,
  probe: () => Promise<T | undefined> | T | undefined,
): Promise<T> {
  for (let n = 0; n < 2400; n += 1) {
    const value = await probe();
    if (value !== undefined) return value;
    await new Promise((resume) => setTimeout(resume, 50));
  }
  throw new Error(`${what} did not start within two minutes`);
}

const program = (name: string): string => path.join(oracleDirectory() ?? "", name);

/** litewitness, knowing one log. */
export async function startWitness(
  origin: string,
  logVkey: string,
): Promise<{ url: string; vkey: string; stop: () => void }> {
  const dir = temporaryDirectory();
  const [key, socket, database] = ["key", "agent", "witness.db"].map((name) =>
    path.join(dir, name),
  ) as [string, string, string];
  spawnSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", key]);
  start("ssh-agent", ["-D", "-a", socket]);
  await until("ssh-agent", () =>
    spawnSync("ssh-add", [key], { env: { ...process.env, SSH_AUTH_SOCK: socket } }).status === 0
      ? true
      : undefined,
  );
  const fingerprint =
    spawnSync("ssh-keygen", ["-lf", key], { encoding: "utf8" }).stdout.split(" ")[1] ?? "";
  const db = new DatabaseSync(database);
  db.exec(`CREATE TABLE log (origin TEXT PRIMARY KEY, tree_size INTEGER NOT NULL, tree_hash TEXT NOT NULL);
    CREATE TABLE key (origin TEXT NOT NULL, key TEXT NOT NULL, FOREIGN KEY(origin) REFERENCES log(origin));`);
  db.prepare("INSERT INTO log VALUES (?, 0, ?)").run(origin, createHash("sha256").digest("base64"));
  db.prepare("INSERT INTO key VALUES (?, ?)").run(origin, logVkey);
  db.close();
  const port = await freePort();
  const args = [
    "-name",
    "witness.test/w1",
    "-db",
    database,
    "-ssh-agent",
    socket,
    "-listen",
    `127.0.0.1:${port}`,
    "-key",
    fingerprint,
  ];
  const { child, output } = start(program("litewitness"), args);
  const vkey = await until("litewitness", () => /vkey=(\S+)/.exec(output())?.[1]);
  const url = `http://127.0.0.1:${port}`;
  await until("litewitness", () => answers(url));
  return { url, vkey, stop: () => child.kill("SIGKILL") };
}

async function answers(url: string): Promise<true | undefined> {
  return fetch(url).then(
    () => true as const,
    () => undefined,
  );
}

/** The addresses of the services, and the trusted root that names both. */
export interface SigstoreServices {
  readonly rekorUrl: string;
  readonly tsaUrl: string;
  readonly trustedRoot: object;
}

let running: Promise<SigstoreServices> | undefined;

/** Rekor v2 (rekor-tiles, POSIX storage) and a time-stamp authority: one pair, since the latter's metrics port is fixed. */
export function startSigstore(): Promise<SigstoreServices> {
  return (running ??= launchSigstore());
}

async function launchSigstore(): Promise<SigstoreServices> {
  const dir = temporaryDirectory();
  const keyFile = path.join(dir, "rekor.pem");
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  writeFileSync(keyFile, privateKey.export({ format: "pem", type: "pkcs8" }));
  const [http, grpc, metrics, tsa] = await Promise.all([
    freePort(),
    freePort(),
    freePort(),
    freePort(),
  ]);
  const ports = [
    "--http-port",
    String(http),
    "--grpc-port",
    String(grpc),
    "--http-metrics-port",
    String(metrics),
  ];
  const rekor = [
    "serve",
    "--hostname",
    "rekor.test",
    "--storage-dir",
    path.join(dir, "store"),
    "--signer-filepath",
    keyFile,
    ...ports,
  ];
  start(program("posix"), [...rekor, "--checkpoint-interval", "1s"]);
  start(
    program("timestamp-server"),
    [
      "serve",
      "--host",
      "127.0.0.1",
      "--port",
      String(tsa),
      "--timestamp-signer",
      "memory",
      "--disable-ntp-monitoring",
    ],
    { HOME: dir },
  );
  const rekorUrl = `http://127.0.0.1:${http}`;
  const tsaUrl = `http://127.0.0.1:${tsa}`;
  const chain = await until("timestamp-server", async () => {
    const response = await fetch(`${tsaUrl}/api/v1/timestamp/certchain`).catch(() => undefined);
    return response?.ok ? response.text() : undefined;
  });
  await until("rekor", () => answers(rekorUrl));
  return {
    rekorUrl,
    tsaUrl,
    trustedRoot: trustedRoot(
      createPublicKey(privateKey).export({ format: "der", type: "spki" }),
      chain,
    ),
  };
}

function keyPair(): { publicKey: KeyObject; privateKey: KeyObject } {
  return generateKeyPairSync("ec", { namedCurve: "P-256" });
}

/** Fulcio's protocol, a certificate authority and its CT log, from @sigstore/mock, served over HTTP. */
export async function startFulcio(): Promise<{
  url: string;
  certificateAuthorities: object[];
  ctlogs: object[];
}> {
  const ctKey = keyPair();
  const ca = await initializeCA(keyPair(), await initializeCTLog(ctKey));
  const handler = fulcioHandler(ca, { strict: true });
  const server = createHttpServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on("data", (chunk: Buffer) => chunks.push(chunk));
    request.on("end", () => {
      void handler
        .fn(Buffer.concat(chunks).toString())
        .then(({ statusCode, response: body, contentType }) =>
          response
            .writeHead(statusCode, { "content-type": contentType ?? "application/json" })
            .end(body),
        );
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  afterAll(() => server.close());
  const { port } = server.address() as { port: number };
  const validFor = { start: "2020-01-01T00:00:00Z" };
  const rawBytes = Buffer.from(ca.rootCertificate as Uint8Array).toString("base64");
  const ctSpki = ctKey.publicKey.export({ format: "der", type: "spki" });
  return {
    url: `http://127.0.0.1:${port}`,
    certificateAuthorities: [
      {
        subject: { organization: "test", commonName: "ca" },
        uri: "https://ca.test",
        certChain: { certificates: [{ rawBytes }] },
        validFor,
      },
    ],
    ctlogs: [
      {
        baseUrl: "https://ct.test",
        hashAlgorithm: "SHA2_256",
        publicKey: {
          rawBytes: ctSpki.toString("base64"),
          keyDetails: "PKIX_ECDSA_P256_SHA_256",
          validFor,
        },
        logId: { keyId: createHash("sha256").update(ctSpki).digest("base64") },
      },
    ],
  };
}

function trustedRoot(rekorKey: Buffer, chain: string): object {
  const certificates = [...chain.matchAll(/-----BEGIN CERTIFICATE-----([^-]+)-----END/g)].map(
    ([, body = ""]) => ({ rawBytes: body.replaceAll(/\s/g, "") }),
  );
  const validFor = { start: "2020-01-01T00:00:00Z" };
  return {
    mediaType: "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
    tlogs: [
      {
        baseUrl: "https://rekor.test",
        hashAlgorithm: "SHA2_256",
        publicKey: {
          rawBytes: rekorKey.toString("base64"),
          keyDetails: "PKIX_ECDSA_P256_SHA_256",
          validFor,
        },
        logId: { keyId: createHash("sha256").update(rekorKey).digest("base64") },
      },
    ],
    timestampAuthorities: [
      {
        subject: { organization: "test", commonName: "tsa" },
        certChain: { certificates },
        validFor,
      },
    ],
    certificateAuthorities: [],
    ctlogs: [],
  };
}
