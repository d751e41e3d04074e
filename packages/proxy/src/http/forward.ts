import { PassThrough, type Readable } from "node:stream";
import type { Dispatcher } from "undici";
import { GateError } from "../errors.ts";
import type { GateEvent, Recorder } from "../event.ts";
import type { CredentialBroker, Injection } from "../credentials/broker.ts";
import type { HttpRules } from "../policy/http-rules.ts";
import { type FlatHeaders, endToEnd, joinCookies, valuesOf, withField } from "./headers.ts";
import {
  type GateRequest,
  type GateResponse,
  asGateError,
  breakOff,
  refuseRequest,
} from "./refusal.ts";
import { type Destination, originForm } from "./request-target.ts";
import { type BodyWriter, bodyWriterFor } from "./response-body.ts";
import { type UpstreamPool, originOf } from "./upstream-pool.ts";

/** What every HTTP exchange of a gate needs. */
export interface ForwardContext {
  readonly recorder: Recorder;
  readonly rules: HttpRules;
  readonly broker: CredentialBroker;
  readonly pool: UpstreamPool;
}

/** Judges one request, sends it on and streams the answer back. Never throws: failures become answers. */
export async function forward(
  context: ForwardContext,
  destination: Destination,
  request: GateRequest,
  response: GateResponse,
): Promise<void> {
  const { host } = destination.endpoint;
  const event = requestEvent(request, destination, destination.secure ? "https" : "http");
  try {
    const path = originForm(request, destination);
    const method = request.method ?? "GET";
    refuseTrace(method);
    const rule = context.rules.check(destination.endpoint, method, path);
    if (rule !== undefined) event.rule = { id: rule };
    const injection = await context.broker.prepare(destination, {
      method,
      path,
      headers: requestHeaders(request),
      body: bodyOf(request),
    });
    const ref = await context.recorder.intent(event);
    // Only now is the client told to send its body (RFC 9110 section 10.1.1).
    if (request.headers.expect !== undefined) response.writeContinue();
    const exchange = new Exchange(context, destination, request, response, injection);
    const outcome = await exchange.run(method);
    const result: GateEvent = {
      type: "http.response",
      phase: "result",
      decision: "allow",
      object: { status: outcome.status, host: host.text },
      outcome,
    };
    if (ref !== undefined) result.ref = ref;
    context.recorder.note(result);
  } catch (failure) {
    const error = asGateError(failure);
    context.recorder.deny(event, error);
    refuseRequest(response, error);
    // What is left of a refused body is not worth reading.
    if (!request.readableEnded) request.resume();
  }
}

/** What goes on record before a request is forwarded. */
export function requestEvent(
  request: GateRequest,
  { endpoint }: Destination,
  scheme: string,
): GateEvent {
  return {
    type: "http.request",
    phase: "intent",
    decision: "allow",
    object: {
      method: request.method ?? "GET",
      scheme,
      host: endpoint.host.text,
      port: endpoint.port,
      // A query may carry anything, secrets included.
      path: (request.url ?? "").replace(/\?.*$/s, "?…"),
    },
  };
}

/** TRACE answers with the request it received: the credential would come back in the body. */
function refuseTrace(method: string): void {
  if (/^(TRACE|TRACK|DEBUG)$/i.test(method)) {
    throw new GateError("ERR_NONO_METHOD_REFUSED", `${method} would echo injected credentials.`, {
      value: method,
    });
  }
}

function requestHeaders(request: GateRequest): FlatHeaders {
  const kept = joinCookies(endToEnd(request.rawHeaders, ["host", "expect"]));
  const trailers = request.httpVersionMajor === 2 && request.headers.te === "trailers";
  return trailers ? withField(kept, "te", "trailers") : kept;
}

function bodyOf(request: GateRequest): Readable | undefined {
  const { headers } = request;
  const announced =
    request.httpVersionMajor === 2
      ? "stream" in request && !request.stream.endAfterHeaders
      : headers["transfer-encoding"] !== undefined ||
        (headers["content-length"] !== undefined && headers["content-length"] !== "0");
  return announced ? request : undefined;
}

interface Outcome {
  status: number;
  bytes: number;
  durationUs: number;
}

/** One request on its way to the server and its answer on its way back. */
class Exchange {
  readonly #context: ForwardContext;
  readonly #destination: Destination;
  readonly #request: GateRequest;
  readonly #response: GateResponse;
  #injection: Injection;
  #started = process.hrtime.bigint();

  constructor(
    context: ForwardContext,
    destination: Destination,
    request: GateRequest,
    response: GateResponse,
    injection: Injection,
  ) {
    this.#context = context;
    this.#destination = destination;
    this.#request = request;
    this.#response = response;
    this.#injection = injection;
  }

