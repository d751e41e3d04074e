// A gate in a process of its own, so that its memory is its own: `node gate-child.ts UPSTREAM_PORT`, the upstream's
// authority in NONO_CA. Prints the environment of its clients; ends with its standard input.
import process from "node:process";
import { createGate } from "../../src/index.ts";
import { loopback } from "./upstream.ts";

const [port = ""] = process.argv.slice(2);
const host = `good.test:${port}`;
const gate = createGate({
  allow: [host, `other.test:${port}`, `127.0.0.1:${port}`],
  resolver: loopback,
  tls: { ca: [process.env["NONO_CA"] ?? ""] },
  credentials: [
    {
      name: "API_TOKEN",
      proxyTo: host,
      source: { description: "a value", read: async () => Buffer.from("s".repeat(40)) },
    },
  ],
});
await gate.listen();
console.log(JSON.stringify(gate.env()));
process.stdin.resume().once("end", () => {
  void gate.close().then(() => process.exit(0));
});
