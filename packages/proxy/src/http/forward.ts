import type { Readable } from "node:stream";
import { GateError } from "../errors.ts";
import type { GateEvent, Recorder } from "../event.ts";
import type { CredentialBroker } from "../credentials/broker.ts";
import type { HttpRules } from "../policy/http-rules.ts";
import { Exchange } from "./exchange.ts";
import { type FlatHeaders, endToEnd, joinCookies, withField } from "./headers.ts";
import { type GateRequest, type GateResponse, asGateError, refuseRequest } from "./refusal.ts";
import { type Destination, originForm } from "./request-target.ts";
import type { UpstreamPool } from "./upstream-pool.ts";

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
    const rule = context.rules.check(destination.endpoint, method, path, request.rawHeaders);
    if (rule !== undefined) event.rule = { id: rule };
    const injection = await context.broker.prepare(destination, {
      method,
      path,
      headers: requestHeaders(request),
      body: bodyOf(request),
      expectsContinue: request.headers.expect?.toLowerCase() === "100-continue",
      sendBody: () => response.writeContinue(),
    });
    const ref = await context.recorder.intent(event);
    const exchange = new Exchange(context.pool, destination, request, response, injection);
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
