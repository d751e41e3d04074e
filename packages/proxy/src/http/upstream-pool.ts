import { callbackify } from "node:util";
import { Agent } from "undici";
import type { Dialer } from "../net/dial.ts";
import { type Endpoint, bracketed, parseHost } from "../net/host.ts";
import type { UpstreamTrust } from "../tls/upstream-trust.ts";
import { type Connect, DetailedDispatcher } from "./detailed-dispatch.ts";
import { readByRecord } from "./spent.ts";

/** Limits of HTTP exchanges; every one has a default in `createGate`. */
export interface HttpLimits {
  /** Bytes of header, either way. */
  readonly headerBytes: number;
  /** Milliseconds until the server's response header. */
  readonly responseTimeout: number;
}

/** Keep-alive connections to upstream servers, dialled by the gate's own rules. Nothing is shared between gates. */
export class UpstreamPool {
  /** For requests that wait for 100 or end in trailers. */
  readonly detailed: DetailedDispatcher;
  readonly #http1: Agent;
  readonly #http2: Agent;

  constructor(dialer: Dialer, trust: UpstreamTrust, limits: HttpLimits) {
    const connector =
      (alpn: string[]): Connect =>
      async (hostname, protocol, port) => {
        const secure = protocol === "https:";
        const endpoint = endpointOf(hostname, secure, port);
        const socket = await dialer.connect(endpoint, secure ? endpoint.host.text : undefined);
        if (!secure) return socket;
        const connection = await trust.secure(socket, endpoint.host, alpn);
        return connection.alpnProtocol === "h2" ? connection : readByRecord(connection);
      };
    const agent = (allowH2: boolean): Agent => {
      const open = callbackify(connector(allowH2 ? ["h2", "http/1.1"] : ["http/1.1"]));
      return new Agent({
        allowH2,
        // One request at a time on an HTTP/1.1 connection: a slow one must not hold up another's answer. undici counts
        // the streams of HTTP/2 by the server's own setting.
        pipelining: 1,
        maxHeaderSize: limits.headerBytes,
        headersTimeout: limits.responseTimeout,
        bodyTimeout: 0, // server-sent events may be silent for hours
        keepAliveTimeout: 30_000,
        connect: ({ hostname, protocol, port }, callback) => {
          open(hostname, protocol, port, (error, socket) => {
            if (error) callback(error, null);
            else callback(null, socket);
          });
        },
      });
    };
    this.#http1 = agent(false);
    this.#http2 = agent(true);
    this.detailed = new DetailedDispatcher(connector(["http/1.1"]), limits);
  }

  /** The pool that speaks what the client speaks: gRPC needs HTTP/2 on both legs. */
  for(httpVersionMajor: number): Agent {
    return httpVersionMajor === 2 ? this.#http2 : this.#http1;
  }

  async close(): Promise<void> {
    this.detailed.close();
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
