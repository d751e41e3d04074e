import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import https from "node:https";
import { WebSocketServer } from "ws";
import { parseHost } from "../../src/net/host.ts";
import { upstreamAuthority } from "../support/upstream.ts";
import { at, secret } from "./scratch.ts";

/** A registry of npm and one of cargo, a Python index, AWS's identities, a WebSocket and an echo, behind one certificate authority of their own. */
export async function packageServer(address: string): Promise<() => void> {
  mkdirSync(at("npm", "package"), { recursive: true });
  writeFileSync(at("npm", "package", "package.json"), '{"name":"tiny","version":"1.0.0"}');
  spawnSync("tar", ["-czf", at("tiny.tgz"), "-C", at("npm"), "package"]);
  const wheel =
    "import sys, zipfile; z = zipfile.ZipFile(sys.argv[1], 'w');" +
    "z.writestr('tiny-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n');" +
    "z.writestr('tiny-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n');" +
    "z.writestr('tiny-1.0.dist-info/RECORD', '')";
  spawnSync("python3", ["-c", wheel, at("tiny-1.0-py3-none-any.whl")]);
  const server = https.createServer(
    { SNICallback: (name, done) => done(null, upstreamAuthority.contextFor(parseHost(name))) },
    (request, response) => {
      const { host = "" } = request.headers;
      if (request.url === "/tiny" && host === "npm.test") {
        const dist = { tarball: "https://npm.test/tiny.tgz" };
        const versions = { "1.0.0": { name: "tiny", version: "1.0.0", dist } };
        response.setHeader("content-type", "application/json");
        response.end(JSON.stringify({ name: "tiny", "dist-tags": { latest: "1.0.0" }, versions }));
      } else if (request.url === "/tiny.tgz") response.end(readFileSync(at("tiny.tgz")));
      else if (request.url === "/simple/tiny/") {
        response.setHeader("content-type", "text/html");
        response.end('<a href="/tiny-1.0-py3-none-any.whl">tiny-1.0-py3-none-any.whl</a>');
      } else if (request.url?.endsWith(".whl") === true) {
        response.end(readFileSync(at("tiny-1.0-py3-none-any.whl")));
      } else if (host === "cargo.test") {
        const description = echo(request.headers.authorization).trim();
        const crates = [{ name: "tiny", max_version: "1.0.0", description }];
        const registry = { dl: "https://cargo.test/dl", api: "https://cargo.test" };
        const isIndex = request.url === "/config.json";
        response.end(JSON.stringify(isIndex ? registry : { crates, meta: { total: 1 } }));
      } else if (host === "sts.test") {
        const arn = echo(request.headers.authorization).trim();
        response.setHeader("content-type", "text/xml");
        response.end(
          `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>${arn}</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>`,
        );
      } else {
        // After the whole body: curl 7.88 waits for ever when HTTP/2 answers an upload early.
        request.resume();
        request.once("end", () => response.end(echo(request.headers.authorization)));
      }
    },
  );
  new WebSocketServer({ server }).on("connection", (peer, { headers }) => {
    peer.on("message", () => peer.send(echo(headers.authorization)));
  });
  await new Promise<void>((resolve) => {
    server.listen(443, address, resolve);
  });
  return () => {
    server.closeAllConnections();
    server.close();
  };
}

function echo(authorization = "none"): string {
  return `authorized=${authorization === `Bearer ${secret}`} echo=${authorization}\n`;
}
