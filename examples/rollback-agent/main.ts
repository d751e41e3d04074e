// An agent gone wrong deletes and rewrites half of a project; the good half is kept, the rest undone.
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { checkpoint } from "@nono/rollback";

const scratch = await mkdtemp(path.join(tmpdir(), "nono-example-"));
const project = path.join(scratch, "project");
await mkdir(path.join(project, "src"), { recursive: true });
for (let n = 0; n < 400; n++) await writeFile(path.join(project, "src", `${n}.txt`), `file ${n}\n`);

let start = performance.now();
const before = await checkpoint(project, { store: path.join(scratch, "state") });
console.log(`checkpoint: ${(performance.now() - start).toFixed(1)} ms, ${before.strategy.reason}`);

for (let n = 0; n < 200; n++) await rm(path.join(project, "src", `${n}.txt`));
for (let n = 200; n < 300; n++) await writeFile(path.join(project, "src", `${n}.txt`), "oops");
await writeFile(path.join(project, "README.md"), "# The one good idea\n");

const kinds = new Map<string, number>();
for await (const { kind } of before.changes()) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
console.log("the agent's work:", Object.fromEntries(kinds));

await before.commit({ paths: ["README.md"] });
start = performance.now();
await before.rollback();
console.log(`rollback: ${(performance.now() - start).toFixed(1)} ms`);

const files = await readdir(path.join(project, "src"));
const readme = await readFile(path.join(project, "README.md"), "utf8");
console.log(`${files.length} files are back, and kept is: ${readme.trim()}`);
await before.dispose();
await rm(scratch, { recursive: true });
