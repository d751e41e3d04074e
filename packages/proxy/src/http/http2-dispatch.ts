import http2 from "node:http2";
import { callbackify } from "node:util";
import type { Dispatcher } from "undici";
import { nodeHttp } from "../net/node-http.ts";
import { awaitAnswer } from "./answer-timeout.ts";
import type { UpstreamRequest } from "./detailed-dispatch.ts";
import { type FlatHeaders, grouped, pairsOf } from "./headers.ts";
import type { Http2Sessions, UpstreamSession } from "./http2-sessions.ts";
import { releaseReads } from "./spent.ts";

const { NGHTTP2_CANCEL, NGHTTP2_NO_ERROR, NGHTTP2_REFUSED_STREAM } = http2.constants;

/**
 * Sends requests over HTTP/2 by Node's own client: undici's sends no trailers, and HTTP/2 announces none before the
 * end. Speaks to the same handlers.
 */
export class Http2Dispatcher {
  readonly #sessions: Http2Sessions;
  readonly #timeout: number;

  /** `responseTimeout`: milliseconds until the response header. */
  constructor(sessions: Http2Sessions, { responseTimeout }: { responseTimeout: number }) {
    this.#sessions = sessions;
    this.#timeout = responseTimeout;
  }

  /** `otherwise` is called instead when the server does not speak HTTP/2. */
  dispatch(
    request: UpstreamRequest,
    handler: Dispatcher.DispatchHandler,
    otherwise: () => void,
  ): void {
    const ready = this.#sessions.take(request.origin);
    if (ready === "http1") return otherwise();
    const controller = new StreamController();
    if (ready) return this.#send(ready, request, handler, controller);
    const obtain = callbackify((origin: string) => this.#sessions.obtain(origin));
    obtain(request.origin, (error, obtained) => {
      if (error) handler.onResponseError?.(controller, error);
      else if (obtained === "http1") otherwise();
      else this.#send(obtained, request, handler, controller);
    });
  }

  #send(
    upstream: UpstreamSession,
    request: UpstreamRequest,
    handler: Dispatcher.DispatchHandler,
    controller: StreamController,
  ): void {
    let stream: http2.ClientHttp2Stream;
    try {
      handler.onRequestStart?.(controller, {});
      if (controller.reason) throw controller.reason;
      stream = upstream.session.request(headersOf(request, upstream.authority), {
        endStream: request.body === undefined,
        waitForTrailers: request.body !== undefined,
      });
    } catch (error) {
      upstream.active -= 1;
      return handler.onResponseError?.(controller, error as Error);
    }
    controller.stream = stream;
    const exchange = new StreamExchange(request, handler, controller, stream);
    const stopWaiting = awaitAnswer(request.body, this.#timeout, (error) => {
      controller.abort(error);
      // It may be the connection that is dead: the next request gets another.
      upstream.session.close();
    });
    stream.once("response", stopWaiting);
    stream.once("close", () => {
      stopWaiting();
      upstream.active -= 1;
      exchange.closed();
    });
  }

  close(): void {
    this.#sessions.close();
  }
}

/** One request on its stream. */
class StreamExchange {
  readonly #request: UpstreamRequest;
  readonly #handler: Dispatcher.DispatchHandler;
  readonly #controller: StreamController;
  readonly #stream: http2.ClientHttp2Stream;
  #answered = false;
  #done = false;
  #error: Error | undefined;
  #trailers: NodeJS.Dict<string | string[]> = {};
  /** What has come in this turn of the event loop. */
  #chunks: Buffer[] = [];
  #length = 0;
  /** Bytes of body still to come; NaN where no length was announced. */
  #owed = Number.NaN;

  constructor(
    request: UpstreamRequest,
    handler: Dispatcher.DispatchHandler,
    controller: StreamController,
    stream: http2.ClientHttp2Stream,
  ) {
    this.#request = request;
    this.#handler = handler;
    this.#controller = controller;
    this.#stream = stream;
    stream.on("headers", (headers, _flags, raw) => {
      const status = headers[":status"];
      if (status !== undefined && status !== 100) this.#started(status, raw);
    });
    stream.once("continue", () => request.onContinue());
    stream.once("response", (headers, _flags, raw) => {
      this.#begin(headers[":status"] ?? 0, headers["content-length"], raw);
    });
    stream.once("trailers", (trailers) => {
      this.#trailers = trailers;
    });
    stream.on("data", (chunk: Buffer) => this.#take(chunk));
    stream.once("end", () => this.#ended());
    stream.once("error", (error) => {
      this.#error = error;
    });
    if (request.body) this.#upload(request.body);
  }

  #started(status: number, raw: string[]): void {
    this.#controller.rawHeaders = raw;
    this.#handler.onResponseStart?.(this.#controller, status, {}, "");
  }

  #begin(status: number, length: string | undefined, raw: string[]): void {
    this.#answered = true;
    const hasBody = this.#request.method !== "HEAD" && status !== 204 && status !== 304;
    if (hasBody) this.#owed = Number(length);
    this.#started(status, raw);
  }

