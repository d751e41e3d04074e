// What commands attempt, as the record has it.
import type { EventEnvelope, EventObjects, NonoEvent } from "@nono/audit";
import { isViolation, type Operation, type SandboxEvent } from "@nono/core";

/** The entry for an attempt. */
export function attemptEntry(event: SandboxEvent): NonoEvent {
  const { count, errno, process, time } = event;
  const envelope: EventEnvelope = {
    phase: "event",
    decision: isViolation(event) ? "deny" : "allow",
    time: Math.floor(time),
    ...(count > 1 && { count }),
    ...(isViolation(event) && { layer: event.layer, rule: { id: event.rule } }),
    ...(errno && { outcome: { errno } }),
    actor: {
      pid: process.pid,
      exe: process.executable,
      ...(process.arguments.length > 0 && { argv: process.arguments }),
      ...(process.cwd.length > 0 && { cwd: process.cwd }),
      ...(process.chain.length > 0 && { chain: process.chain.map((exe) => ({ exe })) }),
      ...(process.frames.length > 0 && { stack: process.frames }),
    },
  };
  const type = types[event.operation];
  return { ...envelope, type, object: objects[type](event) } as NonoEvent;
}

const types = {
  read: "file.open",
  write: "file.open",
  create: "file.create",
  "make-directory": "file.mkdir",
  symlink: "file.symlink",
  link: "file.link",
  rename: "file.rename",
  delete: "file.delete",
  attributes: "file.chmod",
  execute: "process.exec",
  connect: "net.connect",
  bind: "net.bind",
  listen: "net.listen",
  "system-call": "process.syscall",
  exit: "process.exit",
} as const satisfies Readonly<Record<Operation, keyof EventObjects>>;

type Recorded = (typeof types)[Operation];

const objects: { readonly [T in Recorded]: (event: SandboxEvent) => EventObjects[T] } = {
  "file.open": (event) => ({ ...file(event), access: event.operation }),
  "file.create": file,
  "file.mkdir": file,
  "file.symlink": file,
  "file.link": file,
  "file.rename": file,
  "file.delete": file,
  "file.chmod": file,
  "process.exec": ({ path = "", asked, process }) => ({
    path,
    ...(asked !== undefined && { asked }),
    ...(process.arguments.length > 0 && { argv: process.arguments }),
  }),
  "process.syscall": ({ systemCall = "" }) => {
    const [name = "", detail] = systemCall.split("(");
    return { name, ...(detail !== undefined && { detail: detail.replace(/\)$/, "") }) };
  },
  "process.exit": ({ exitCode, process }) => ({
    pid: process.pid,
    ...(exitCode !== undefined && { code: exitCode }),
  }),
  "net.connect": socket,
  "net.bind": socket,
  "net.listen": socket,
};

function file({ path = "", asked, to }: SandboxEvent): EventObjects["file.create"] {
  return { path, ...(asked !== undefined && { asked }), ...(to !== undefined && { to }) };
}

function socket({ path, address }: SandboxEvent): EventObjects["net.connect"] {
  if (address === undefined) return { transport: "unix", ...(path !== undefined && { path }) };
  const [, host = address, port] = /^(.*):(\d+)$/.exec(address) ?? [];
  return { transport: "tcp", address: host, ...(port !== undefined && { port: Number(port) }) };
}
