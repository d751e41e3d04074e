// The events of an agent's run: schema version 1, a closed union, and the table its canonical form comes from.

/** Text as it came from the kernel: a string, or bytes where it may not be UTF-8 (Linux paths are bytes). */
export type Text = string | Uint8Array;

/** What each type of event is about. Every field is optional unless the type makes no sense without it. */
export interface EventObjects {
  "session.open": { command?: readonly Text[]; cwd?: Text; policyDigest?: string; tier?: string };
  "session.close": { reason?: string; status?: number };
  "file.open": { path: Text; access?: string };
  "file.create": { path: Text; access?: string };
  "file.delete": { path: Text };
  "file.rename": { path: Text; to?: Text };
  "file.chmod": { path: Text; mode?: number };
  "process.exec": { path: Text; argv?: readonly Text[]; cwd?: Text };
  "process.exit": { pid?: number; code?: number; signal?: string };
  "net.connect": NetObject;
  "net.bind": NetObject;
  "net.dns": { name: string; qtype: string; answers?: readonly string[] };
  "http.request": HttpObject;
  "http.response": Partial<HttpObject> & { status: number };
  "credential.inject": { name: string; host?: string; scheme?: string };
  "policy.decision": { capability?: string; target?: Text; reason?: string };
  "policy.change": { digest?: string; change?: string; reason?: string };
  "approval.request": { question?: string; target?: Text };
  "approval.answer": { answer: string; by?: string };
  "snapshot.create": SnapshotObject;
  "snapshot.restore": SnapshotObject;
  "snapshot.commit": SnapshotObject;
  "tool.call": { name: string; callId?: string; arguments?: string };
  "tool.result": { name: string; callId?: string; result?: string };
}

/** A connection or a bound address; `path` is that of a UNIX socket. */
export interface NetObject {
  host?: string;
  address?: string;
  port?: number;
  transport: string;
  sni?: string;
  path?: Text;
}

/** One HTTP exchange; `path` without the query. */
export interface HttpObject {
  method: string;
  scheme?: string;
  host: string;
  port?: number;
  path: Text;
  query?: string;
}

/** A snapshot of directories. */
export interface SnapshotObject {
  dirs?: readonly Text[];
  strategy?: string;
  reason?: string;
  paths?: readonly Text[];
}

/** Entries the log writes about itself; callers cannot record them. */
export interface LogObjects {
  "log.open": { origin: string };
  "log.close": { reason: string };
  "log.recovered": { entries: number; signed: number; cutBytes: number };
  "log.gap": { lost: number; reason: string };
  "log.heartbeat": { epoch?: number };
  "entry.erased": { entry: number; fields: number };
}

/** Whether this is what will happen, what came of it, or both at once. */
export type EventPhase = "intent" | "result" | "event";

/** What was decided about it. */
export type EventDecision = "allow" | "deny" | "ask" | "error";

/** Who attempted it, as the kernel or the supervisor saw it. */
export interface EventActor {
  pid?: number;
  ppid?: number;
  exe?: Text;
  imageDigest?: string;
  argv?: readonly Text[];
  uid?: number;
  /** Stable id of the agent and the id of this instance of it. */
  agent?: { id: string; instance?: string };
}

/** Members every entry has, whatever its type. */
export interface EventEnvelope {
  phase: EventPhase;
  decision: EventDecision;
  /** Milliseconds since the epoch; the log stamps it when absent. */
  time?: number;
  /** `seq` of the intent that this is the result of. */
  ref?: number;
  rule?: { id: string; policyDigest?: string };
  actor?: EventActor;
  outcome?: { errno?: string; status?: number; bytes?: number; durationUs?: number };
  trace?: { traceId: string; spanId: string };
}

/**
 * One event, as core, proxy and rollback emit it.
 *
 * @example
 * ```ts
 * const event: NonoEvent = {
 *   type: "net.connect", phase: "intent", decision: "allow",
 *   object: { host: "api.example.com", port: 443, transport: "tcp" },
 * };
 * ```
 */
export type NonoEvent = {
  [T in keyof EventObjects]: EventEnvelope & { type: T; object: EventObjects[T] };
}[keyof EventObjects];

/** An entry the log writes about itself. */
export type LogEvent = {
  [T in keyof LogObjects]: EventEnvelope & { type: T; object: LogObjects[T] };
}[keyof LogObjects];

/** Any type of entry. */
export type EntryType = keyof EventObjects | keyof LogObjects;

/** How a member is written. `text` may become `name_b64` or `name_digest`; so may `texts`. */
export type FieldKind = "text" | "texts" | "integer";

/** Members of an object in canonical (UTF-16) order. */
export type Fields = readonly (readonly [name: string, kind: FieldKind])[];

function fields(spec: Record<string, FieldKind>): Fields {
  return Object.entries(spec).toSorted(([a], [b]) => (a < b ? -1 : 1));
}

const file = fields({ path: "text", to: "text", access: "text", mode: "integer" });
const net = fields({
  host: "text",
  address: "text",
  port: "integer",
  transport: "text",
  sni: "text",
  path: "text",
});
const http = fields({
  method: "text",
  scheme: "text",
  host: "text",
  port: "integer",
  path: "text",
  query: "text",
  status: "integer",
});
const snapshot = fields({ dirs: "texts", strategy: "text", reason: "text", paths: "texts" });
const tool = fields({ name: "text", callId: "text", arguments: "text", result: "text" });

/** The members of `object` for each type. */
export const objectFields: Readonly<Record<EntryType, Fields>> = {
  "session.open": fields({ command: "texts", cwd: "text", policyDigest: "text", tier: "text" }),
  "session.close": fields({ reason: "text", status: "integer" }),
  "file.open": file,
  "file.create": file,
  "file.delete": file,
  "file.rename": file,
  "file.chmod": file,
  "process.exec": fields({ path: "text", argv: "texts", cwd: "text" }),
  "process.exit": fields({ pid: "integer", code: "integer", signal: "text" }),
  "net.connect": net,
  "net.bind": net,
  "net.dns": fields({ name: "text", qtype: "text", answers: "texts" }),
  "http.request": http,
  "http.response": http,
  "credential.inject": fields({ name: "text", host: "text", scheme: "text" }),
  "policy.decision": fields({ capability: "text", target: "text", reason: "text" }),
  "policy.change": fields({ digest: "text", change: "text", reason: "text" }),
  "approval.request": fields({ question: "text", target: "text" }),
  "approval.answer": fields({ answer: "text", by: "text" }),
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

/** The members of the other parts of an entry. */
export const partFields: Readonly<
  Record<"actor" | "agent" | "outcome" | "rule" | "trace", Fields>
> = {
  actor: fields({
    pid: "integer",
    ppid: "integer",
    exe: "text",
    imageDigest: "text",
    argv: "texts",
    uid: "integer",
  }),
  agent: fields({ id: "text", instance: "text" }),
  outcome: fields({ errno: "text", status: "integer", bytes: "integer", durationUs: "integer" }),
  rule: fields({ id: "text", policyDigest: "text" }),
  trace: fields({ traceId: "text", spanId: "text" }),
};

/** Whether entries of this type are written by the log alone. */
export function isLogType(type: string): boolean {
  return type.startsWith("log.") || type === "entry.erased";
}
