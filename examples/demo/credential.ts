// An unmodified curl, which is told to ignore every proxy, makes an authenticated request with a token
// that is nowhere inside the sandbox.
import { execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import https from "node:https";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { Sandbox, type SandboxSettings, support } from "@nono/sdk";

/** Whether the server got the token and the agent did not. */
export async function useCredential(
  directory: string,
  settings: SandboxSettings,
): Promise<boolean> {
  console.log("\nA token is used that the agent never has:\n");
  const namespaces = support().tiers.find(({ name }) => name === "namespaces");
  if (namespaces?.available !== true) {
    console.log(
      `skipped: the gate's network needs namespaces (${namespaces?.reason ?? "unknown"})`,
    );
    return true;
  }
  const missing = ["/usr/bin/curl", "/usr/bin/openssl"].filter((program) => !existsSync(program));
  if (missing.length > 0) {
    console.log(`skipped: ${missing.join(" and ")} are not installed`);
    return true;
  }
  const token = `secret-${randomBytes(16).toString("hex")}`;
  const { certificate, key } = selfSigned(directory);
  let received: string | undefined;
  // It answers with what it received, as a careless service would.
  const server = https.createServer({ key, cert: certificate }, (request, response) => {
    received = request.headers.authorization;
    response.end(`hello ${received}`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  try {
    await using sandbox = new Sandbox(settings)
      .allowExec(["/usr/bin/curl", "/usr/bin/env"])
      .allowNetwork([`api.test:${port}`, `127.0.0.1:${port}`], {
        resolver: { resolve: async () => ["127.0.0.1"] },
        tls: { ca: [certificate] },
      })
      .injectCredential({
        name: "API_TOKEN",
        proxyTo: `api.test:${port}`,
        tokenFrom: { description: "the demo", read: async () => Buffer.from(token) },
      });
    const curl = ["/usr/bin/curl", "--silent", "--show-error", "--noproxy", "*"];
    const { stdout, stderr } = await sandbox.run([...curl, `https://api.test:${port}/`]);
    const environment = (await sandbox.run(["/usr/bin/env"])).stdout;
    const elsewhere = await sandbox.run([...curl, "https://elsewhere.test/"]);
    const standIn = /^API_TOKEN=(.*)$/m.exec(environment)?.[1] ?? "";

    const shown = (text: string): string => text.replaceAll(token, "THE TOKEN").trim();
    console.log(`in its environment   API_TOKEN=${shown(standIn)}`);
    console.log(`the server received  ${shown(received ?? "nothing")}`);
    console.log(`the agent received   ${shown(stdout + stderr)}`);
    console.log(`another host         ${shown(elsewhere.stderr)}`);
    const leaked = [stdout, stderr, environment].some((text) => text.includes(token));
    return received === `Bearer ${token}` && !leaked && elsewhere.exitCode !== 0;
  } finally {
    server.close();
  }
}

function selfSigned(directory: string): { certificate: string; key: string } {
  mkdirSync(directory, { recursive: true });
  const [keyFile, file] = [path.join(directory, "key.pem"), path.join(directory, "cert.pem")];
  const kind = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
  const names = ["-subj", "/CN=api.test", "-addext", "subjectAltName=DNS:api.test"];
  execFileSync("/usr/bin/openssl", ["req", ...kind, ...names, "-keyout", keyFile, "-out", file], {
    stdio: "ignore",
  });
  return { certificate: readFileSync(file, "utf8"), key: readFileSync(keyFile, "utf8") };
}
