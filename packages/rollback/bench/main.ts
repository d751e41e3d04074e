// Checkpoint, listing, rollback and commit against cp -a, rsync and git stash, interleaved in one run.
//
//   pnpm --filter @nono/rollback bench [--files 100000] [--bytes 20000] [--rounds 3] [--dir /path]
import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parseArgs } from "node:util";
import { checkpoint, type StrategyName } from "../src/index.ts";

const { values } = parseArgs({
  options: {
    files: { type: "string", default: "100000" },
    bytes: { type: "string", default: "20000" },
    rounds: { type: "string", default: "3" },
    dir: { type: "string", default: tmpdir() },
  },
});
const files = Number(values.files);
const scratch = mkdtempSync(path.join(values.dir, "nono-bench-"));
const project = path.join(scratch, "project");
const samples = new Map<string, number[]>();

async function time<T>(name: string, work: () => T | Promise<T>): Promise<T> {
  const start = performance.now();
  const result = await work();
  samples.set(name, [...(samples.get(name) ?? []), performance.now() - start]);
  return result;
}

function furnish(): void {
  const contents = Buffer.alloc(Number(values.bytes), "contents of a source file\n");
  for (let n = 0; n < files; n++) {
    const dir = path.join(project, `d${n % 400}`);
    if (n < 400) mkdirSync(dir, { recursive: true });
    writeFileSync(path.join(dir, `f${n}`), contents);
  }
}

/** Changes `count` files, as an agent's step does. */
function edit(count: number): void {
  for (let n = 0; n < count; n++) {
    writeFileSync(path.join(project, `d${n % 400}`, `f${n}`), `edited ${Math.random()}\n`);
  }
}

function run(...[command = "", ...args]: string[]): void {
  execFileSync(command, args, { stdio: ["ignore", "ignore", "inherit"], cwd: scratch });
}

async function copied(store: string, strategy: StrategyName): Promise<void> {
  const before = await time(`${strategy}: begin`, () => checkpoint(project, { store, strategy }));
  // Writing the copy back to disk, which cp leaves to the kernel too, is waited for apart.
  edit(250);
  await time(`${strategy}: flushed, and 250 changes listed`, async () => {
    for await (const change of before.changes()) if (change.path === "") throw new Error("no path");
    await before.rollback({ paths: [path.join("d0", "f0")] });
  });
  await time(`${strategy}: list 250 changes`, async () => {
    for await (const change of before.changes()) if (change.path === "") throw new Error("no path");
  });
  await time(`${strategy}: rollback (swap)`, () => before.rollback());
  await time(`${strategy}: delete in the background`, () => before.dispose());
}

async function layered(store: string): Promise<void> {
  for (const outcome of ["discard", "commit"] as const) {
    const options = { store, strategy: "overlay", mounter: "unprivileged" } as const;
    const before = await time("overlay: begin", () => checkpoint(project, options));
    const { lower, upper, work, target } = before.mounts[0]!;
    const mount = `mount -t overlay x -o "lowerdir=${lower},upperdir=${upper},workdir=${work},userxattr" ${target}`;
    const edits = `i=0; while [ $i -lt 250 ]; do echo edited > ${target}/d$i/f$i; i=$((i+1)); done`;
    run("unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", `${mount}; ${edits}`);
    await time("overlay: list 250 changes", async () => {
      for await (const change of before.changes())
        if (change.path === "") throw new Error("no path");
    });
    if (outcome === "discard") await time("overlay: rollback (discard)", () => before.rollback());
    else await time("overlay: commit 250 changes", () => before.commit());
    await before.dispose();
  }
}

try {
  furnish();
  for (let round = 0; round < Number(values.rounds); round++) {
    const store = path.join(scratch, "state");
    await time("cp -a", () => run("cp", "-a", project, path.join(scratch, "cp")));
    rmSync(path.join(scratch, "cp"), { recursive: true });
    await copied(store, "copy");
    await time("rsync -a", () => run("rsync", "-a", `${project}/`, path.join(scratch, "rsync")));
    rmSync(path.join(scratch, "rsync"), { recursive: true });
    try {
      await copied(store, "reflink");
    } catch (error) {
      if (round === 0) console.log(`SKIPPED: reflink: ${(error as Error).message}`);
    }
    await layered(store);
  }
  const git = (...args: string[]): void =>
    run("git", "-C", project, "-c", "user.name=b", "-c", "user.email=b@b", ...args);
  git("init", "-q");
  git("add", "-A");
  git("commit", "-qm", "start");
  edit(250);
  await time("git stash -u (250 changes)", () => git("stash", "-u", "-q"));
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

const median = (list: number[]): number =>
  list.toSorted((a, b) => a - b)[list.length >> 1] ?? Number.NaN;
const baseline = median(samples.get("cp -a") ?? []);
console.log(`${files} files of ${values.bytes} bytes, medians of ${values.rounds} rounds`);
for (const [name, list] of samples) {
  const value = median(list);
  console.log(
    `${name.padEnd(48)} ${value.toFixed(1).padStart(10)} ms  ${(value / baseline).toFixed(3)} x cp -a`,
  );
}
