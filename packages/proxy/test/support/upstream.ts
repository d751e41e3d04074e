import http from "node:http";
import https from "node:https";
import http2 from "node:http2";
import type { AddressInfo, Server, Socket } from "node:net";
import type { Resolver } from "../../src/index.ts";
import { parseHost } from "../../src/net/host.ts";
import { CertificateAuthority } from "../../src/tls/authority.ts";

/** The authority of the test's own servers: not the gate's. */
export const upstreamAuthority: CertificateAuthority = new CertificateAuthority();

type Handler = (request: http.IncomingMessage, response: http.ServerResponse) => void;

const closers: (() => Promise<void>)[] = [];

/** Ends every server of the test file. */
export async function closeUpstreams(): Promise<void> {
  await Promise.all(closers.splice(0).map((close) => close()));
}

/** Listens on a free loopback port until the end of the test file. */
export async function listening(server: Server): Promise<number> {
  await new Promise<void>((resolve) => {
    server.listen(0, "127.0.0.1", resolve);
  });
  // What has been upgraded is no connection of an HTTP server any more.
  const sockets = new Set<Socket>();
  server.on("connection", (socket: Socket) => {
    sockets.add(socket);
    socket.once("close", () => sockets.delete(socket));
  });
  closers.push(
    () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        for (const socket of sockets) socket.destroy();
      }),
  );
  return (server.address() as AddressInfo).port;
}

/** An HTTPS server over HTTP/1.1 that holds a certificate for whatever name is asked. */
export async function httpsUpstream(
  handler: Handler,
): Promise<{ port: number; server: https.Server }> {
  const server = https.createServer({ SNICallback: contextByName }, handler);
  return { port: await listening(server), server };
}

/** The same over HTTP/2 and HTTP/1.1. */
export async function http2Upstream(
  onStream: (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => void,
  options: http2.SecureServerOptions = {},
  onSession: () => void = () => undefined,
): Promise<number> {
  const server = http2.createSecureServer({ SNICallback: contextByName, ...options });
  server.on("stream", onStream);
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    onSession();
  });
  const port = await listening(server);
  closers.push(async () => {
    for (const session of sessions) session.destroy();
  });
  return port;
}

export async function httpUpstream(handler: Handler): Promise<number> {
  return listening(http.createServer(handler));
}

function contextByName(
  name: string,
  done: (error: Error | null, context: ReturnType<CertificateAuthority["contextFor"]>) => void,
): void {
  done(null, upstreamAuthority.contextFor(parseHost(name)));
}

/** Every name is this machine. */
export const loopback: Resolver = { resolve: async () => ["127.0.0.1"] };

/** All of a request's body. */
export async function bodyOf(request: NodeJS.ReadableStream): Promise<string> {
  let text = "";
  for await (const chunk of request) text += String(chunk);
  return text;
}
