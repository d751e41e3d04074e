// Entries in other people's formats. An export is a copy for reading: only the log itself is evidence.
import type { Entry } from "./entry.ts";

export { ocsfVersion, toOcsf, type OcsfEvent } from "./ocsf.ts";

/** A CloudEvents 1.0 envelope in its JSON format, with the `sequence` extension. */
export interface CloudEvent {
  readonly specversion: "1.0";
  readonly id: string;
  readonly source: string;
  readonly type: string;
  readonly time: string;
  readonly datacontenttype: "application/json";
  readonly sequence: string;
  readonly data: Entry;
}

/**
 * The CloudEvent of an entry; `sequence` sorts as text.
 *
 * @example
 * ```ts
 * await fetch(webhook, { method: "POST", body: JSON.stringify(toCloudEvent(entry, log.origin)) });
 * ```
 */
export function toCloudEvent(entry: Entry, origin: string): CloudEvent {
  return {
    specversion: "1.0",
    id: entry.id,
    source: origin,
    type: `nono.audit.${entry.type}`,
    time: new Date(entry.time).toISOString(),
    datacontenttype: "application/json",
    sequence: String(entry.seq).padStart(16, "0"),
    data: entry,
  };
}

/** One attribute of an OTLP record. */
interface OtlpAttribute {
  readonly key: string;
  readonly value: { readonly stringValue: string } | { readonly intValue: string };
}

/**
 * An OTLP `ExportLogsServiceRequest` (JSON encoding) with these entries; POST it to a collector's `/v1/logs`.
 *
 * @example
 * ```ts
 * await fetch(`${collector}/v1/logs`, { method: "POST", headers, body: JSON.stringify(toOtlpLogs(entries, log.origin)) });
 * ```
 */
export function toOtlpLogs(entries: readonly Entry[], origin: string): object {
  const resource = {
    attributes: [attribute("service.name", "nono"), attribute("nono.audit.origin", origin)],
  };
  const logRecords = entries.map(otlpRecord);
  return {
    resourceLogs: [{ resource, scopeLogs: [{ scope: { name: "@nono/audit" }, logRecords }] }],
  };
}

function otlpRecord(entry: Entry): object {
  // Severity numbers of the OpenTelemetry log model: INFO 9, WARN 13, ERROR 17.
  const severityNumber = { allow: 9, ask: 9, deny: 13, error: 17 }[entry.decision];
  const { agent } = (entry.actor ?? {}) as { agent?: { id?: string } };
  const { object } = entry;
  return {
    timeUnixNano: `${entry.time}000000`,
    severityNumber,
    eventName: `nono.${entry.type}`,
    body: { stringValue: JSON.stringify(object) },
    attributes: [
      attribute("nono.audit.seq", entry.seq),
      attribute("nono.audit.phase", entry.phase),
      attribute("nono.audit.decision", entry.decision),
      ...optional("nono.audit.rule", entry.rule?.id),
      ...optional("process.pid", entry.actor?.pid),
      ...optional("process.executable.path", entry.actor?.exe),
      ...optional("gen_ai.agent.id", agent?.id),
      ...optional("gen_ai.tool.name", entry.type.startsWith("tool.") ? object.name : undefined),
      ...optional("gen_ai.tool.call.id", object.callId),
    ],
    ...(entry.trace && { traceId: entry.trace.traceId, spanId: entry.trace.spanId }),
  };
}

function optional(key: string, value: unknown): OtlpAttribute[] {
  return typeof value === "string" || typeof value === "number" ? [attribute(key, value)] : [];
}

function attribute(key: string, value: string | number): OtlpAttribute {
  return {
    key,
    value: typeof value === "number" ? { intValue: String(value) } : { stringValue: value },
  };
}
