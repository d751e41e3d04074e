import { constants } from "node:http2";
import type { Dispatcher } from "undici";
import type { Injection } from "../credentials/broker.ts";
import { GateError } from "../errors.ts";
import { type FlatHeaders, endToEnd, grouped, trailersToPass, valuesOf } from "./headers.ts";
import { type GateRequest, type GateResponse, breakOff } from "./refusal.ts";
import type { Destination } from "./request-target.ts";
import { type BodyWriter, bodyWriterFor } from "./response-body.ts";
import { type UpstreamPool, originOf } from "./upstream-pool.ts";

/** How an exchange went. */
export interface Outcome {
  readonly status: number;
  /** Of the body as it came from the server. */
  readonly bytes: number;
  readonly durationUs: number;
}

/** Methods that may be sent twice when the connection broke before any answer (RFC 9110 section 9.2.2). */
const repeatable = new Set(["GET", "HEAD", "OPTIONS"]);
/** Early hints that are passed on for one request; a server has no use for more than a few. */
const maxHints = 16;
const brokenConnection = new Set(["UND_ERR_SOCKET", "ECONNRESET", "EPIPE"]);

/** One request on its way to the server and its answer on its way back. */
export class Exchange {
  readonly #pool: UpstreamPool;
  readonly #destination: Destination;
  readonly #request: GateRequest;
  readonly #response: GateResponse;
  readonly #started = process.hrtime.bigint();
  #injection: Injection;
  #retryOn401 = false;
  #hints = 0;

  constructor(
    pool: UpstreamPool,
    destination: Destination,
    request: GateRequest,
    response: GateResponse,
    injection: Injection,
  ) {
    this.#pool = pool;
    this.#destination = destination;
    this.#request = request;
    this.#response = response;
    this.#injection = injection;
  }

