// Enforcement alone. Nothing else of nono is installed or loaded: no gate, no record, no undo.
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createSandbox } from "@nono/core";

const workspace = mkdtempSync(path.join(tmpdir(), "nono-example-"));
writeFileSync(path.join(workspace, "notes.txt"), "one\ntwo\n");

await using sandbox = await createSandbox({
  read: [workspace],
  exec: ["wc", "cat", "touch"],
  limits: { processes: 16 },
});
for (const argv of [
  ["wc", "-l", "notes.txt"],
  ["cat", "/etc/shadow"],
  ["touch", "notes.txt"],
]) {
  const { exitCode, stdout, stderr } = await sandbox.run(argv, { cwd: workspace });
  console.log(`${argv.join(" ")} → ${exitCode} ${(stdout + stderr).trim()}`);
}
const kept = sandbox.guarantees.filter(({ status }) => status === "enforced");
console.log(
  `tier ${sandbox.tier}: ${kept.length} of ${sandbox.guarantees.length} promises enforced`,
);
rmSync(workspace, { recursive: true });
