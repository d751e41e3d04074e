import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { expect, test } from "vitest";
import { Sandbox, UnsupportedPolicyError } from "../src/index.ts";

const script = `
import socket, sys
for path in sys.argv[1:]:
    s = socket.socket(socket.AF_UNIX)
    try: s.connect(path); print(s.recv(9).decode())
    except OSError as error: print(type(error).__name__)
`;

test("a listed unix socket is reached, its neighbour is not", async () => {
  const directory = mkdtempSync(path.join(tmpdir(), "nono-unix-"));
  const servers = await Promise.all(
    ["listed", "other"].map(async (name) => {
      const server = createServer((socket) => socket.end(name)).listen(path.join(directory, name));
      await once(server, "listening");
      return server;
    }),
  );
  const [listed, other] = ["listed", "other"].map((name) => path.join(directory, name));
  try {
    await using sandbox = new Sandbox({ audit: false })
      .allowRead(directory)
      .allowExec("/usr/bin/python3")
      .allowUnixSocket(listed ?? "");
    const argv = ["/usr/bin/python3", "-c", script, listed ?? "", other ?? ""];
    const { stdout } = await sandbox.run(argv);
    expect(stdout).toBe("listed\nPermissionError\n");
  } catch (error) {
    if (!(error instanceof UnsupportedPolicyError)) throw error;
    console.log(`SKIPPED: unix sockets by path: ${error.message}`);
  } finally {
    for (const server of servers) server.close();
    rmSync(directory, { recursive: true, force: true });
  }
});
