// The events of an agent's run: schema version 1, a closed union. `schema.ts` has the same as a table.

/** Text as it came from the kernel: a string, or bytes where it may not be UTF-8 (Linux paths are bytes). */
export type Text = string | Uint8Array;

/** What each type of event is about. Every field is optional unless the type makes no sense without it. */
export interface EventObjects {
  "session.open": { command?: readonly Text[]; cwd?: Text; policyDigest?: string; tier?: string };
  "session.close": { reason?: string; status?: number };
  "file.open": FileObject;
  "file.create": FileObject;
  "file.mkdir": FileObject;
  "file.mknod": FileObject;
  "file.link": FileObject;
  "file.symlink": FileObject;
  "file.rename": FileObject;
  "file.delete": FileObject;
  "file.truncate": FileObject;
  "file.chmod": FileObject;
  "file.chown": FileObject;
  "file.utimes": FileObject;
  "file.xattr": FileObject;
  "process.exec": { path: Text; asked?: Text; argv?: readonly Text[]; cwd?: Text };
  "process.exit": { pid?: number; code?: number; signal?: string };
  /** A system call that is refused by its number or plain arguments: `mount`, `bpf`, `ptrace`. */
  "process.syscall": { name: string; detail?: string };
  "net.connect": NetObject;
  "net.bind": NetObject;
  "net.listen": NetObject;
  "net.dns": { name: string; qtype: string; answers?: readonly string[]; reason?: string };
  "http.request": HttpObject;
  "http.response": Partial<HttpObject> & { status: number };
  "credential.inject": { name: string; host?: string; scheme?: string; reason?: string };
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

/** A file system call; which members are there depends on the call. */
export interface FileObject {
  /** Canonical where it is known: links and `..` resolved. */
  path: Text;
  /** What the program asked for, where that reads differently. */
  asked?: Text;
  /** What for: `"read"`, `"write"`, `"read-write"`, `"execute"`. */
  access?: string;
  /** The second path: the new name of a rename, the name of a new link, the target of a symbolic link. */
  to?: Text;
  mode?: number;
  /** New owner and group of `file.chown`. */
  uid?: number;
  gid?: number;
  /** New length of `file.truncate`. */
  size?: number;
  /** Name of the attribute of `file.xattr`. */
  name?: string;
}

/** A connection or a bound address; `path` is that of a UNIX socket. */
export interface NetObject {
  host?: string;
  address?: string;
  port?: number;
  transport: string;
  sni?: string;
  path?: Text;
  /** Why it was refused, for people. */
  reason?: string;
}

/** One HTTP exchange; `path` without the query. */
export interface HttpObject {
  method: string;
  scheme?: string;
  host: string;
  port?: number;
  path: Text;
  query?: string;
  /** Why it was refused, for people. */
  reason?: string;
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

/** One process of a chain. */
export interface EventProcess {
  pid?: number;
  exe?: Text;
}

/** Who attempted it, as the kernel or the supervisor saw it. */
export interface EventActor {
  pid?: number;
  ppid?: number;
  /** The program that is running: what `/proc/PID/exe` says, not what `argv[0]` claims. */
  exe?: Text;
  imageDigest?: string;
  argv?: readonly Text[];
  cwd?: Text;
  uid?: number;
  /** The processes above it, its parent first, up to the command of the run. */
  chain?: readonly EventProcess[];
  /** Where in the code the call was made: `module+offset` a frame, innermost first. */
  stack?: readonly Text[];
  /** Stable id of the agent and the id of this instance of it. */
  agent?: { id: string; instance?: string };
}

/** Members every entry has, whatever its type. */
export interface EventEnvelope {
  phase: EventPhase;
  /** The verdict: `allow` is what others call allowed, `deny` denied. */
  decision: EventDecision;
  /** Milliseconds since the epoch; the log stamps it when absent. Of the first, where `count` says more than one. */
  time?: number;
  /** How many attempts alike this entry stands for; absent means one. */
  count?: number;
  /** `seq` of the intent that this is the result of. */
  ref?: number;
  /** What decided: `"landlock"`, `"seccomp"`, `"mount"`, `"broker"`, `"gate"`; `"kernel"` for what no policy decided. */
  layer?: string;
  rule?: { id: string; policyDigest?: string };
  actor?: EventActor;
  /** `errno` is a name (`"EACCES"`), as the caller got it. */
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
