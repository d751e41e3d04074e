// A gate whose listeners (descriptors 3 and 4) say nothing of where a connection was meant to go: whoever connects on
// a program's behalf tells it over IPC first, as a supervisor's table would.
import process from "node:process";
import { type ConnectionEnds, type GateListener, createGate } from "../../src/index.ts";
import { loopback } from "./upstream.ts";

interface Entry {
  readonly key: string;
  readonly address: string;
  readonly port: number;
}

const table = new Map<string, Entry>();
const asked: string[] = [];
const [upstreamPort = ""] = process.argv.slice(2);

const destination = ({ remoteAddress, remotePort }: ConnectionEnds): Entry | undefined => {
  const key = `${remoteAddress} ${remotePort}`;
  asked.push(key);
  const entry = table.get(key);
  table.delete(key);
  if (entry?.address === "throw") throw new Error("the table is gone");
  return entry;
};
const listener = (fd: number, purpose: GateListener["purpose"]): GateListener => ({
  protocol: "tcp",
  purpose,
  fd,
  destination,
});

const gate = createGate({
  allow: [`good.test:${upstreamPort}`, `127.0.0.1:${upstreamPort}`],
  resolver: loopback,
});
await gate.serve([listener(3, "connections"), listener(4, "dns")]);
process.on("message", (message: Entry | "report") => {
  if (message === "report") process.send?.({ asked, violations: gate.violations });
  else {
    table.set(message.key, message);
    process.send?.("noted");
  }
});
process.on("disconnect", () => void gate.close());
process.send?.("ready");
