// Twenty agents at once in one process. Each has a directory, a policy and a token of its own, and can't
// see the others.
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { Sandbox } from "@nono/sdk";

const root = mkdtempSync(path.join(tmpdir(), "nono-example-"));
const names = Array.from({ length: 20 }, (_, at) => `agent-${at}`);
for (const name of names) {
  mkdirSync(path.join(root, name));
  writeFileSync(path.join(root, name, "task.txt"), `the task of ${name}\n`);
}

const script = `
cat task.txt > done.txt
echo "$NAME: $(cat done.txt)"
for other in ../*/task.txt; do
  [ "$other" -ef task.txt ] && continue
  cat "$other" 2>/dev/null && echo "$NAME saw $other"
done
exit 0`;

const begin = performance.now();
const outputs = await Promise.all(
  names.map(async (name) => {
    const workspace = path.join(root, name);
    await using sandbox = new Sandbox({ audit: { dir: path.join(root, "audit") } })
      .use("shell", { workspace })
      .allowWrite(workspace)
      .setEnv({ NAME: name })
      .limit({ processes: 32 });
    const { stdout } = await sandbox.run(["sh", "-c", script], { cwd: workspace, timeout: 60_000 });
    return stdout.trim();
  }),
);
const expected = names.map((name) => `${name}: the task of ${name}`);
const alone = outputs.every((output, at) => output === expected[at]);
console.log(outputs.slice(0, 3).join("\n"));
console.log(`${outputs.length} agents in ${Math.round(performance.now() - begin)} ms`);
console.log(`each saw its own task ${alone ? "and no other" : "AND OTHERS"}`);
const records = readdirSync(path.join(root, "audit", "sessions"));
console.log(`${records.length} records, one for each`);
rmSync(root, { recursive: true });
process.exitCode = alone ? 0 : 1;
