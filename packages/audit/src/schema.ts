// Schema version 1 as a table: what an entry may hold, in the order of its canonical form.
//
// Frozen: under `v: 1` no type or member is added, removed, renamed, or given another meaning. Writers refuse what
// is not in the table, readers refuse a version or type they do not know; whatever must change is version 2, whose
// readers read version 1 too. The test `schema.test.ts` holds the table against the published one.
import type { EntryType } from "./event.ts";

/**
 * How a member is written: `word` is a short `text` (a name, not a path). Either, and `texts`, may become
 * `name_b64` or `name_digest`; `processes` may become `name_digest`.
 */
export type FieldKind = "word" | "text" | "texts" | "integer" | "agent" | "processes";

/** Members of an object in canonical (UTF-16) order. */
export type Fields = readonly (readonly [name: string, kind: FieldKind])[];

function fields(spec: Record<string, FieldKind>): Fields {
  return Object.entries(spec).toSorted(([a], [b]) => (a < b ? -1 : 1));
}

const file = fields({
  path: "text",
  asked: "text",
  access: "word",
  to: "text",
  mode: "integer",
  uid: "integer",
  gid: "integer",
  size: "integer",
  name: "word",
});
const net = fields({
  host: "word",
  address: "word",
  port: "integer",
  transport: "word",
  sni: "word",
  path: "text",
  reason: "text",
});
const http = fields({
  method: "word",
  scheme: "word",
  host: "word",
  port: "integer",
  path: "text",
  query: "text",
  status: "integer",
  reason: "text",
});
const snapshot = fields({ dirs: "texts", strategy: "word", reason: "text", paths: "texts" });
const tool = fields({ name: "word", callId: "word", arguments: "text", result: "text" });

/** The members of `object` for each type. */
export const objectFields: Readonly<Record<EntryType, Fields>> = {
  "session.open": fields({ command: "texts", cwd: "text", policyDigest: "word", tier: "word" }),
  "session.close": fields({ reason: "text", status: "integer" }),
  "file.open": file,
  "file.create": file,
  "file.mkdir": file,
  "file.mknod": file,
  "file.link": file,
  "file.symlink": file,
  "file.rename": file,
  "file.delete": file,
  "file.truncate": file,
  "file.chmod": file,
  "file.chown": file,
  "file.utimes": file,
  "file.xattr": file,
  "process.exec": fields({ path: "text", asked: "text", argv: "texts", cwd: "text" }),
  "process.exit": fields({ pid: "integer", code: "integer", signal: "word" }),
  "process.syscall": fields({ name: "word", detail: "text" }),
  "net.connect": net,
  "net.bind": net,
  "net.listen": net,
  "net.dns": fields({ name: "word", qtype: "word", answers: "texts", reason: "text" }),
  "http.request": http,
  "http.response": http,
  "credential.inject": fields({ name: "word", host: "word", scheme: "word", reason: "text" }),
  "policy.decision": fields({ capability: "word", target: "text", reason: "text" }),
  "policy.change": fields({ digest: "word", change: "text", reason: "text" }),
  "approval.request": fields({ question: "text", target: "text" }),
  "approval.answer": fields({ answer: "word", by: "word" }),
  "snapshot.create": snapshot,
  "snapshot.restore": snapshot,
  "snapshot.commit": snapshot,
  "tool.call": tool,
  "tool.result": tool,
  "log.open": fields({ origin: "text" }),
  "log.close": fields({ reason: "text" }),
  "log.recovered": fields({ entries: "integer", signed: "integer", cutBytes: "integer" }),
  "log.gap": fields({ lost: "integer", reason: "text" }),
  "log.heartbeat": fields({ epoch: "integer" }),
  "entry.erased": fields({ entry: "integer", fields: "integer" }),
};

/** The members of the other parts of an entry; `process` is one of `actor.chain`. */
export const partFields: Readonly<
  Record<"actor" | "agent" | "outcome" | "process" | "rule" | "trace", Fields>
> = {
  actor: fields({
    pid: "integer",
    ppid: "integer",
    exe: "text",
    imageDigest: "word",
    argv: "texts",
    cwd: "text",
    uid: "integer",
    chain: "processes",
    stack: "texts",
    agent: "agent",
  }),
  agent: fields({ id: "word", instance: "word" }),
  outcome: fields({ errno: "word", status: "integer", bytes: "integer", durationUs: "integer" }),
  process: fields({ pid: "integer", exe: "text" }),
  rule: fields({ id: "text", policyDigest: "word" }),
  trace: fields({ traceId: "word", spanId: "word" }),
};

/** Whether entries of this type are written by the log alone. */
export function isLogType(type: string): boolean {
  return type.startsWith("log.") || type === "entry.erased";
}