  /** Rejects with what went wrong before an answer was begun; later failures break the answer off. */
  async run(method: string): Promise<Outcome> {
    // Only a request without a body can be sent again.
    if (this.#injection.body) return this.#attempt(method);
    this.#retryOn401 = this.#injection.refresh !== undefined;
    try {
      return await this.#attempt(method);
    } catch (error) {
      if (error instanceof Unauthorized) {
        this.#retryOn401 = false;
        this.#injection = (await this.#injection.refresh?.()) ?? this.#injection;
        return this.#attempt(method);
      }
      // A kept connection that the server was just closing; where it saw the request all the same, twice is once.
      const broken = brokenConnection.has((error as NodeJS.ErrnoException).code ?? "");
      if (!broken || !repeatable.has(method) || this.#response.headersSent) throw error;
      return this.#attempt(method);
    }
  }

  #attempt(method: string): Promise<Outcome> {
    return new Promise((resolve, reject) => this.#dispatch(method, resolve, reject));
  }

  #dispatch(
    method: string,
    resolve: (outcome: Outcome) => void,
    reject: (error: unknown) => void,
  ): void {
    const response = this.#response;
    let writer: BodyWriter | undefined;
    let controllerOf: Dispatcher.DispatchController | undefined;
    let status = 0;
    let bytes = 0;
    let finished = false;
    const finish = (): void => {
      finished = true;
      response.off("close", onClientGone);
    };
    const abort = (error: unknown): void => {
      if (finished) return;
      finish();
      reject(error);
      controllerOf?.abort(error as Error);
    };
    const onClientGone = (): void => abort(clientGone());
    response.once("close", onClientGone);

    const handler: Dispatcher.DispatchHandler = {
      onRequestStart: (controller) => {
        controllerOf = controller;
        if (finished || response.destroyed) controller.abort(clientGone());
      },
      onResponseStart: (controller, code, _headers, message) => {
        if (code < 200) return this.#inform(controller, code);
        if (code === 401 && this.#retryOn401) return abort(new Unauthorized());
        status = code;
        try {
          writer = this.#begin(controller, method, code, message);
        } catch (error) {
          abort(error);
        }
      },
      onResponseData: (controller, chunk) => {
        bytes += chunk.length;
        if (writer && !writer.write(chunk)) {
          controller.pause();
          writer.onceDrained(() => controller.resume());
        }
      },
      onResponseEnd: (_controller, trailers) => {
        if (finished) return;
        finish();
        const scrubbed = this.#injection.scrubTrailers(trailers);
        this.#stopUpload();
        writer?.end(scrubbed, (error) => {
          if (error) breakOff(response);
        });
        const durationUs = Number((process.hrtime.bigint() - this.#started) / 1_000n);
        resolve({ status, bytes, durationUs });
      },
      onResponseError: (_controller, error) => {
        if (finished) return;
        finish();
        writer?.destroy();
        reject(error);
      },
    };
    this.#send(method, handler, abort);
  }

  #send(
    method: string,
    handler: Dispatcher.DispatchHandler,
    abort: (error: unknown) => void,
  ): void {
    const { path, headers, body, expectsContinue } = this.#injection;
    const { endpoint, secure } = this.#destination;
    // Whoever is gone, as all are when the gate closes, has nobody dialled for them.
    if (this.#response.destroyed) return abort(clientGone());
    if (body?.errored) return abort(body.errored);
    body?.once("error", abort);
    const request = this.#request;
    this.#pool.dispatch(
      {
        origin: originOf(endpoint, secure),
        path,
        method,
        headers,
        body,
        expectsContinue,
        onContinue: () => this.#response.writeContinue(),
        trailers: () => this.#injection.editTrailers(trailersToPass(request.rawTrailers)),
      },
      request.httpVersionMajor,
      handler,
    );
  }

  /** The server has said all before the client did: on HTTP/2 the client is told so (RFC 9113 section 8.1). */
  #stopUpload(): void {
    const response = this.#response;
    if (!("stream" in response) || this.#request.readableEnded) return;
    const { stream } = response;
    response.once("finish", () => stream.close(constants.NGHTTP2_NO_ERROR));
  }

  /** Early hints go through; 100 is the gate's own affair (RFC 9110 section 15.2). */
  #inform(controller: Dispatcher.DispatchController, status: number): void {
    const response = this.#response;
    if (status !== 103 || response.headersSent || this.#request.httpVersion === "1.0") return;
    // Nothing holds up a server that goes on and on; a client that does not read would have them all kept for it.
    if (this.#hints++ >= maxHints) return;
    const hints = grouped(endToEnd(this.#injection.scrubTexts(flatten(controller.rawHeaders))));
    try {
      response.writeEarlyHints(hints);
    } catch {
      // Node sends well-formed links only; a hint is nothing that anyone may rely on.
    }
  }

  #begin(
    controller: Dispatcher.DispatchController,
    method: string,
    status: number,
    message = "",
  ): BodyWriter {
    const response = this.#response;
    const received = flatten(controller.rawHeaders);
    // The reason phrase and the names of fields can carry a value back as well as any field can.
    const [reason = "", ...scrubbed] = this.#injection.scrubTexts([message, ...received]);
    const hasBody = method !== "HEAD" && status !== 204 && status !== 304;
    const writer = bodyWriterFor(
      response,
      scrubbed,
      hasBody ? this.#injection.scrubber() : undefined,
    );
    const headers = announceTrailers(endToEnd(writer.headers));
    if ("stream" in response) {
      // gRPC's answer of trailers only is one frame that ends the stream: the header waits for that end.
      if (valuesOf(headers, "grpc-status").length === 0) {
        response.writeHead(status, grouped(headers));
      } else {
        response.statusCode = status;
        for (const [name, value] of Object.entries(grouped(headers))) {
          response.setHeader(name, value);
        }
        return writer;
      }
    } else {
      response.sendDate = false;
      // The rest of a body that nobody asked for is not waited for.
      if (!this.#request.complete && this.#injection.expectsContinue) {
        response.shouldKeepAlive = false;
      }
      response.writeHead(status, reason, headers);
    }
    // A response may be a header for minutes before its first byte (events, long polls). A body that came along with it
    // leaves in the same packet.
    process.nextTick(() => {
      if ("flushHeaders" in response && !writer.begun) response.flushHeaders();
    });
    return writer;
  }
}

/** The first answer was 401 and a fresh credential may help. */
class Unauthorized extends Error {}

function clientGone(): GateError {
  return new GateError("ERR_NONO_UPSTREAM", "The client went away before the answer was complete.");
}

/** Trailers on HTTP/1.1 need chunks, so a length that came with them goes. */
function announceTrailers(headers: FlatHeaders): FlatHeaders {
  return valuesOf(headers, "trailer").length > 0
    ? headers.filter((_, i) => headers[i - (i % 2)]?.toLowerCase() !== "content-length")
    : headers;
}

function flatten(raw: Dispatcher.DispatchController["rawHeaders"]): FlatHeaders {
  if (!Array.isArray(raw)) return [];
  return raw.map((item) => (typeof item === "string" ? item : item.toString("latin1")));
}
