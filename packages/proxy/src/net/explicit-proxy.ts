import { createHash, timingSafeEqual } from "node:crypto";
import type http from "node:http";
import type { Socket } from "node:net";
import { GateError } from "../errors.ts";
import type { Recorder } from "../event.ts";
import type { GateRequest, GateResponse } from "../http/refusal.ts";
import { asGateError, refuseOnSocket, refuseRequest } from "../http/refusal.ts";
import type { Destination } from "../http/request-target.ts";
import { type Endpoint, parseAuthority } from "./host.ts";
import { nodeHttp } from "./node-http.ts";

/** What the explicit proxy hands its work to. */
export interface ProxyHandlers {
  /** Throws a GateError unless the allow-list accepts the endpoint. */
  check(endpoint: Endpoint): void;
  /** Takes over a client connection; `accept` tells the client that its tunnel stands. */
  tunnel(socket: Socket, endpoint: Endpoint, accept: () => void): Promise<void>;
  request(request: GateRequest, response: GateResponse, destination: Destination): Promise<void>;
}

const challenge = 'Proxy-Authenticate: Basic realm="nono"';

/** The HTTP proxy for clients that are told of it by environment variables (RFC 9110 section 9.3.6). */
export function createExplicitProxy(
  token: string,
  recorder: Recorder,
  handlers: ProxyHandlers,
  headerBytes: number,
): http.Server {
  const expected = digest(token);
  const authenticate = (request: http.IncomingMessage): void => {
    const header = request.headers["proxy-authorization"] ?? "";
    const pair = Buffer.from(/^Basic (\S+)$/i.exec(header)?.[1] ?? "", "base64").toString();
    const given = /^Bearer (\S+)$/i.exec(header)?.[1] ?? pair.slice(pair.indexOf(":") + 1);
    // Digests have one length, so that the comparison tells nothing about the token's.
    if (!timingSafeEqual(digest(given), expected)) {
      throw new GateError("ERR_NONO_PROXY_AUTH", "The proxy needs this sandbox's token.", {
        remedy: "Use the proxy URL from the environment as it is.",
      });
    }
  };
  const note = (
    request: http.IncomingMessage,
    endpoint: Endpoint | undefined,
    error: GateError,
  ): void => {
    const host = endpoint?.host.text ?? request.url ?? "";
    const object = { host, port: endpoint?.port ?? 0, transport: "tcp" as const };
    recorder.deny({ type: "net.connect", object }, error);
  };

  const server = nodeHttp.createServer({
    maxHeaderSize: headerBytes,
    requestTimeout: 0,
    noDelay: true,
    // A WebSocket in the clear goes through CONNECT; other upgrades are not looked for (RFC 9110 section 7.8).
    shouldUpgradeCallback: () => false,
  });
  server.on("connect", (request, socket: Socket, head: Buffer) => {
    socket.on("error", () => socket.destroy());
    let endpoint: Endpoint | undefined;
    try {
      authenticate(request);
      if (!/:\d+$/.test(request.url ?? "")) throw noPort(request.url ?? "");
      endpoint = parseAuthority(request.url ?? "", 443);
      handlers.check(endpoint);
    } catch (failure) {
      const error = asGateError(failure);
      note(request, endpoint, error);
      return refuseOnSocket(socket, error, error.status === 407 ? [challenge] : []);
    }
    if (head.length > 0) socket.unshift(head);
    const accept = (): void => void socket.write("HTTP/1.1 200 Connection established\r\n\r\n");
    void handlers.tunnel(socket, endpoint, accept);
  });
  const onRequest = (request: http.IncomingMessage, response: http.ServerResponse): void => {
    let destination: Destination | undefined;
    try {
      authenticate(request);
      const authority = /^http:\/\/([^/?#]+)/i.exec(request.url ?? "")?.[1];
      if (authority === undefined) {
        throw new GateError(
          "ERR_NONO_PROTOCOL",
          "This is a proxy: it needs an http:// URL or CONNECT.",
          {
            value: request.url ?? "",
          },
        );
      }
      destination = { endpoint: parseAuthority(authority, 80), secure: false };
      handlers.check(destination.endpoint);
    } catch (failure) {
      const error = asGateError(failure);
      note(request, destination?.endpoint, error);
      if (error.status === 407) response.setHeader("proxy-authenticate", 'Basic realm="nono"');
      return refuseRequest(response, error);
    }
    void handlers.request(request, response, destination);
  };
  server.on("request", onRequest);
  server.on("checkContinue", onRequest);
  server.on("clientError", (cause: NodeJS.ErrnoException, socket) => {
    if (cause.code === "ECONNRESET") socket.destroy();
    else if (!socket.writableEnded) {
      refuseOnSocket(
        socket,
        new GateError("ERR_NONO_PROTOCOL", "The request is malformed.", { cause }),
      );
    }
  });
  return server;
}

function noPort(url: string): GateError {
  return new GateError("ERR_NONO_PROTOCOL", "CONNECT needs host:port.", { value: url });
}

function digest(text: string): Buffer {
  return createHash("sha256").update(text).digest();
}
