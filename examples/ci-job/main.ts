// A CI job: an agent's run is put on record, and the head of the host's ledger is what a keyless
// signature would be over (Sigstore: a certificate for the job's own identity, no key to keep). Dry here:
// nothing leaves the machine. job.yml is the same in GitHub Actions, signed.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { type Anchor, verifyLog } from "@nono/audit";
import { Sandbox } from "@nono/sdk";

const root = mkdtempSync(path.join(tmpdir(), "nono-example-"));
const workspace = path.join(root, "workspace");
mkdirSync(workspace);
writeFileSync(path.join(workspace, "input.txt"), "3\n1\n2\n");

/** Stands where `sigstoreAnchor({ name, fulcio, rekorUrl })` of `@nono/audit/sigstore` does in a job. */
const dryRun: Anchor = {
  name: "dry-run",
  async submit(head) {
    const lines = head.note.trim().split("\n");
    console.log(`to be signed as this job: ${lines[0]}, ${lines[1]} entries`);
    return { kind: "bundle", json: '{ "signed": false }' };
  },
};

const sandbox = new Sandbox({ audit: { dir: path.join(root, "audit"), anchors: [dryRun] } })
  .use("shell", { workspace })
  .allowWrite(workspace);
const agent = "sort input.txt > output.txt; cat /etc/shadow";
const { exitCode, audit } = await sandbox.run(["sh", "-c", agent], { cwd: workspace });
console.log(`the agent's exit code: ${exitCode}`);
await sandbox.close();

const report = await verifyLog(audit?.dir ?? "");
console.log(`the record: ${report.verdict}`);
rmSync(root, { recursive: true });
process.exitCode = report.verdict === "TAMPERED" ? 1 : 0;
