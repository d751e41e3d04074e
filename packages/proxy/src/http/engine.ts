import type http from "node:http";
import http2 from "node:http2";
import type { Socket } from "node:net";
import { TLSSocket } from "node:tls";
import { GateError } from "../errors.ts";
import { buffered } from "../net/buffers.ts";
import { nodeHttp } from "../net/node-http.ts";
import type { CertificateAuthority } from "../tls/authority.ts";
import { type ForwardContext, forward, requestEvent } from "./forward.ts";
import { windows } from "./http2-sessions.ts";
import {
  type GateRequest,
  type GateResponse,
  asGateError,
  refuseOnSocket,
  refuseRequest,
} from "./refusal.ts";
import type { Destination } from "./request-target.ts";
import type { HttpLimits } from "./upstream-pool.ts";
import { type UpgradeContext, forwardUpgrade, isWebSocketRequest } from "./upgrade.ts";

/** Milliseconds a client may take for its TLS handshake. */
const handshakeTimeout = 10_000;
/** Requests at one time in a connection of HTTP/2; Node's default is no limit. */
const maxStreams = 256;
/** The same in one of HTTP/1.1, sent without waiting for answers (RFC 9112 section 9.3.2): each has its own way upstream. */
const maxPipelined = 32;

/** Limits of Node's parser, by its errors' codes. */
const exceeded: Readonly<Record<string, string>> = {
  HPE_HEADER_OVERFLOW: "The request's header is larger than the limit.",
  ERR_HTTP_REQUEST_TIMEOUT: "The request's header took longer than the limit.",
};

/**
 * The HTTP servers of a gate. They never listen: connections are handed to them once their destination is
 * known, and every request is judged against that destination.
 */
export class HttpEngine {
  readonly #context: ForwardContext & UpgradeContext;
  readonly #authority: CertificateAuthority;
  readonly #http1: http.Server;
  readonly #http2: http2.Http2Server;
  /** By the socket of HTTP/1.1, or by the session of HTTP/2. */
  readonly #destinations = new WeakMap<object, Destination>();
  readonly #sessions = new Set<http2.ServerHttp2Session>();
  /** Requests without a whole answer, by the socket of HTTP/1.1. */
  readonly #pipelined = new WeakMap<object, number>();

