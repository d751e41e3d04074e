// A runner of one's own. The agent has a sandbox in which it can only think and ask; what it asks for is
// run in another one, after a person has said yes, and undone when the person does not like it.
//
//   node main.ts --ask     asks on the terminal; otherwise the answers are those below
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { createInterface } from "node:readline/promises";
import { Sandbox } from "@nono/sdk";

const root = mkdtempSync(path.join(tmpdir(), "nono-example-"));
const workspace = path.join(root, "workspace");
const audit = { dir: path.join(root, "audit") };
mkdirSync(workspace);
writeFileSync(path.join(workspace, "notes.txt"), "untidy\n");

/** What needs no person. */
const harmless = new Set(["ls", "cat", "wc"]);

async function approve(argv: readonly string[]): Promise<boolean> {
  const [program = ""] = argv;
  if (harmless.has(program)) return true;
  if (!process.argv.includes("--ask")) return program !== "rm";
  using terminal = createInterface({ input: process.stdin, output: process.stdout });
  return (await terminal.question(`Run ${argv.join(" ")}? [y/N] `)) === "y";
}

await using tools = new Sandbox({ audit })
  .use("shell", { workspace })
  .allowWrite(workspace)
  .enableRollback({ store: path.join(root, "rollback") });

await using mind = new Sandbox({ audit }).use("python").allowRead(import.meta.dirname);
const agent = await mind.spawn(["python3", path.join(import.meta.dirname, "agent.py")], {
  cwd: import.meta.dirname,
  stdio: ["pipe", "pipe", "inherit"],
});
if (agent.stdin === null || agent.stdout === null) throw new Error("The agent has no streams");
for await (const line of createInterface({ input: agent.stdout })) {
  const argv = JSON.parse(line) as string[];
  const approved = await approve(argv);
  const { exitCode, stdout } = approved
    ? await tools.run(argv, { cwd: workspace, timeout: 10_000 })
    : { exitCode: null, stdout: "refused by a person" };
  console.log(`${argv.join(" ")} → ${approved ? exitCode : "refused"}`);
  agent.stdin.write(`${JSON.stringify({ exitCode, stdout })}\n`);
}
await agent.exited;

for await (const { kind, path: changed } of tools.changes()) console.log(`${kind} ${changed}`);
await tools.rollback();
console.log(`undone: ${readdirSync(workspace).join(", ")}`);
await Promise.all([tools.close(), mind.close()]);
rmSync(root, { recursive: true });
