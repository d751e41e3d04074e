// Where the gate's events go: the run's record, and a span for each request and connection.
import type { EventSink, GateEvent } from "@nono/proxy";
import type { RunRecord } from "./audit.ts";
import { hasOpenTelemetry, type OpenSpan, openSpan } from "./telemetry.ts";

/** The gate's sink; undefined when nobody wants to know. */
export async function gateSink(record: RunRecord | undefined): Promise<EventSink | undefined> {
  if (await hasOpenTelemetry()) return new TracingSink(record);
  return record;
}

class TracingSink implements EventSink {
  readonly #record: RunRecord | undefined;
  readonly #open = new Map<number, OpenSpan>();
  #unrecorded = 0;

  constructor(record: RunRecord | undefined) {
    this.#record = record;
  }

  async record(event: GateEvent): Promise<{ readonly seq: number }> {
    const ended = event.ref === undefined ? undefined : this.#end(event.ref, event);
    const isRequest = event.type === "http.request" || event.type === "net.connect";
    const begins = isRequest && event.phase !== "result";
    const span = begins
      ? await openSpan(`nono.gate ${event.type}`, attributesOf(event))
      : undefined;
    const trace = (span ?? ended)?.ids;
    const { seq } = this.#record
      ? await this.#record.record({ ...event, ...(trace && { trace }) })
      : { seq: (this.#unrecorded += 1) };
    if (span && event.phase === "intent") this.#open.set(seq, span);
    else span?.end(event.decision === "allow" ? "ok" : "error", {});
    return { seq };
  }

  /** Ends the span of what `ref` has begun; returns it. */
  #end(ref: number, { decision, outcome }: GateEvent): OpenSpan | undefined {
    const status = outcome?.status;
    const attributes = status === undefined ? {} : { "http.response.status_code": status };
    const span = this.#open.get(ref);
    span?.end(decision === "allow" ? "ok" : "error", attributes);
    this.#open.delete(ref);
    return span;
  }
}

/** Names of OpenTelemetry's semantic conventions for HTTP; never a query, which may hold secrets. */
function attributesOf({ object, decision }: GateEvent): Record<string, string | number> {
  const attributes: Record<string, string | number> = { "nono.decision": decision };
  if ("host" in object && object.host !== undefined) attributes["server.address"] = object.host;
  if ("port" in object) attributes["server.port"] = object.port;
  if ("method" in object) attributes["http.request.method"] = object.method;
  if ("path" in object) attributes["url.path"] = object.path.split("?")[0] ?? "";
  return attributes;
}
