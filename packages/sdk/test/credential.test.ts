import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import https from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { Sandbox, support } from "../src/index.ts";
import { occurrences, processTree } from "./support/memory.ts";
import { useOwnState } from "./support/state.ts";

useOwnState();

const tiers = support()
  .tiers.filter(({ available }) => available)
  .map(({ name }) => name as "namespaces" | "flat");

// Uses no proxy variable: it connects as if it were outside. Then it waits, so that it can be looked
// at, and says how it went.
const agent = `
import os, ssl, subprocess, sys, urllib.request
url, token = sys.argv[2], os.environ["API_TOKEN"]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
request = urllib.request.Request(url, headers={"Authorization": "Bearer " + token})
answer = opener.open(request); body = answer.read().decode() + str(answer.headers)
body += subprocess.run(["curl", "-sS", "--noproxy", "*", url], capture_output=True, text=True).stdout
open("answer", "w").write(body); print(body, flush=True); sys.stdin.read()
`;

let server: https.Server;
let directory: string;
let certificate: string;
const seen: (string | undefined)[] = [];

beforeAll(async () => {
  directory = mkdtempSync(path.join(tmpdir(), "nono-upstream-"));
  const [key, cert] = [path.join(directory, "key.pem"), path.join(directory, "cert.pem")];
  const subject = ["-subj", "/CN=api.test", "-addext", "subjectAltName=DNS:api.test"];
  const kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-x509"];
  execFileSync("openssl", ["req", ...kind, ...subject, "-keyout", key, "-out", cert], {
    stdio: "ignore",
  });
  certificate = readFileSync(cert, "utf8");
  server = https.createServer(
    { key: readFileSync(key), cert: certificate },
    (request, response) => {
      seen.push(request.headers.authorization);
      // The most careless of servers: it sends what it got back, twice.
      response.setHeader("x-echo", request.headers.authorization ?? "");
      response.end(`you are ${request.headers.authorization}\n`);
    },
  );
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
});

afterAll(() => {
  server.close();
  rmSync(directory, { recursive: true, force: true });
});

test.for(tiers)("in the tier %s a command uses a credential that it never has", async (tier) => {
  seen.length = 0;
  const scratch = mkdtempSync(path.join(tmpdir(), "nono-agent-"));
  const real = `real-${randomBytes(24).toString("hex")}`;
  const marker = `nono-agent-${randomBytes(6).toString("hex")}`;
  const { port } = server.address() as AddressInfo;
  await using sandbox = new Sandbox({ tier })
    .allowWrite(scratch)
    .allowExec(["/usr/bin/python3", "/usr/bin/curl"])
    .allowNetwork([`api.test:${port}`, `127.0.0.1:${port}`], {
      resolver: { resolve: async () => ["127.0.0.1"] },
      tls: { ca: [certificate] },
    })
    .injectCredential({
      name: "API_TOKEN",
      proxyTo: `api.test:${port}`,
      tokenFrom: { description: "the test's own", read: async () => Buffer.from(real) },
    });

  const url = `https://api.test:${port}/`;
  const child = await sandbox.spawn(["/usr/bin/python3", "-c", agent, marker, url]);
  let output = "";
  let complaints = "";
  child.stderr?.on("data", (chunk) => (complaints += String(chunk)));
  for await (const chunk of child.stdout ?? []) {
    output += String(chunk);
    if (output.split("you are").length > 2) break;
  }

  expect(complaints).toBe("");
  expect(seen).toEqual([`Bearer ${real}`, `Bearer ${real}`]);
  expect(output).not.toContain(real);
  const processes = processTree(marker);
  expect(processes.length).toBeGreaterThan(0);
  // That the search works: the stand-in is there, in the environment and in memory.
  const standIn = /nono_\w{40}/.exec(readFileSync(`/proc/${processes[0]}/environ`, "latin1"))?.[0];
  expect(standIn).toBeDefined();
  for (const pid of processes) {
    expect(occurrences(pid, standIn ?? "")).toBeGreaterThan(1);
    expect(occurrences(pid, real)).toBe(0);
  }
  // What it wrote, and what it may read of the gate's.
  const trust = /SSL_CERT_FILE=([^\0]*)/.exec(
    readFileSync(`/proc/${processes[0]}/environ`, "latin1"),
  );
  for (const file of [path.join(scratch, "answer"), trust?.[1] ?? ""]) {
    expect(readFileSync(file, "utf8")).not.toContain(real);
  }
  rmSync(scratch, { recursive: true });
  child.stdin?.end();
  expect(await child.exited).toMatchObject({ exitCode: 0 });
});

test.for(tiers)("in the tier %s what is not listed is refused", async (tier) => {
  const { port } = server.address() as AddressInfo;
  await using sandbox = new Sandbox({ tier })
    .allowExec(["/usr/bin/curl"])
    .allowNetwork("api.test:443");
  for (const url of [
    `https://127.0.0.1:${port}/`,
    `https://other.test/`,
    `http://169.254.169.254/latest/meta-data/`,
    `https://1.1.1.1/`,
  ]) {
    const { exitCode } = await sandbox.run(["/usr/bin/curl", "-sSk", "-m", "5", url]);
    expect(exitCode, url).not.toBe(0);
  }
});
