// OpenTelemetry spans of one's own runs. @opentelemetry/api is an optional peer: without it, or without
// an SDK registered with it, all of this does nothing.
import type { Span, SpanContext } from "@opentelemetry/api";

/** Not the API's own type: what is declared here must compile without it. */
type Attributes = Record<string, string | number | string[]>;

type Api = typeof import("@opentelemetry/api");

let api: Promise<Api | undefined> | undefined;

/** Where the API keeps what an SDK has registered with it: in this process, whichever copy of it that was. */
const registered = Symbol.for("opentelemetry.js.api.1");

/** The API, if an SDK is registered with it: else its modules are not loaded, which a short run would notice. */
async function openTelemetry(): Promise<Api | undefined> {
  if (!(registered in globalThis)) return undefined;
  api ??= import("@opentelemetry/api").catch(() => undefined);
  return api;
}

/** Whether spans may go anywhere: an SDK is registered by now. */
export async function hasOpenTelemetry(): Promise<boolean> {
  return (await openTelemetry()) !== undefined;
}

/** Does `work` in a span named `name`; an error is recorded and thrown on. */
export async function traced<T>(
  name: string,
  attributes: Attributes,
  work: () => Promise<T>,
): Promise<T> {
  const otel = await openTelemetry();
  if (otel === undefined) return work();
  return otel.trace.getTracer("@nono/sdk").startActiveSpan(name, { attributes }, async (span) => {
    try {
      return await work();
    } catch (error) {
      fail(otel, span, error);
      throw error;
    } finally {
      span.end();
    }
  });
}

/** As an audit entry wants it. */
export interface TraceIds {
  readonly traceId: string;
  readonly spanId: string;
}

/** The span that is active now, if there is one. */
export async function currentTrace(): Promise<TraceIds | undefined> {
  const otel = await openTelemetry();
  return idsOf(otel, otel?.trace.getActiveSpan()?.spanContext());
}

/** One step that begins and ends at different places: a request through the gate. */
export interface OpenSpan {
  readonly ids: TraceIds | undefined;
  end(outcome: "ok" | "error", attributes: Attributes): void;
}

/** Begins such a span; undefined when nobody records it. */
export async function openSpan(
  name: string,
  attributes: Attributes,
): Promise<OpenSpan | undefined> {
  const otel = await openTelemetry();
  const span = otel?.trace.getTracer("@nono/sdk").startSpan(name, { attributes });
  if (otel === undefined || !span?.isRecording()) return undefined;
  return {
    ids: idsOf(otel, span.spanContext()),
    end(outcome, more) {
      span.setAttributes(more);
      if (outcome === "error") span.setStatus({ code: otel.SpanStatusCode.ERROR });
      span.end();
    },
  };
}

function idsOf(otel: Api | undefined, context: SpanContext | undefined): TraceIds | undefined {
  if (otel === undefined || context === undefined || !otel.isSpanContextValid(context))
    return undefined;
  return { traceId: context.traceId, spanId: context.spanId };
}

function fail(otel: Api, span: Span, error: unknown): void {
  const { code } = error as { code?: unknown };
  if (typeof code === "string") span.setAttribute("error.type", code);
  span.recordException(error as Error);
  span.setStatus({ code: otel.SpanStatusCode.ERROR, message: String(error) });
}
