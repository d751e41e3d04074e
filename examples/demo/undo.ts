// A careless agent deletes and rewrites half of a repository; everything comes back.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { lstatSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { Sandbox, type SandboxSettings } from "@nono/sdk";
import { pythonInstallation } from "./python.ts";

const fileCount = 400;

const careless = `
import os, shutil
names = sorted(os.listdir("."))
for number, name in enumerate(names):
    if name == ".git": continue
    if number % 4 == 0: os.remove(name)
    elif number % 4 == 1: open(name, "w").write("rewritten")
shutil.rmtree(".git")
os.mkdir("new"); open("new/file", "w").write("new")
`;

/** Whether all came back. */
export async function undo(directory: string, settings: SandboxSettings): Promise<boolean> {
  const repository = path.join(directory, "repository");
  mkdirSync(repository, { recursive: true });
  for (let number = 0; number < fileCount; number++) {
    writeFileSync(path.join(repository, `file-${number}.txt`), `contents of file ${number}\n`);
  }
  execFileSync("git", ["init", "--quiet", repository]);
  const before = fingerprint(repository);

  const { executable, prefix } = pythonInstallation();
  await using sandbox = new Sandbox(settings)
    .allowRead(prefix)
    .allowWrite(repository)
    .allowExec(executable)
    .enableRollback({ store: path.join(directory, "checkpoints") });
  const start = performance.now();
  await sandbox.guarantees(); // builds it, and keeps the state of the repository
  const built = performance.now() - start;
  const result = await sandbox.run([executable, "-c", careless], { cwd: repository });
  const kinds = new Map<string, number>();
  for await (const { kind } of result.changes()) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  const after = fingerprint(repository);

  const begin = performance.now();
  await sandbox.rollback();
  const took = performance.now() - begin;
  const restored = fingerprint(repository) === before && after !== before && result.exitCode === 0;
  const summary = [...kinds].map(([kind, count]) => `${count} ${kind}`).join(", ");
  console.log("\nWhat a careless one does is undone:\n");
  console.log(`${fileCount} files and a .git, on ${fileSystem(repository)}: ${summary}`);
  console.log(`sandbox and checkpoint in ${built.toFixed(1)} ms`);
  console.log(
    `rollback in ${took.toFixed(1)} ms: ${restored ? "every byte, mode and time is back" : "NOT RESTORED"}`,
  );
  return restored;
}

/** What the directory is on. */
function fileSystem(directory: string): string {
  const table = execFileSync("df", ["--output=fstype", directory], { encoding: "utf8" });
  return table.trim().split("\n").at(-1) ?? "";
}

/** One hash over names, modes, times and contents. */
function fingerprint(directory: string): string {
  const hash = createHash("sha256");
  for (const name of readdirSync(directory, { recursive: true, encoding: "utf8" }).toSorted()) {
    const file = path.join(directory, name);
    const { mode, mtimeMs, size } = lstatSync(file);
    hash.update(`${name}\0${mode}\0${mtimeMs}\0${size}\0`);
    if (lstatSync(file).isFile()) hash.update(readFileSync(file));
  }
  return hash.digest("hex");
}
