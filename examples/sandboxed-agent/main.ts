// The whole of nono in one screen: files, network, programs, a credential from the keychain that the agent
// never has, undo, and a record.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { Sandbox } from "@nono/sdk";

const root = mkdtempSync(path.join(tmpdir(), "nono-example-"));
const workspace = path.join(root, "workspace");
mkdirSync(path.join(workspace, "output"), { recursive: true });
mkdirSync(path.join(workspace, "src"));
writeFileSync(path.join(workspace, "src", "code.py"), "print('hello')\n");

await using sandbox = new Sandbox({ audit: { dir: path.join(root, "audit") } })
  .use("python")
  .allowRead([workspace, import.meta.dirname])
  .allowWrite(path.join(workspace, "output"))
  .allowNetwork(["api.github.com:443", "pypi.org:443"])
  .allowExec("git")
  .enableRollback({ store: path.join(root, "rollback") })
  .injectCredential({ name: "GITHUB_TOKEN", proxyTo: "api.github.com", tokenFromKeychain: true });

const agent = path.join(import.meta.dirname, "agent.py");
const result = await sandbox.run(["python3", agent], { cwd: workspace, timeout: 60_000 });
console.log(result.stdout + result.stderr);
for await (const { kind, path: changed } of result.changes()) console.log(`${kind} ${changed}`);

await sandbox.rollback();
console.log(
  `after the rollback: ${readdirSync(path.join(workspace, "output")).length} files in output`,
);
console.log(`on record: ${result.audit?.head.size} entries`);
await sandbox.close();
rmSync(root, { recursive: true });
