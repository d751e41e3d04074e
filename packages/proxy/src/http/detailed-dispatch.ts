import type http from "node:http";
import type { Socket } from "node:net";
import type { Readable } from "node:stream";
import { callbackify } from "node:util";
import type { Dispatcher } from "undici";
import { nodeHttp } from "../net/node-http.ts";
import { awaitAnswer } from "./answer-timeout.ts";
import { type FlatHeaders, pairsOf, valuesOf } from "./headers.ts";

/** Opens a connection to a server, secured when the protocol is `https:`. */
export type Connect = (hostname: string, protocol: string, port: string) => Promise<Socket>;

/** A request as it goes to a server. */
export interface UpstreamRequest {
  /** `scheme://host:port`. */
  readonly origin: string;
  readonly path: string;
  readonly method: string;
  readonly headers: FlatHeaders;
  readonly body: Readable | undefined;
  /** Sends `Expect: 100-continue`; the body comes when it comes, since a server may never say 100. */
  readonly expectsContinue: boolean;
  onContinue(): void;
  /** Asked at the end of the body; what it throws breaks the request off. */
  trailers(): FlatHeaders;
}

/**
 * Sends requests with trailers, or with a body that waits for the server's word, by Node's own client: undici refuses
 * the one and cannot do the other. Speaks to the same handlers.
 */
export class DetailedDispatcher {
  readonly #agents: Readonly<Record<string, ConnectingAgent>>;
  readonly #timeout: number;
  readonly #headerBytes: number;

  /** `responseTimeout`: milliseconds until the response header, from the last byte of the body that was sent. */
  constructor(connect: Connect, limits: { responseTimeout: number; headerBytes: number }) {
    const agent = (protocol: string): ConnectingAgent => new ConnectingAgent(connect, protocol);
    this.#agents = { "http:": agent("http:"), "https:": agent("https:") };
    this.#timeout = limits.responseTimeout;
    this.#headerBytes = limits.headerBytes;
  }

  dispatch(
    options: UpstreamRequest & { readonly body: Readable },
    handler: Dispatcher.DispatchHandler,
  ): void {
    const { origin, path, method, headers, body } = options;
    const url = new URL(origin);
    const added = ["host", url.host];
    if (options.expectsContinue) added.push("expect", "100-continue");
    // Node would not frame the body of a GET or DELETE by itself.
    if (valuesOf(headers, "content-length").length === 0)
      added.push("transfer-encoding", "chunked");
    const outgoing = nodeHttp.request({
      agent: this.#agents[url.protocol],
      host: url.hostname,
      port: url.port,
      path,
      method,
      maxHeaderSize: this.#headerBytes,
      headers: [...added, ...headers],
    });
    const controller = new RequestController(outgoing);
    let done = false;
    const fail = (error: Error): void => {
      if (done) return;
      done = true;
      handler.onResponseError?.(controller, controller.reason ?? error);
    };
    outgoing.once("close", () => {
      fail(Object.assign(new Error("closed"), { code: "ECONNRESET" }));
    });
    outgoing.on("error", fail);
    outgoing.once("continue", () => options.onContinue());
    outgoing.on("information", ({ statusCode, rawHeaders }) => {
      controller.rawHeaders = rawHeaders;
      if (statusCode !== 100) handler.onResponseStart?.(controller, statusCode, {}, "");
    });
    outgoing.once("response", (response) => {
      // An answer before the end of the body: the rest of it must not be taken for the next request.
      if (!outgoing.writableEnded) response.once("end", () => outgoing.destroy());
      controller.rawHeaders = response.rawHeaders;
      controller.response = response;
      response.on("data", (chunk: Buffer) => handler.onResponseData?.(controller, chunk));
      response.once("error", fail);
      response.once("end", () => {
        if (done) return;
        done = true;
        handler.onResponseEnd?.(controller, response.trailers);
      });
      handler.onResponseStart?.(controller, response.statusCode ?? 0, {}, response.statusMessage);
    });
    handler.onRequestStart?.(controller, {});
    if (controller.aborted) return;
    outgoing.flushHeaders();
    body.pipe(outgoing, { end: false });
    const stopWaiting = awaitAnswer(body, this.#timeout, (error) => controller.abort(error));
    outgoing.once("response", stopWaiting).once("close", stopWaiting);
    body.once("end", () => {
      let trailers: FlatHeaders;
      try {
        trailers = options.trailers();
      } catch (error) {
        return controller.abort(error as Error);
      }
      if (trailers.length > 0) outgoing.addTrailers(pairsOf(trailers));
      return void outgoing.end();
    });
    body.once("aborted", () => controller.abort(new Error("the client went away")));
    outgoing.once("close", () => {
      body.unpipe(outgoing);
      body.resume();
    });
  }

  close(): void {
    for (const agent of Object.values(this.#agents)) agent.destroy();
  }
}

/** Keeps connections that are opened by the gate's own dialler. */
class ConnectingAgent extends nodeHttp.Agent {
  readonly #connect: Connect;
  readonly #protocol: string;

  constructor(connect: Connect, protocol: string) {
    super({ keepAlive: true, timeout: 30_000 });
    this.#connect = connect;
    this.#protocol = protocol;
  }

  override createConnection(
    options: http.ClientRequestArgs,
    callback?: (error: Error | null, socket: Socket) => void,
  ): undefined {
    const { host, port } = options;
    callbackify(this.#connect)(host ?? "", this.#protocol, String(port ?? ""), (error, socket) =>
      callback?.(error, socket),
    );
  }
}

class RequestController implements Dispatcher.DispatchController {
  readonly #outgoing: http.ClientRequest;
  response: http.IncomingMessage | undefined;
  rawHeaders: string[] = [];
  aborted = false;
  paused = false;
  reason: Error | null = null;

  constructor(outgoing: http.ClientRequest) {
    this.#outgoing = outgoing;
  }

  abort(reason: Error): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    this.#outgoing.destroy(reason);
  }

  pause(): void {
    this.paused = true;
    this.response?.pause();
  }

  resume(): void {
    this.paused = false;
    this.response?.resume();
  }
}
