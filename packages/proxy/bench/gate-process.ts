// A gate in a process of its own: `node gate-process.ts MODE UPSTREAM_PORT [listen]`. Says "ready", or the URL at which it
// listens as an explicit proxy, and its resident memory when it gets a line on standard input.
import process from "node:process";
import { createInterface } from "node:readline";
import { type GateOptions, createGate } from "../src/index.ts";

const [mode = "", upstream = "", listen] = process.argv.slice(2);
const host = `127.0.0.1:${upstream}`;
const extra: Partial<GateOptions> =
  mode === "tunnel"
    ? {}
    : mode === "terminate"
      ? { rules: [{ host, allow: ["GET /**"] }] }
      : {
          credentials: [
            {
              name: "TOKEN",
              proxyTo: host,
              source: { description: "a value", read: async () => Buffer.from("a".repeat(40)) },
            },
          ],
        };
const ca = process.env["NONO_BENCH_CA"] ?? "";
const gate = createGate({ allow: [host], tls: { ca: [ca] }, ...extra });

if (listen === undefined) {
  // Descriptor 3 is a listening socket, as core would give it; every connection means the upstream.
  await gate.serve([
    {
      protocol: "tcp",
      purpose: "connections",
      fd: 3,
      destination: () => ({ address: "127.0.0.1", port: Number(upstream) }),
    },
  ]);
  console.log("ready");
} else {
  await gate.listen();
  console.log(gate.env()["HTTPS_PROXY"]);
}
createInterface({ input: process.stdin })
  .on("line", () => console.log(process.memoryUsage().rss))
  .once("close", () => process.exit()); // whoever measures is gone