  async run(method: string): Promise<Outcome> {
    const attempt = (): Promise<Outcome> =>
      new Promise((resolve, reject) => this.#dispatch(method, resolve, reject));
    // Only a request without a body can be sent again.
    const refreshed = this.#injection.body ? undefined : this.#injection.refresh;
    if (!refreshed) return attempt();
    try {
      this.#retryOn401 = true;
      return await attempt();
    } catch (error) {
      if (!(error instanceof Unauthorized)) throw error;
      this.#retryOn401 = false;
      this.#injection = (await refreshed()) ?? this.#injection;
      return attempt();
    }
  }

  #retryOn401 = false;

  #dispatch(
    method: string,
    resolve: (outcome: Outcome) => void,
    reject: (error: unknown) => void,
  ): void {
    const { path, headers, body } = this.#injection;
    const { endpoint, secure } = this.#destination;
    const response = this.#response;
    let writer: BodyWriter | undefined;
    let status = 0;
    let bytes = 0;
    let finished = false;
    const onClientGone = (): void => {
      if (!finished) controllerOf?.abort(new Error("the client went away"));
    };
    let controllerOf: Dispatcher.DispatchController | undefined;
    response.once("close", onClientGone);

    const handler: Dispatcher.DispatchHandler = {
      onRequestStart: (controller) => {
        controllerOf = controller;
        if (response.destroyed) controller.abort(new Error("the client went away"));
      },
      onResponseStart: (controller, code, _headers, message) => {
        if (code < 200) return; // 100 and 103 are between the server and us
        if (code === 401 && this.#retryOn401) {
          finished = true;
          response.off("close", onClientGone);
          reject(new Unauthorized());
          controller.abort(new Error("asked again with a fresh credential"));
          return;
        }
        status = code;
        try {
          writer = this.#begin(controller, method, code, message);
        } catch (error) {
          finished = true;
          reject(error);
          controller.abort(error as Error);
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
        finished = true;
        response.off("close", onClientGone);
        const scrubbed = this.#injection.scrubTrailers(trailers);
        writer?.end(scrubbed, (error) => {
          if (error) breakOff(response);
        });
        const durationUs = Number((process.hrtime.bigint() - this.#started) / 1_000n);
        resolve({ status, bytes, durationUs });
      },
      onResponseError: (_controller, error) => {
        if (finished) return;
        finished = true;
        response.off("close", onClientGone);
        writer?.destroy();
        reject(error);
      },
    };
    const onBodyError = (error: Error): void => {
      if (finished) return;
      finished = true;
      reject(error);
      controllerOf?.abort(error);
    };
    if (body?.errored) {
      reject(body.errored);
      return;
    }
    body?.once("error", onBodyError);
    const pool = this.#context.pool.for(this.#request.httpVersionMajor);
    pool.dispatch(
      {
        origin: originOf(endpoint, secure),
        path,
        method,
        headers,
        body: body ? detached(body) : null,
      },
      handler,
    );
  }

  #begin(
    controller: Dispatcher.DispatchController,
    method: string,
    status: number,
    message: string | undefined,
  ): BodyWriter {
    const received = flatten(controller.rawHeaders);
    const scrubbed = this.#injection.scrubHeaders(received);
    const hasBody = method !== "HEAD" && status !== 204 && status !== 304;
    const writer = bodyWriterFor(
      this.#response,
      scrubbed,
      hasBody ? this.#injection.scrubber() : undefined,
    );
    const response = this.#response;
    const headers = this.#announceTrailers(endToEnd(writer.headers));
    if ("stream" in response) {
      response.writeHead(status, grouped(headers));
    } else {
      response.sendDate = false;
      response.writeHead(status, message ?? "", headers);
    }
    // A response may be a header for minutes before its first byte (events, long polls).
    if ("flushHeaders" in response) response.flushHeaders();
    return writer;
  }

  /** Trailers on HTTP/1.1 need chunks, so a length that came with them goes. */
  #announceTrailers(headers: FlatHeaders): FlatHeaders {
    return valuesOf(headers, "trailer").length > 0
      ? headers.filter((_, i) => headers[i - (i % 2)]?.toLowerCase() !== "content-length")
      : headers;
  }
}

/** The first answer was 401 and a fresh credential may help. */
class Unauthorized extends Error {}

/**
 * The body as a stream of its own: undici destroys what it was given when the server answers early, and the
 * client's connection must survive that.
 */
function detached(body: Readable): Readable {
  const copy = new PassThrough();
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

function flatten(raw: Dispatcher.DispatchController["rawHeaders"]): FlatHeaders {
  if (Array.isArray(raw))
    return raw.map((item) => (typeof item === "string" ? item : item.toString("latin1")));
  return Object.entries(raw ?? {}).flatMap(([name, value]) =>
    name.startsWith(":")
      ? []
      : (Array.isArray(value) ? value : [value ?? ""]).flatMap((one) => [name, one]),
  );
}

/** Node's HTTP/2 wants an object; repeated fields become arrays. */
function grouped(headers: FlatHeaders): Record<string, string | string[]> {
  const groups: Record<string, string | string[]> = {};
  for (let i = 0; i < headers.length; i += 2) {
    const name = (headers[i] ?? "").toLowerCase();
    const value = headers[i + 1] ?? "";
    const known = groups[name];
    groups[name] =
      known === undefined ? value : [...(Array.isArray(known) ? known : [known]), value];
  }
  return groups;
}
