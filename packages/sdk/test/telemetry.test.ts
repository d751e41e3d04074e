import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { decodeEntry, LogReader } from "@nono/audit";
import { SpanStatusCode } from "@opentelemetry/api";
import {
  InMemorySpanExporter,
  NodeTracerProvider,
  SimpleSpanProcessor,
} from "@opentelemetry/sdk-trace-node";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { Sandbox } from "../src/index.ts";

const exporter = new InMemorySpanExporter();
const provider = new NodeTracerProvider({ spanProcessors: [new SimpleSpanProcessor(exporter)] });
let directory: string;

beforeAll(() => {
  provider.register();
  directory = mkdtempSync(path.join(tmpdir(), "nono-telemetry-"));
});
beforeEach(() => exporter.reset());
afterAll(async () => {
  await provider.shutdown();
  rmSync(directory, { recursive: true, force: true });
});

function spans(): { name: string; id: string; parent: string | undefined; failed: boolean }[] {
  return exporter.getFinishedSpans().map((span) => ({
    name: span.name,
    id: span.spanContext().spanId,
    parent: span.parentSpanContext?.spanId,
    failed: span.status.code === SpanStatusCode.ERROR,
  }));
}

/** The entries of a log that carry a trace. */
function traced(log: string): { type: string; traceId: string; spanId: string }[] {
  const size = Number(readFileSync(path.join(log, "checkpoint"), "utf8").split("\n")[1]);
  const entries = [...new LogReader(log, size).entries()].map(({ entry, seq }) =>
    decodeEntry(entry, seq),
  );
  return entries.flatMap(({ type, trace }) => (trace ? [{ type, ...trace }] : []));
}

test("a run is spans of one trace, and its entries on record name them", async () => {
  const workspace = mkdtempSync(path.join(directory, "workspace-"));
  const audit = { dir: path.join(directory, "audit") };
  const tracer = provider.getTracer("test");
  const log = await tracer.startActiveSpan("the caller's own", async (own) => {
    await using sandbox = new Sandbox({ audit })
      .use("shell", { workspace })
      .allowWrite(workspace)
      .enableRollback({ store: path.join(directory, "rollback") });
    const { audit: record } = await sandbox.run(["sh", "-c", "echo x > made"], { cwd: workspace });
    await sandbox.rollback();
    own.end();
    return record?.dir ?? "";
  });
  const names = spans().map(({ name }) => name);
  expect(names.toSorted()).toEqual([
    "nono.checkpoint",
    "nono.rollback",
    "nono.sandbox.create",
    "nono.spawn",
    "the caller's own",
  ]);
  const traceIds = new Set(exporter.getFinishedSpans().map((span) => span.spanContext().traceId));
  expect(traceIds.size).toBe(1);

  const entries = traced(log);
  expect(entries.map(({ type }) => type)).toEqual(
    expect.arrayContaining(["process.exec", "snapshot.create", "snapshot.restore"]),
  );
  expect(new Set(entries.map(({ traceId }) => traceId))).toEqual(traceIds);
  const spawned = spans().find(({ name }) => name === "nono.spawn")?.id;
  const executed = entries.filter(({ type }) => type === "process.exec");
  expect(executed.map(({ spanId }) => spanId)).toEqual([spawned, spawned]);
});

test("an error is on its span, by its code", async () => {
  await using sandbox = new Sandbox({ audit: false }).allowRead("/nonexistent/nono");
  await expect(sandbox.run(["true"])).rejects.toThrow("nonexistent");
  const [created] = exporter.getFinishedSpans();
  expect(created?.attributes["error.type"]).toBe("ERR_NONO_PATH_NOT_FOUND");
  expect(spans()).toMatchObject([{ name: "nono.sandbox.create", failed: true }]);
});

test("each request and connection through the gate is a span", async () => {
  const server = createServer((_, response) => response.end("hello"));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  let log = "";
  try {
    await using sandbox = new Sandbox({ audit: { dir: path.join(directory, "audit-gate") } })
      .allowExec("curl")
      .allowNetwork(host, { rules: [{ host, allow: ["GET /**"] }] });
    const get = await sandbox.run(["curl", "-sS", `http://${host}/a?secret=1`]);
    expect(get.stdout).toBe("hello");
    log = get.audit?.dir ?? "";
    await sandbox.run(["curl", "-sS", "-X", "DELETE", `http://${host}/a`]);
  } finally {
    server.close();
  }
  const requests = exporter.getFinishedSpans().filter(({ name }) => name.includes("http.request"));
  expect(requests.map(({ attributes }) => attributes)).toMatchObject([
    { "http.request.method": "GET", "url.path": "/a", "http.response.status_code": 200 },
    { "http.request.method": "DELETE", "nono.decision": "deny" },
  ]);
  expect(JSON.stringify(requests.map(({ attributes }) => attributes))).not.toContain("secret");
  expect(spans().some(({ name }) => name === "nono.gate net.connect")).toBe(true);

  // What began in a span ends in it, on record too.
  const got = requests[0]?.spanContext().spanId;
  const entries = traced(log).filter(({ spanId }) => spanId === got);
  expect(entries.map(({ type }) => type)).toEqual(["http.request", "http.response"]);
});