  /**
   * A record of TLS holds two or three frames, and each would cost a write of its own on the other side: what has come
   * when the event loop has read everything there is goes on as one. It is a copy: this memory is the session's.
   */
  #take(chunk: Buffer): void {
    if (this.#chunks.length === 0) setImmediate(() => this.#deliver());
    this.#chunks.push(chunk);
    this.#length += chunk.length;
  }

  #deliver(): void {
    if (this.#length === 0 || this.#done || this.#controller.aborted) return;
    const whole = Buffer.concat(this.#chunks, this.#length);
    releaseReads(this.#chunks);
    this.#owed -= this.#length;
    this.#chunks = [];
    this.#length = 0;
    this.#handler.onResponseData?.(this.#controller, whole);
  }

  #ended(): void {
    this.#deliver();
    // Node ends a stream that was reset like one that is complete.
    const { rstCode } = this.#stream;
    const whole = this.#answered && rstCode === NGHTTP2_NO_ERROR && !(this.#owed > 0);
    if (!whole) return this.#fail(this.#error ?? broken("the answer is not complete"));
    if (this.#done) return;
    this.#done = true;
    this.#handler.onResponseEnd?.(this.#controller, this.#trailers);
    // An answer before the end of the body: the server does not want the rest.
    if (!this.#stream.writableEnded) this.#stream.close(NGHTTP2_CANCEL);
  }

  /** The stream is over, whatever came. */
  closed(): void {
    const { rstCode, session } = this.#stream;
    const unheard = rstCode === NGHTTP2_REFUSED_STREAM || !session || session.destroyed;
    this.#fail((unheard ? undefined : this.#error) ?? broken("the stream is closed", this.#error));
  }

  #fail(error: Error): void {
    if (this.#done) return;
    this.#done = true;
    this.#handler.onResponseError?.(this.#controller, this.#controller.reason ?? error);
  }

  #upload(body: NonNullable<UpstreamRequest["body"]>): void {
    const stream = this.#stream;
    stream.once("wantTrailers", () => {
      if (stream.closed) return; // an aborted one is about to be reset
      let trailers: FlatHeaders;
      try {
        trailers = this.#request.trailers();
        validate(trailers);
      } catch (error) {
        return this.#controller.abort(error as Error);
      }
      return stream.sendTrailers(grouped(trailers));
    });
    body.pipe(stream);
    body.once("aborted", () => this.#controller.abort(new Error("the client went away")));
    stream.once("close", () => {
      body.unpipe(stream);
      body.resume();
    });
  }
}

class StreamController implements Dispatcher.DispatchController {
  stream: http2.ClientHttp2Stream | undefined;
  rawHeaders: string[] = [];
  aborted = false;
  paused = false;
  reason: Error | null = null;

  abort(reason: Error): void {
    if (this.aborted) return;
    this.aborted = true;
    this.reason = reason;
    this.stream?.close(NGHTTP2_CANCEL);
  }

  pause(): void {
    this.paused = true;
    this.stream?.pause();
  }

  resume(): void {
    this.paused = false;
    this.stream?.resume();
  }
}

function headersOf(request: UpstreamRequest, authority: string): http2.OutgoingHttpHeaders {
  const { method, path, headers, expectsContinue } = request;
  nodeHttp.validateHeaderName(method); // a token too
  validate(headers);
  return {
    ...grouped(headers),
    ...(expectsContinue ? { expect: "100-continue" } : {}),
    ":method": method,
    ":path": path,
    ":scheme": "https",
    ":authority": authority,
  };
}

/** Node's HTTP/2 sends any value: a server that goes on in HTTP/1.1 would take a line end in one for the next field. */
function validate(headers: FlatHeaders): void {
  for (const [name, value] of pairsOf(headers)) {
    nodeHttp.validateHeaderName(name);
    nodeHttp.validateHeaderValue(name, value);
  }
}

function broken(message: string, cause?: Error): Error {
  return Object.assign(new Error(message, { cause }), { code: "ECONNRESET" });
}
