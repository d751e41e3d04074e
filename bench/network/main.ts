// What do connections cost in a sandbox, compared with the same program outside? One service of this
// machine is reached on its port of the loopback (`localhostPorts`): in the tier `namespaces` through
// the relay, in `flat` directly, after the supervisor has made the connection. And the gate, by a
// listener that closes each connection. The candidates take turns; ratios of medians.
//
//   node bench/network/main.ts [rounds]
import { execFile } from "node:child_process";
import { once } from "node:events";
import net from "node:net";
import os from "node:os";
import process from "node:process";
import { promisify } from "node:util";
import { createSandbox, type Sandbox, support } from "@nono/core";

const rounds = Number(process.argv[2] ?? 9);
const megabytes = 128;
const connections = 300;
const python = "/usr/bin/python3";

/** Prints the seconds that it took: a transfer, then connections one after the other. */
const program = (bulk: number, address: string, port: number): string => `
import socket, time
start = time.perf_counter()
s = socket.create_connection(("127.0.0.1", ${bulk})); buffer = bytearray(1 << 20)
while s.recv_into(buffer): pass
middle = time.perf_counter()
for _ in range(${connections}): s = socket.create_connection(("${address}", ${port})); s.recv(1); s.close()
print(middle - start, time.perf_counter() - middle)`;

const block = Buffer.alloc(1 << 20);
const sender = net.createServer((socket) => void send(socket));
const closer = net.createServer((socket) => socket.end());
const bulk = await listen(sender);
const direct = await listen(closer);

const sandboxes: Sandbox[] = [];
const gates: net.Server[] = [];
const candidates = new Map<string, () => Promise<string>>([
  [
    "outside",
    async () =>
      // In a session of its own, like a command: sessions take turns on the processor (sched(7)).
      (
        await promisify(execFile)("setsid", [
          "--wait",
          python,
          "-c",
          program(bulk, "127.0.0.1", direct),
        ])
      ).stdout,
  ],
]);
for (const { name, available, reason } of support().tiers) {
  if (!available) {
    console.log(`SKIPPED: the ${name} tier: ${reason}`);
    continue;
  }
  const tier = name as "namespaces" | "flat";
  const capabilities = { network: "gate", gatePorts: [443], localhostPorts: [bulk] } as const;
  const sandbox = await createSandbox({ ...capabilities, exec: [python] }, { tier });
  sandboxes.push(sandbox);
  for (const { protocol, fd, purpose } of sandbox.takeListeners()) {
    if (protocol !== "tcp" || purpose !== "connections") continue;
    gates.push(net.createServer((socket) => socket.end()).listen({ fd }));
  }
  const argv = [python, "-c", program(bulk, "203.0.113.9", 443)];
  candidates.set(name, async () => (await sandbox.run(argv)).stdout);
}

const taken = new Map([...candidates.keys()].map((name) => [name, [[], []] as number[][]]));
for (let round = 0; round < rounds; round++) {
  for (const [name, run] of candidates) {
    const seconds = (await run()).trim().split(" ").map(Number);
    seconds.forEach((value, index) => taken.get(name)?.[index]?.push(value));
  }
}
console.log(`${rounds} interleaved rounds; Linux ${os.release()}, Node ${process.version}`);
const [bulkBase, connectBase] = (taken.get("outside") ?? []).map(median);
for (const [name, [bulkTimes = [], connectTimes = []]] of taken) {
  const [transfer, connect] = [median(bulkTimes), median(connectTimes)];
  console.log(
    `  ${name.padEnd(11)} ${megabytes} MiB ${ratio(transfer, bulkBase)}` +
      ` (${(megabytes / transfer / 1024).toFixed(2)} GiB/s)` +
      `   connection ${ratio(connect, connectBase)} (${((connect / connections) * 1e6).toFixed(0)} µs)`,
  );
}
for (const sandbox of sandboxes) await sandbox.close();
for (const server of [sender, closer, ...gates]) server.close();

async function send(socket: net.Socket): Promise<void> {
  for (let sent = 0; sent < megabytes; sent++) {
    if (!socket.write(block)) await once(socket, "drain");
  }
  socket.end();
}

async function listen(server: net.Server): Promise<number> {
  await once(server.listen(0, "127.0.0.1"), "listening");
  return (server.address() as net.AddressInfo).port;
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

function ratio(value: number, base = Number.NaN): string {
  return `${(value / base).toFixed(2)}x`;
}
