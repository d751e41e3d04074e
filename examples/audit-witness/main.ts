// A log whose head a witness has seen. Then whoever holds the machine and all of its keys tries to tell another
// story: by going back to an older state, and by writing a new one.
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import {
  ed25519Signer,
  formatReport,
  HostLedger,
  openAuditLog,
  verifyLog,
  witnessAnchor,
} from "@nono/audit";
import { startWitness } from "./witness.ts";

const state = mkdtempSync(path.join(tmpdir(), "nono-audit-"));
const host = "nono.local/example";
const signer = ed25519Signer(host);
const witness = await startWitness("witness.example/w1", signer.vkey);

/** The ledger in a directory, with the one key of this host. */
function ledgerIn(dir: string): HostLedger {
  const anchor = witnessAnchor({ name: "w1", url: witness.url, keys: [witness.vkey] });
  return new HostLedger({ dir, origin: host, signer, anchors: [anchor] });
}

/** Records one refused attempt; returns the log's directory. */
async function run(ledger: HostLedger, session: string): Promise<string> {
  const dir = path.join(state, `session-${session}`);
  const log = await openAuditLog({ dir, origin: `${host}/session/${session}`, ledger });
  await log.record({
    type: "file.open",
    phase: "event",
    decision: "deny",
    layer: "landlock",
    actor: { pid: 4242, exe: "/usr/bin/cat", chain: [{ pid: 4200, exe: "/usr/bin/bash" }] },
    object: { path: "/etc/shadow", access: "read" },
    outcome: { errno: "EACCES" },
  });
  await log.close("done");
  await log.anchored;
  return dir;
}

const ledger = ledgerIn(path.join(state, "ledger"));
const policy = {
  witnesses: `log ${signer.vkey}\nwitness w1 ${witness.vkey}\nquorum w1\n`,
  require: "WITNESSED" as const,
};
const first = await run(ledger, "1");
process.stdout.write(formatReport(await verifyLog(first, policy)));

cpSync(ledger.dir, path.join(state, "backup"), { recursive: true });
await run(ledger, "2");

console.log("\nthe ledger goes back to how it was before session 2:");
rmSync(ledger.dir, { recursive: true });
cpSync(path.join(state, "backup"), ledger.dir, { recursive: true });
const refusals: (string | undefined)[] = [];
try {
  await ledger.append([{ type: "entry.erased", session: "x", entry: 1, fields: 1 }]);
} catch (error) {
  refusals.push((error as { code?: string }).code);
  console.log(`  ${(error as Error).message}`);
}

console.log("\na new ledger in its place, signed with the same key:");
const forged = ledgerIn(path.join(state, "forged"));
await run(forged, "3");
for (const { error } of await forged.anchor()) {
  refusals.push(error?.code);
  console.log(`  ${error?.message}`);
}

witness.server.close();
rmSync(state, { recursive: true });
process.exitCode = refusals.every((code) => code === "ERR_NONO_AUDIT_FORK") ? 0 : 1;
