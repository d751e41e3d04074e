// Records an intent of each kind that must be durable before its action, and acts: makes a directory of its name.
import { mkdirSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import { ed25519Signer, openAuditLog, type NonoEvent } from "../../src/index.ts";

const [dir = "", origin = "", released = ""] = process.argv.slice(2);
mkdirSync(released);
const log = await openAuditLog({ dir, origin, signer: ed25519Signer(origin), redact: false });
const intent = { phase: "intent", decision: "allow" } as const;
const intents: NonoEvent[] = [
  { ...intent, type: "process.exec", object: { path: "/bin/true" } },
  { ...intent, type: "net.connect", object: { host: "h", port: 443, transport: "tcp" } },
  { ...intent, type: "http.request", object: { method: "GET", host: "h", path: "/" } },
  { ...intent, type: "credential.inject", object: { name: "T", host: "h" } },
];
for (const event of intents) {
  const { seq: ref } = await log.record(event);
  mkdirSync(path.join(released, event.type));
  await log.record({ ...event, phase: "result", ref });
}
await log.close("done");