  constructor(
    context: ForwardContext & UpgradeContext,
    authority: CertificateAuthority,
    limits: HttpLimits,
  ) {
    this.#context = context;
    this.#authority = authority;
    this.#http1 = nodeHttp.createServer({
      maxHeaderSize: limits.headerBytes,
      requestTimeout: 0, // uploads may take as long as they need
      headersTimeout: limits.clientTimeout,
      keepAliveTimeout: limits.clientTimeout,
      connectionsCheckingInterval: Math.min(limits.clientTimeout, 30_000),
      noDelay: true,
      shouldUpgradeCallback: isWebSocketRequest,
    });
    this.#http1.emit("listening"); // Node looks after headersTimeout from here on, and this server never listens
    const handle = (request: GateRequest, response: GateResponse): void => {
      void this.handle(request, response);
    };
    this.#http1.on("request", handle);
    // Without a listener Node would say "100 Continue" before the request has been judged.
    this.#http1.on("checkContinue", handle);
    this.#http1.on(
      "upgrade",
      (request, socket, head) => void this.#upgrade(request, socket as Socket, head),
    );
    this.#http1.on("clientError", (error: NodeJS.ErrnoException, socket) => {
      if (error.code === "ECONNRESET") socket.destroy();
      // Once is enough: the parser complains again about everything that follows.
      else if (!socket.writableEnded) this.#refuseMalformed(socket as Socket, error);
    });
    this.#http2 = http2.createServer({
      maxSessionMemory: 64,
      settings: {
        initialWindowSize: windows.stream,
        maxConcurrentStreams: maxStreams,
        maxHeaderListSize: limits.headerBytes,
      },
    });
    this.#http2.on("request", handle);
    this.#http2.on("checkContinue", handle);
    this.#http2.on("session", (session) => {
      this.#sessions.add(session);
      session.once("close", () => this.#sessions.delete(session));
      session.setLocalWindowSize(windows.session);
      let streams = 0;
      session.on("stream", (stream) => {
        streams += 1;
        stream.once("close", () => (streams -= 1));
      });
      session.setTimeout(limits.clientTimeout);
      session.on("timeout", () => {
        if (streams === 0) session.close();
      });
    });
  }

  /** Serves a connection that carries HTTP in the clear. */
  plain(socket: Socket, destination: Destination): void {
    this.#destinations.set(socket, destination);
    this.#http1.emit("connection", socket);
  }

  /** Terminates TLS on a connection, in the destination's name, and serves what is inside. */
  terminate(socket: Socket, destination: Destination): void {
    const secure = new TLSSocket(socket, {
      isServer: true,
      secureContext: this.#authority.contextFor(destination.endpoint.host),
      ALPNProtocols: ["h2", "http/1.1"],
      ...buffered,
    });
    const timer = setTimeout(() => socket.destroy(), handshakeTimeout);
    secure.on("error", () => socket.destroy());
    secure.once("close", () => clearTimeout(timer));
    secure.once("secure", () => {
      clearTimeout(timer);
      // tls.Server does this for its own sockets; an HTTP/2 session waits for it.
      Object.assign(secure, { secureConnecting: false });
      this.#destinations.set(secure, destination);
      if (secure.alpnProtocol !== "h2") {
        this.#http1.emit("connection", secure);
        return;
      }
      this.#http2.once("session", (session) => this.#destinations.set(session, destination));
      this.#http2.emit("connection", secure); // makes the session before it returns
    });
  }

  /** Answers a request whose destination is given, or is that of its connection. */
  async handle(request: GateRequest, response: GateResponse, given?: Destination): Promise<void> {
    request.on("error", () => undefined);
    response.on("error", () => undefined);
    const carrier = "stream" in request ? request.stream.session : request.socket;
    const destination = given ?? (carrier && this.#destinations.get(carrier));
    if (!destination) {
      const error = new GateError(
        "ERR_NONO_PROTOCOL",
        "The destination of this request is unknown.",
      );
      return refuseRequest(response, error);
    }
    if (!("stream" in request) && !this.#mayPipeline(request.socket, response)) {
      return this.#dropPipelined(request, destination);
    }
    await forward(this.#context, destination, request, response);
  }

  #mayPipeline(socket: Socket, response: GateResponse): boolean {
    const open = (this.#pipelined.get(socket) ?? 0) + 1;
    if (open > maxPipelined) return false;
    this.#pipelined.set(socket, open);
    response.once("close", () => {
      this.#pipelined.set(socket, (this.#pipelined.get(socket) ?? 1) - 1);
    });
    return true;
  }

  #dropPipelined(request: http.IncomingMessage, destination: Destination): void {
    // One report is enough: what else has been read goes with the connection.
    if (request.socket.destroyed) return;
    const error = new GateError(
      "ERR_NONO_LIMIT",
      `More than ${maxPipelined} requests at once in one connection.`,
      { remedy: "Wait for answers." },
    );
    const scheme = destination.secure ? "https" : "http";
    this.#context.recorder.deny(requestEvent(request, destination, scheme), error);
    request.socket.destroy();
  }

  close(): void {
    this.#http1.closeAllConnections();
    this.#http1.close();
    for (const session of this.#sessions) session.destroy();
  }

  async #upgrade(request: http.IncomingMessage, socket: Socket, head: Buffer): Promise<void> {
    const destination = this.#destinations.get(socket);
    if (!destination) return void socket.destroy();
    await forwardUpgrade(this.#context, destination, request, socket, head);
  }

  #refuseMalformed(socket: Socket, cause: NodeJS.ErrnoException): void {
    const destination = this.#destinations.get(socket);
    const beyond = exceeded[cause.code ?? ""];
    const error =
      beyond === undefined
        ? new GateError(
            "ERR_NONO_PROTOCOL",
            `The request is malformed: ${cause.code ?? "unreadable"}.`,
            { cause },
          )
        : new GateError("ERR_NONO_LIMIT", beyond, { cause });
    const { host, port } = destination?.endpoint ?? { host: undefined, port: 0 };
    this.#context.recorder.deny(
      {
        type: "http.request",
        object: {
          method: "?",
          scheme: destination?.secure ? "https" : "http",
          host: host?.text ?? "?",
          port,
          path: "?",
        },
      },
      asGateError(error),
    );
    refuseOnSocket(socket, error);
  }
}
