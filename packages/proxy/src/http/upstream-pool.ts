import type { Socket } from "node:net";
import { callbackify } from "node:util";
import { Agent } from "undici";
import type { Dialer } from "../net/dial.ts";
import { type Endpoint, bracketed, parseHost } from "../net/host.ts";
import type { UpstreamTrust } from "../tls/upstream-trust.ts";

/** Limits of HTTP exchanges; every one has a default in `createGate`. */
export interface HttpLimits {
  /** Bytes of header, either way. */
  readonly headerBytes: number;
  /** Milliseconds until the server's response header. */
  readonly responseTimeout: number;
}

/** Keep-alive connections to upstream servers, dialled by the gate's own rules. Nothing is shared between gates. */
export class UpstreamPool {
  readonly #http1: Agent;
  readonly #http2: Agent;

  constructor(dialer: Dialer, trust: UpstreamTrust, limits: HttpLimits) {
    const agent = (allowH2: boolean): Agent =>
      new Agent({
        allowH2,
        // One request at a time on an HTTP/1.1 connection: a slow one must not hold up another's answer.
        pipelining: allowH2 ? 100 : 1,
        maxHeaderSize: limits.headerBytes,
        headersTimeout: limits.responseTimeout,
        bodyTimeout: 0, // server-sent events may be silent for hours
        keepAliveTimeout: 30_000,
        connect: ({ hostname, protocol, port }, callback) => {
          const secure = protocol === "https:";
          const open = async (): Promise<Socket> => {
            const endpoint = endpointOf(hostname, secure, port);
            const socket = await dialer.connect(endpoint, secure ? endpoint.host.text : undefined);
            const alpn = allowH2 ? ["h2", "http/1.1"] : ["http/1.1"];
            return secure ? trust.secure(socket, endpoint.host, alpn) : socket;
          };
          callbackify(open)((error, socket) => {
            if (error) callback(error, null);
            else callback(null, socket);
          });
        },
      });
    this.#http1 = agent(false);
    this.#http2 = agent(true);
  }

  /** The pool that speaks what the client speaks: gRPC needs HTTP/2 on both legs. */
  for(httpVersionMajor: number): Agent {
    return httpVersionMajor === 2 ? this.#http2 : this.#http1;
  }

  async close(): Promise<void> {
    await Promise.all([this.#http1.destroy(), this.#http2.destroy()]);
  }
}

function endpointOf(hostname: string, secure: boolean, port: string): Endpoint {
  return { host: parseHost(hostname), port: Number(port || (secure ? 443 : 80)) };
}

/** `scheme://host[:port]`, as undici names a server. */
export function originOf({ host, port }: Endpoint, secure: boolean): string {
  return `${secure ? "https" : "http"}://${bracketed(host)}:${port}`;
}
