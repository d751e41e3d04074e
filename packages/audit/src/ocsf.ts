// Entries as OCSF 1.8 events, the form security information systems take. Derived, never stored: the leaf of the
// log is our own frozen schema, because OCSF changes with every release.
import type { Entry } from "./entry.ts";
import type { EntryType } from "./event.ts";

/** The schema version the mapping is of. */
export const ocsfVersion = "1.8.0";

/** Class and activity of an event type. */
interface OcsfClass {
  readonly classUid: number;
  readonly activityId: number;
}

const fileActivity = 1001;
const eventLogActivity = 1008;
const processActivity = 1007;
const networkActivity = 4001;
const httpActivity = 4002;
const dnsActivity = 4003;
const applicationLifecycle = 6002;
const apiActivity = 6003;
/** "Other": the class fits, none of its named activities does. */
const other = 99;

function of(classUid: number, activityId: number): OcsfClass {
  return { classUid, activityId };
}

const classes: Readonly<Record<EntryType, OcsfClass>> = {
  "session.open": of(applicationLifecycle, 3),
  "session.close": of(applicationLifecycle, 4),
  "file.open": of(fileActivity, 14),
  "file.create": of(fileActivity, 1),
  "file.mkdir": of(fileActivity, 1),
  "file.mknod": of(fileActivity, 1),
  "file.link": of(fileActivity, 1),
  "file.symlink": of(fileActivity, 1),
  "file.rename": of(fileActivity, 5),
  "file.delete": of(fileActivity, 4),
  "file.truncate": of(fileActivity, 3),
  "file.chmod": of(fileActivity, 7),
  "file.chown": of(fileActivity, 7),
  "file.utimes": of(fileActivity, 6),
  "file.xattr": of(fileActivity, 6),
  "process.exec": of(processActivity, 1),
  "process.exit": of(processActivity, 2),
  "process.syscall": of(processActivity, other),
  "net.connect": of(networkActivity, 1),
  "net.bind": of(networkActivity, other),
  "net.listen": of(networkActivity, 7),
  "net.dns": of(dnsActivity, 1),
  "http.request": of(httpActivity, other),
  "http.response": of(httpActivity, other),
  "credential.inject": of(apiActivity, other),
  "policy.decision": of(apiActivity, other),
  "policy.change": of(apiActivity, 3),
  "approval.request": of(apiActivity, other),
  "approval.answer": of(apiActivity, other),
  "snapshot.create": of(apiActivity, 1),
  "snapshot.restore": of(apiActivity, 3),
  "snapshot.commit": of(apiActivity, 3),
  "tool.call": of(apiActivity, other),
  "tool.result": of(apiActivity, other),
  "log.open": of(eventLogActivity, 6),
  "log.close": of(eventLogActivity, 7),
  "log.recovered": of(eventLogActivity, 8),
  "log.gap": of(eventLogActivity, other),
  "log.heartbeat": of(eventLogActivity, other),
  "entry.erased": of(eventLogActivity, 2),
};

const httpMethods: Readonly<Record<string, number>> = {
  CONNECT: 1,
  DELETE: 2,
  GET: 3,
  HEAD: 4,
  OPTIONS: 5,
  POST: 6,
  PUT: 7,
  TRACE: 8,
  PATCH: 9,
};

/** An OCSF event. */
export type OcsfEvent = Readonly<Record<string, unknown>>;

/**
 * The OCSF event of an entry of the log `origin`.
 *
 * @example
 * ```ts
 * for await (const entry of log.entries()) siem.send(toOcsf(entry, log.origin));
 * ```
 */
export function toOcsf(entry: Entry, origin: string): OcsfEvent {
  const { classUid, activityId } = classOf(entry);
  const denied = entry.decision === "deny";
  const failed = entry.decision === "error" || entry.outcome?.errno !== undefined;
  return {
    activity_id: activityId,
    category_uid: Math.floor(classUid / 1000),
    class_uid: classUid,
    type_uid: classUid * 100 + activityId,
    time: entry.time,
    // Informational; a refusal is of low severity, a failure of the record itself high.
    severity_id: entry.type === "log.gap" ? 4 : denied ? 2 : 1,
    ...(entry.count !== undefined && { count: entry.count }),
    status_id: failed || denied ? 2 : 1,
    action_id: denied ? 2 : 1,
    disposition_id: denied ? 2 : 1,
    ...(entry.outcome?.errno !== undefined && { status_code: entry.outcome.errno }),
    metadata: {
      version: ocsfVersion,
      uid: entry.id,
      sequence: entry.seq,
      log_name: origin,
      event_code: `${entry.type}:${entry.phase}`,
      profiles: ["security_control"],
      product: { name: "nono", vendor_name: "nono" },
      ...(entry.trace && { correlation_uid: entry.trace.traceId }),
    },
    ...(entry.actor && { actor: actorOf(entry.actor) }),
    ...(entry.rule && { firewall_rule: { uid: entry.rule.id } }),
    ...classMembers(classUid, entry),
  };
}

function classOf(entry: Entry): OcsfClass {
  const mapped = classes[entry.type];
  const method =
    mapped.classUid === httpActivity ? httpMethods[String(entry.object.method)] : undefined;
  return method === undefined ? mapped : { ...mapped, activityId: method };
}

function actorOf(actor: Readonly<Record<string, unknown>>): OcsfEvent {
  const { pid, ppid, exe, argv, uid } = actor;
  return {
    process: defined({
      pid,
      file: exe === undefined ? undefined : fileOf(exe),
      cmd_line: Array.isArray(argv) ? argv.join(" ") : undefined,
      parent_process: ppid === undefined ? undefined : { pid: ppid },
      user: uid === undefined ? undefined : { uid: `${Number(uid)}` },
    }),
  };
}

function classMembers(classUid: number, { object, type }: Entry): OcsfEvent {
  switch (classUid) {
    case fileActivity:
      return defined({
        file: fileOf(object.path),
        file_result: object.to === undefined ? undefined : fileOf(object.to),
      });
    case processActivity:
      return {
        process: defined({
          pid: object.pid,
          file: object.path === undefined ? undefined : fileOf(object.path),
          cmd_line: Array.isArray(object.argv) ? object.argv.join(" ") : undefined,
          working_directory: object.cwd,
        }),
      };
    case networkActivity:
      return defined({
        dst_endpoint: defined({ hostname: object.host, ip: object.address, port: object.port }),
        connection_info: { protocol_name: object.transport },
      });
    case dnsActivity:
      return {
        query: { hostname: object.name, type: object.qtype },
        ...(Array.isArray(object.answers) && {
          answers: object.answers.map((rdata: unknown) => ({ rdata })),
        }),
      };
    case httpActivity:
      return defined({
        http_request: {
          http_method: object.method,
          url: defined({
            scheme: object.scheme,
            hostname: object.host,
            port: object.port,
            path: object.path,
            query_string: object.query,
          }),
        },
        http_response: object.status === undefined ? undefined : { code: object.status },
      });
    case apiActivity:
      return { api: { operation: type }, unmapped: object };
    default:
      return { unmapped: object };
  }
}

function fileOf(path: unknown): OcsfEvent {
  // A path kept apart as a disclosure is not here; OCSF still wants a name.
  const name = typeof path === "string" ? path : "(withheld)";
  return { path: name, name: name.slice(name.lastIndexOf("/") + 1), type_id: 0 };
}

function defined(members: Readonly<Record<string, unknown>>): OcsfEvent {
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined));
}
