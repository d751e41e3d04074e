// A git server that wants a password: Node's HTTP server in front of git's own `git http-backend` (CGI).
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import process from "node:process";

/** Starts it for the bare repositories below `root`; `password` is the only one it takes. */
export async function startGitServer(
  root: string,
  password: string,
): Promise<{ port: number; server: Server; seen: string[] }> {
  const seen: string[] = [];
  const server = createServer((request, response) => {
    const header = request.headers.authorization ?? "";
    seen.push(Buffer.from(header.replace("Basic ", ""), "base64").toString());
    if (seen.at(-1) === `x-access-token:${password}`) return backend(root, request, response);
    response.writeHead(401, { "www-authenticate": 'Basic realm="git"' }).end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { port: (server.address() as AddressInfo).port, server, seen };
}

function backend(root: string, request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? "/", "http://localhost");
  const env = {
    PATH: process.env["PATH"],
    GIT_PROJECT_ROOT: root,
    GIT_HTTP_EXPORT_ALL: "1",
    REMOTE_USER: "agent",
    REQUEST_METHOD: request.method,
    PATH_INFO: url.pathname,
    QUERY_STRING: url.search.slice(1),
    CONTENT_TYPE: request.headers["content-type"],
    CONTENT_LENGTH: request.headers["content-length"],
    HTTP_CONTENT_ENCODING: request.headers["content-encoding"],
    GIT_CONFIG_COUNT: "1",
    GIT_CONFIG_KEY_0: "safe.directory",
    GIT_CONFIG_VALUE_0: "*",
  };
  const program = `${execFileSync("git", ["--exec-path"], { encoding: "utf8" }).trim()}/git-http-backend`;
  const cgi = spawn(program, { env, stdio: ["pipe", "pipe", "inherit"] });
  request.pipe(cgi.stdin);
  let head = Buffer.alloc(0);
  cgi.stdout.on("data", function onData(chunk: Buffer) {
    head = Buffer.concat([head, chunk]);
    const end = head.indexOf("\r\n\r\n");
    if (end < 0) return;
    cgi.stdout.off("data", onData);
    const fields = head.subarray(0, end).toString("latin1").split("\r\n");
    for (const field of fields) {
      const at = field.indexOf(":");
      const value = field.slice(at + 1).trim();
      if (field.startsWith("Status:")) response.statusCode = Number(value.slice(0, 3));
      else response.setHeader(field.slice(0, at), value);
    }
    response.write(head.subarray(end + 4));
    cgi.stdout.pipe(response);
  });
}
