// The shortest proof that a sandbox confines; the escape corpus has the long one.
import { existsSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { expect, test } from "vitest";
import { support } from "../src/index.ts";
import { sandboxIn, tiers, Workspace } from "./workspace.ts";

test("both tiers are tested here, or said not to be", () => {
  for (const { name, available, reason } of support().tiers) {
    if (!available) console.log(`SKIPPED: tier ${name}: ${reason}`);
  }
  expect(tiers).not.toEqual([]);
});

test.for(tiers)("reading outside what is allowed is refused (%s)", async (tier) => {
  using workspace = new Workspace();
  using outside = new Workspace();
  writeFileSync(outside.at("secret"), "hidden");
  writeFileSync(workspace.at("open"), "shown");
  await using sandbox = await sandboxIn(workspace, {}, { tier });
  const read = (file: string) => sandbox.run(["cat", file]);
  expect((await read(workspace.at("open"))).stdout).toBe("shown");
  expect(await read(outside.at("secret"))).toMatchObject({ exitCode: 1, stdout: "" });
  expect(await read("/etc/shadow")).toMatchObject({ exitCode: 1, stdout: "" });
});

test.for(tiers)("writing where only reading is allowed is refused (%s)", async (tier) => {
  using workspace = new Workspace();
  using library = new Workspace();
  writeFileSync(library.at("file"), "before");
  await using sandbox = await sandboxIn(workspace, { read: [library.path] }, { tier });
  const script = `cat ${library.at("file")}; echo after > ${library.at("file")}; echo > ${library.at("new")}`;
  const { stdout, stderr } = await sandbox.run(["sh", "-c", script]);
  expect(stdout).toBe("before");
  expect(stderr).toMatch(/denied|Read-only/);
  expect(existsSync(library.at("new"))).toBe(false);
});

test.for(tiers)("executing a program that is not allowed is refused (%s)", async (tier) => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace, {}, { tier });
  const { exitCode, stderr } = await sandbox.run(["sh", "-c", "/usr/bin/od -An /dev/null"]);
  expect(exitCode).toBe(126);
  expect(stderr).toMatch(/denied/i);
});

test.for(tiers)("no socket reaches a service of this machine (%s)", async (tier) => {
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    socket.destroy();
  }).listen(0, "127.0.0.1");
  await new Promise((listening) => server.once("listening", listening));
  const address = server.address();
  const port = address !== null && typeof address === "object" ? address.port : 0;
  const script = `import socket; socket.create_connection(("127.0.0.1", ${port}), 2)`;
  const outcome = async (network: "open" | "blocked"): Promise<number | null> => {
    using workspace = new Workspace();
    const exec = ["/usr/bin/python3"];
    await using sandbox = await sandboxIn(
      workspace,
      { network, exec, read: ["/usr/lib", "/usr/bin"] },
      { tier },
    );
    return (await sandbox.run(["/usr/bin/python3", "-I", "-c", script])).exitCode;
  };
  try {
    // The same attempt succeeds where the network is open: it is the sandbox that stops it.
    expect(await outcome("open")).toBe(0);
    expect(connections).toBe(1);
    expect(await outcome("blocked")).toBe(1);
    expect(connections).toBe(1);
  } finally {
    server.close();
  }
});

test.for(tiers)("a unix socket of the host is reached only if it is listed (%s)", async (tier) => {
  using outside = new Workspace();
  const server = createServer((socket) => socket.end("served")).listen(outside.at("agent"));
  await new Promise((listening) => server.once("listening", listening));
  const script = `import socket; s = socket.socket(socket.AF_UNIX); s.connect(${JSON.stringify(outside.at("agent"))}); print(s.recv(9))`;
  const outcome = async (unixSockets: string[]) => {
    using workspace = new Workspace();
    const exec = ["/usr/bin/python3"];
    await using sandbox = await sandboxIn(workspace, { exec, unixSockets }, { tier });
    return await sandbox.run(["/usr/bin/python3", "-c", script]);
  };
  expect(await outcome([outside.at("agent")])).toMatchObject({ stdout: "b'served'\n" });
  expect(await outcome([])).toMatchObject({ exitCode: 1, stdout: "" });
  await new Promise((closed) => server.close(closed));
});
