import { readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { entryVersion } from "../src/encode.ts";
import type { NonoEvent } from "../src/index.ts";
import { objectFields, partFields, type Fields } from "../src/schema.ts";
import { openTestLog, temporaryDirectory } from "./helpers/logs.ts";

const published = JSON.parse(
  readFileSync(path.join(import.meta.dirname, "schema-v1.json"), "utf8"),
) as unknown;

const asObject = (table: Readonly<Record<string, Fields>>): object =>
  Object.fromEntries(
    Object.entries(table).map(([name, fields]) => [name, Object.fromEntries(fields)]),
  );

describe("schema version 1", () => {
  test("is the published one: a change of it is version 2", () => {
    expect({
      v: entryVersion,
      object: asObject(objectFields),
      parts: asObject(partFields),
    }).toEqual(published);
  });

  // The layers declare their parts of the union by themselves; these are theirs, as they emit them.
  const emitted: NonoEvent[] = [
    {
      type: "net.connect",
      phase: "event",
      decision: "deny",
      rule: { id: "allowNetwork" },
      object: { host: "h", port: 443, transport: "tcp", sni: "h", reason: "h is not allowed" },
    },
    {
      type: "http.request",
      phase: "event",
      decision: "deny",
      object: { method: "?", scheme: "http", host: "?", port: 80, path: "?", reason: "no Host" },
    },
    {
      type: "http.response",
      phase: "result",
      decision: "error",
      object: { status: 502, host: "h", reason: "the upstream did not answer" },
      outcome: { status: 502, bytes: 0, durationUs: 1 },
    },
    { type: "net.dns", phase: "event", decision: "deny", object: { name: "h", qtype: "A" } },
    {
      type: "credential.inject",
      phase: "event",
      decision: "deny",
      object: { name: "T", host: "h", scheme: "bearer", reason: "for another host" },
    },
    {
      type: "snapshot.restore",
      phase: "result",
      decision: "error",
      object: { dirs: ["/w"], strategy: "copy", reason: "busy", paths: ["/w/a"] },
      outcome: { errno: "EBUSY", durationUs: 5 },
    },
    {
      type: "net.listen",
      phase: "event",
      decision: "deny",
      layer: "seccomp",
      object: { address: "0.0.0.0", port: 80, transport: "tcp" },
      outcome: { errno: "EACCES" },
    },
    {
      type: "process.syscall",
      phase: "event",
      decision: "deny",
      layer: "seccomp",
      count: 3,
      object: { name: "bpf" },
      outcome: { errno: "EPERM" },
    },
  ];

  test.each(emitted.map((event) => [`${event.type} ${event.decision}`, event] as const))(
    "takes %s as its layer emits it",
    async (_what, event) => {
      const log = await openTestLog(path.join(temporaryDirectory(), "log"));
      expect(await log.record(event)).toEqual({ seq: 1, durable: true });
      await log.close("done");
    },
  );
});
