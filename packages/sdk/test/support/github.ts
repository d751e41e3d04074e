// Stands for api.github.com, in a network namespace of its own: run as
//   unshare --mount --net node github.ts DIRECTORY COMMAND...
// It answers at an address of GitHub's that the namespace has on its loopback, with a certificate of an
// authority that only this test trusts, and then runs COMMAND. What it was sent goes to DIRECTORY/seen.
import { execFileSync, spawn } from "node:child_process";
import dgram from "node:dgram";
import { once } from "node:events";
import { appendFileSync, readFileSync, writeFileSync } from "node:fs";
import https from "node:https";
import path from "node:path";
import process from "node:process";

const [directory = "", command = "", ...args] = process.argv.slice(2);
const address = "140.82.112.5";
const name = "api.github.com";
const file = (base: string): string => path.join(directory, base);
const run = (...argv: string[]): void =>
  void execFileSync(argv[0] ?? "", argv.slice(1), { stdio: "pipe" });

run("ip", "link", "set", "lo", "up");
run("ip", "address", "add", `${address}/32`, "dev", "lo");
writeFileSync(file("resolv.conf"), "nameserver 127.0.0.1\n");
run("mount", "--bind", file("resolv.conf"), "/etc/resolv.conf");
const resolver = dgram.createSocket("udp4", (query, { port }) => {
  resolver.send(answerTo(query), port, "127.0.0.1");
});
resolver.bind(53, "127.0.0.1");
await once(resolver, "listening");
const subject = ["-subj", `/CN=${name}`, "-addext", `subjectAltName=DNS:${name}`];
const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-x509"];
run("openssl", "req", ...kind, ...subject, "-keyout", file("key.pem"), "-out", file("cert.pem"));

const credentials = { key: readFileSync(file("key.pem")), cert: readFileSync(file("cert.pem")) };
const server = https.createServer(credentials, (request, response) => {
  appendFileSync(file("seen"), `${request.headers.authorization}\n`);
  response.end(`hello ${request.headers.authorization}`);
});
server.listen(443, address);
await once(server, "listening");
const env = { ...process.env, SSL_CERT_FILE: file("cert.pem") };
const child = spawn(command, args, { env, stdio: "inherit" });
const [code] = (await once(child, "exit")) as [number | null];
process.exit(code ?? 1);

/** The one address for every name (RFC 1035, section 4); nothing for types other than A. */
function answerTo(query: Buffer): Buffer {
  const question = query.subarray(12, query.indexOf(0, 12) + 5);
  const isA = question.readUInt16BE(question.length - 4) === 1;
  const header = Buffer.from([0, 0, 0x81, 0x80, 0, 1, 0, isA ? 1 : 0, 0, 0, 0, 0]);
  query.copy(header, 0, 0, 2); // its id
  const record = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...address.split(".").map(Number)];
  return Buffer.concat([header, question, ...(isA ? [Buffer.from(record)] : [])]);
}
