import { execFile } from "node:child_process";
import { copyFileSync, existsSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import path from "node:path";
import process from "node:process";
import { promisify } from "node:util";
import { expect, test } from "vitest";
import {
  type Guarantee,
  guaranteeNames,
  restrictSelf,
  UnsupportedPolicyError,
} from "../src/index.ts";
import { Workspace } from "./workspace.ts";

interface Answer {
  attempts: Record<string, string>;
  guarantees: Guarantee[];
}

test("restrictSelf restricts every thread of the process, and what they start", async () => {
  using workspace = new Workspace();
  using outside = new Workspace();
  const secret = outside.at("secret");
  writeFileSync(secret, "secret");
  // Any native code; here it is not granted to be read.
  const code = outside.at("code.node");
  const addon = `@nono/core-linux-${process.arch}-gnu`;
  copyFileSync(createRequire(import.meta.url).resolve(addon), code);
  await using server = createServer((socket) => socket.destroy());
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const port = (server.address() as AddressInfo).port;

  const script = path.join(import.meta.dirname, "restricted.ts");
  const argv = [script, workspace.path, secret, String(port), code];
  const { stdout } = await promisify(execFile)(process.execPath, argv, { timeout: 100_000 });
  const { attempts, guarantees } = JSON.parse(stdout) as Answer;
  expect(attempts).toEqual({
    before: "allowed",
    "worker before": "allowed allowed",
    "connect before": "allowed",
    granted: "allowed",
    "granted by the pool": "allowed",
    read: "EACCES",
    "read by the pool": "EACCES",
    write: "EACCES",
    worker: "EACCES EACCES",
    "new worker": "EACCES EACCES",
    child: "refused",
    "granted to a child": "allowed",
    "other program": "EACCES",
    connect: "EACCES",
    "native code": "ERR_DLOPEN_FAILED",
    again: "allowed",
    "granted, taken away": "EACCES",
  });
  expect(existsSync(`${secret}.new`)).toBe(false);
  const status = Object.fromEntries(guarantees.map(({ name, status }) => [name, status]));
  expect(status).toMatchObject({
    "fs-read": "enforced",
    "net-tcp": "enforced",
    "process-tree": "absent",
    "inherited-fds": "absent",
    environment: "absent",
  });
});

test.for<[string, object, string]>([
  ["a gate", { network: "gate" }, "net-gate"],
  ["a port of the host", { localhostPorts: [9] }, "net-ports"],
  ["a path to deny", { deny: ["/etc"] }, "fs-deny"],
  ["protected names", { write: ["/tmp"] }, "fs-protected-names"],
  ["time", { limits: { wallSeconds: 1 } }, "limit-wall-seconds"],
])("restrictSelf refuses what only a supervisor keeps: %s", ([, capabilities, name]) => {
  try {
    restrictSelf(capabilities);
    expect.unreachable();
  } catch (error) {
    if (!(error instanceof UnsupportedPolicyError)) throw error;
    expect(error.guarantees).toContain(name);
    // What is offered to be accepted can be accepted.
    const offered = /allowDegraded: (\[.*?\])/.exec(error.remedy)?.[1] ?? "[]";
    expect(guaranteeNames).toEqual(expect.arrayContaining(JSON.parse(offered) as string[]));
    const isAccepted = guaranteeNames.some((known) => known === name);
    expect(error.remedy).toContain(isAccepted ? name : "leave out");
  }
  // Nothing has changed.
  writeFileSync("/dev/null", "");
});
