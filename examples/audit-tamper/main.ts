// Keeps a log with a host ledger, verifies it, flips one byte, and verifies it again.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { formatReport, HostLedger, keyFileSigner, openAuditLog, verifyLog } from "@nono/audit";

const state = mkdtempSync(path.join(tmpdir(), "nono-audit-"));
const host = "nono.local/example";
const ledger = new HostLedger({
  dir: path.join(state, "ledger"),
  origin: host,
  signer: keyFileSigner(path.join(state, "ledger.key"), host),
});

const dir = path.join(state, "session");
const log = await openAuditLog({ dir, origin: `${host}/session/1`, ledger });
const intent = await log.record({
  type: "net.connect",
  phase: "intent",
  decision: "deny",
  rule: { id: "net:default" },
  actor: { pid: 4242, exe: "/usr/bin/curl" },
  object: { host: "evil.example", port: 443, transport: "tcp" },
});
console.log(`entry ${intent.seq} is durable: ${intent.durable}`);
await log.close("done");

const trusted = { ledgerKeys: [ledger.vkey] };
process.stdout.write(formatReport(await verifyLog(dir, trusted)));

// Someone would rather have been allowed.
const bundle = path.join(dir, "tile/entries/000.p/3");
const bytes = readFileSync(bundle, "latin1");
writeFileSync(bundle, bytes.replace('"decision":"deny"', '"decision":"Deny"'), "latin1");

console.log("\none byte later:");
const report = await verifyLog(dir, trusted);
process.stdout.write(formatReport(report));
rmSync(state, { recursive: true });
process.exitCode = report.verdict === "TAMPERED" ? 0 : 1;
