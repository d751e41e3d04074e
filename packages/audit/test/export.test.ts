import { describe, expect, test } from "vitest";
import { encodeEntry } from "../src/encode.ts";
import { decodeEntry, type Entry, type NonoEvent } from "../src/index.ts";
import type { LogEvent } from "../src/event.ts";
import { toCloudEvent, toOcsf, toOtlpLogs } from "../src/export.ts";
import { objectFields } from "../src/schema.ts";

const origin = "nono.local/host/session/1";

function entryOf(event: NonoEvent | LogEvent): Entry {
  const stamp = {
    seq: 42,
    id: "0193a4f0-1111-7111-8111-000000000001",
    session: '"1"',
    time: 1_763_900_000_123,
    mono: "1",
  };
  return decodeEntry(Buffer.from(encodeEntry(event, stamp)), 42);
}

const denied = entryOf({
  type: "net.connect",
  phase: "intent",
  decision: "deny",
  rule: { id: "net:default" },
  actor: { pid: 7, exe: "/usr/bin/curl", argv: ["curl", "x"], uid: 1000, agent: { id: "agent-1" } },
  object: { host: "evil.example", address: "203.0.113.9", port: 443, transport: "tcp" },
  trace: { traceId: "4bf92f3577b34da6a3ce929d0e0e4736", spanId: "00f067aa0ba902b7" },
});

describe("exports", () => {
  test("every type has an OCSF class; type_uid and category follow from it", () => {
    for (const type of Object.keys(objectFields)) {
      const event = toOcsf(
        entryOf({ type, phase: "event", decision: "allow", object: {} } as unknown as NonoEvent),
        origin,
      );
      const {
        class_uid: classUid,
        activity_id: activity,
        type_uid: typeUid,
        category_uid: category,
      } = event as Record<string, number>;
      expect(typeUid).toBe((classUid as number) * 100 + (activity as number));
      expect([1, 4, 6]).toContain(category);
    }
  });

  test("a denied connection in OCSF", () => {
    expect(toOcsf(denied, origin)).toMatchObject({
      class_uid: 4001,
      type_uid: 400_101,
      action_id: 2,
      disposition_id: 2,
      status_id: 2,
      time: 1_763_900_000_123,
      metadata: {
        version: "1.8.0",
        sequence: 42,
        log_name: origin,
        correlation_uid: "4bf92f3577b34da6a3ce929d0e0e4736",
      },
      actor: {
        process: {
          pid: 7,
          file: { path: "/usr/bin/curl", name: "curl" },
          cmd_line: "curl x",
          user: { uid: "1000" },
        },
      },
      dst_endpoint: { hostname: "evil.example", ip: "203.0.113.9", port: 443 },
    });
    const request = {
      type: "http.request",
      phase: "intent",
      decision: "allow",
      object: { method: "POST", host: "h", path: "/p" },
    } as const;
    expect(toOcsf(entryOf(request), origin)).toMatchObject({
      type_uid: 400_206,
      http_request: { url: { hostname: "h", path: "/p" } },
    });
  });

  test("the same as a CloudEvent and as an OTLP record", () => {
    expect(toCloudEvent(denied, origin)).toMatchObject({
      specversion: "1.0",
      id: denied.id,
      source: origin,
      type: "nono.audit.net.connect",
      time: "2025-11-23T12:13:20.123Z",
      sequence: "0000000000000042",
    });
    const otlp = JSON.stringify(toOtlpLogs([denied], origin));
    expect(otlp).toContain('"timeUnixNano":"1763900000123000000"');
    expect(otlp).toContain('"severityNumber":13');
    expect(otlp).toContain('{"key":"gen_ai.agent.id","value":{"stringValue":"agent-1"}}');
    expect(otlp).toContain('"traceId":"4bf92f3577b34da6a3ce929d0e0e4736"');
  });
});
