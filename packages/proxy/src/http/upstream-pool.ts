import { createRequire } from "node:module";
import { PassThrough, type Readable } from "node:stream";
import { callbackify } from "node:util";
import type { Agent, Dispatcher } from "undici";
import { GateError } from "../errors.ts";
import type { Dialer } from "../net/dial.ts";
import { type Endpoint, bracketed, parseHost } from "../net/host.ts";
import type { UpstreamTrust } from "../tls/upstream-trust.ts";
import { type Connect, DetailedDispatcher, type UpstreamRequest } from "./detailed-dispatch.ts";
import { valuesOf, withoutFields } from "./headers.ts";
import { Http2Dispatcher } from "./http2-dispatch.ts";
import { Http2Sessions } from "./http2-sessions.ts";
import { readByRecord } from "./spent.ts";

const require = createRequire(import.meta.url);

/** Limits of HTTP exchanges; every one has a default in `createGate`. */
export interface HttpLimits {
  /** Bytes of header, either way. */
  readonly headerBytes: number;
  /** Milliseconds until the server's response header, from the last byte of the request's body. */
  readonly responseTimeout: number;
  /** Milliseconds for which a client's connection may stay without a whole request header. */
  readonly clientTimeout: number;
}

/** Keep-alive connections to upstream servers, dialled by the gate's own rules. Nothing is shared between gates. */
export class UpstreamPool {
  readonly #newPlain: () => Agent;
  #plain: Agent | undefined;
  /** For requests over HTTP/1.1 that wait for 100 or may end in trailers. */
  readonly #detailed: DetailedDispatcher;
  readonly #http2: Http2Dispatcher;

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
    const http1 = connector(["http/1.1"]);
    this.#newPlain = () => newAgent(http1, limits);
    this.#detailed = new DetailedDispatcher(http1, limits);
    const sessions = new Http2Sessions(connector(["h2", "http/1.1"]), limits.headerBytes);
    this.#http2 = new Http2Dispatcher(sessions, limits);
  }

  /** Sends a request in the version that the client speaks, if the server does: gRPC needs HTTP/2 on both legs. */
  dispatch(request: UpstreamRequest, version: number, handler: Dispatcher.DispatchHandler): void {
    const overHttp1 = (): void => this.#overHttp1(request, version, handler);
    if (version === 2) this.#http2.dispatch(request, handler, overHttp1);
    else overHttp1();
  }

  #overHttp1(request: UpstreamRequest, version: number, handler: Dispatcher.DispatchHandler): void {
    const { origin, path, method, headers, body } = request;
    const plain = { origin, path, method, headers };
    const agent = (this.#plain ??= this.#newPlain());
    if (!body) return void agent.dispatch({ ...plain, body: null }, handler);
    // Trailers need chunks (RFC 9112 section 7.1.2), and behind chunks they may come announced or not.
    const announced = valuesOf(headers, "trailer").length > 0;
    const chunked = announced || valuesOf(headers, "content-length").length === 0;
    if (chunked || request.expectsContinue) {
      const framed = chunked ? withoutFields(headers, ["content-length"]) : headers;
      return this.#detailed.dispatch({ ...request, headers: framed, body }, handler);
    }
    const copy = new PassThrough();
    if (version === 2) body.once("end", () => refuseTrailers(request, copy));
    agent.dispatch({ ...plain, body: detach(body, copy) }, handler);
  }

  async close(): Promise<void> {
    this.#detailed.close();
    this.#http2.close();
    await this.#plain?.destroy();
  }
}

/** undici is loaded only here: that takes a good part of a gate's start, and many a gate sends no request. */
function newAgent(connect: Connect, limits: HttpLimits): Agent {
  const undici = require("undici") as typeof import("undici");
  const open = callbackify(connect);
  return new undici.Agent({
    allowH2: false,
    // One request at a time on a connection: a slow one must not hold up another's answer.
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
}

/**
 * Makes `copy` the body as a stream of its own: undici destroys what it was given when the server answers early, and
 * the client's connection must survive that.
 */
function detach(body: Readable, copy: PassThrough): Readable {
  body.pipe(copy);
  body.once("error", (error) => copy.destroy(error));
  body.once("aborted", () => copy.destroy(new Error("the client went away")));
  copy.once("close", () => {
    body.unpipe(copy);
    body.resume();
  });
  copy.on("error", () => undefined);
  return copy;
}

/** Trailers behind a body of known length are HTTP/2's alone: to a server of HTTP/1.1 better an error than their loss. */
function refuseTrailers(request: UpstreamRequest, copy: PassThrough): void {
  try {
    if (request.trailers().length > 0) throw unannounced();
  } catch (error) {
    copy.destroy(error as Error);
  }
}

function unannounced(): GateError {
  return new GateError(
    "ERR_NONO_PROTOCOL",
    "The request ends in trailers that no Trailer field has announced, after a body of announced length, and the server speaks HTTP/1.1.",
    { remedy: "Name them in a Trailer field, or leave Content-Length out." },
  );
}

function endpointOf(hostname: string, secure: boolean, port: string): Endpoint {
  return { host: parseHost(hostname), port: Number(port || (secure ? 443 : 80)) };
}

/** `scheme://host[:port]`, as undici names a server. */
export function originOf({ host, port }: Endpoint, secure: boolean): string {
  return `${secure ? "https" : "http"}://${bracketed(host)}:${port}`;
}
