// Checkpoint, listing, rollback and commit against cp -a, rsync and git stash, interleaved in one run.
//
//   pnpm --filter @nono/rollback bench [--files 100000] [--bytes 20000] [--rounds 3] [--fs ext4] [--dir /path]
//
// As root each round runs on a fresh file system in an image file: ext4 looks for a free inode past
// each one that was freed within the last minutes (fs/ext4/ialloc.c, recently_deleted), so
// whoever copies a tree after another copy was deleted would pay for that. Otherwise, and with
// `--fs none`, everything happens in --dir, and that cost shows.
import { execFileSync, type ExecFileSyncOptions } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { type Checkpoint, checkpoint, type StrategyName } from "../src/index.ts";

const { values } = parseArgs({
  options: {
    files: { type: "string", default: "100000" },
    bytes: { type: "string", default: "20000" },
    rounds: { type: "string", default: "3" },
    fs: { type: "string", default: process.getuid?.() === 0 ? "ext4" : "none" },
    dir: { type: "string", default: tmpdir() },
  },
});
const files = Number(values.files);
const directories = Math.min(400, files);
const edits = Math.min(250, files);
const scratch = mkdtempSync(path.join(values.dir, "nono-bench-"));
const samples = new Map<string, number[]>();

async function time<T>(name: string, work: () => T | Promise<T>): Promise<T> {
  const start = performance.now();
  const result = await work();
  samples.set(name, [...(samples.get(name) ?? []), performance.now() - start]);
  return result;
}

function run(command: string, args: string[], options: ExecFileSyncOptions = {}): void {
  execFileSync(command, args, { stdio: ["ignore", "ignore", "inherit"], ...options });
}

/** What one measurement left to write back must not be paid by the next. */
function settle(): void {
  run("sync", []);
}

function furnish(project: string): void {
  const contents = Buffer.alloc(Number(values.bytes), "contents of a source file\n");
  for (let n = 0; n < files; n++) {
    const dir = path.join(project, `d${n % directories}`);
    if (n < directories) mkdirSync(dir, { recursive: true });
    writeFileSync(path.join(dir, `f${n}`), contents);
  }
  settle();
}

function edited(project: string, n: number): string {
  return path.join(project, `d${n % directories}`, `f${n}`);
}

/** Changes some files, as an agent's step does. */
function edit(project: string): void {
  for (let n = 0; n < edits; n++) writeFileSync(edited(project, n), `edited ${Math.random()}\n`);
}

async function list(before: Checkpoint): Promise<void> {
  for await (const change of before.changes()) if (change.path === "") throw new Error("no path");
}

async function whole(root: string, project: string, strategy: StrategyName): Promise<void> {
  const options = { store: path.join(root, "state"), strategy };
  const before = await time(`${strategy}: begin`, () => checkpoint(project, options));
  // Flushed to disk, which cp leaves to the kernel too.
  await before.rollback({ paths: [path.relative(project, edited(project, 0))] });
  await time(`${strategy}: list no change`, () => list(before));
  edit(project);
  await time(`${strategy}: list ${edits} changes`, () => list(before));
  await time(`${strategy}: commit ${edits} paths`, () =>
    before.commit({ paths: Array.from({ length: edits }, (_, n) => edited(project, n)) }),
  );
  edit(project);
  await time(`${strategy}: rollback (swap)`, () => before.rollback());
  await time(`${strategy}: delete in the background`, () => before.dispose());
}

async function layered(root: string, project: string): Promise<void> {
  const isRoot = process.getuid?.() === 0;
  const mounter = isRoot ? "privileged" : "unprivileged";
  const layerOptions = isRoot ? "redirect_dir=on,metacopy=off,index=off" : "userxattr";
  const namespaces = [...(isRoot ? [] : ["--user", "--map-root-user"]), "--mount"];
  for (const outcome of ["discard", "apply", "commit"] as const) {
    const options = {
      store: path.join(root, "state"),
      strategy: "overlay",
      mounter,
    } as const;
    const before = await time("overlay: begin", () => checkpoint(project, options));
    const { lower, upper, work, target } = before.mounts[0]!;
    const mount = `mount -t overlay x -o "lowerdir=${lower},upperdir=${upper},workdir=${work},${layerOptions}" ${target}`;
    const change = `i=0; while [ $i -lt ${edits} ]; do echo edited > ${target}/d$((i % ${directories}))/f$i; i=$((i+1)); done`;
    run("unshare", [...namespaces, "sh", "-ec", `${mount}; ${change}`]);
    await time(`overlay: list ${edits} changes`, () => list(before));
    if (outcome === "discard") await time("overlay: rollback (discard)", () => before.rollback());
    if (outcome === "commit") await time(`overlay: commit ${edits} changes`, () => before.commit());
    if (outcome === "apply") {
      await time(`overlay: apply ${edits} changes`, () => before.apply());
      await time(`overlay: rollback of ${edits} applied`, () => before.rollback());
    }
    await before.dispose();
  }
}

/** Everything, each once, in `root`. */
async function round(root: string, first: boolean): Promise<void> {
  const project = path.join(root, "project");
  if (values.fs === "btrfs") run("btrfs", ["-q", "subvolume", "create", project]);
  else mkdirSync(project);
  furnish(project);
  await time("cp -a", () => run("cp", ["-a", project, path.join(root, "cp")]));
  settle();
  await time("rsync -a", () => run("rsync", ["-a", `${project}/`, path.join(root, "rsync")]));
  settle();
  // btrfs first: the others bring a subvolume back as a directory.
  for (const strategy of ["btrfs", "copy", "reflink"] as const) {
    try {
      await whole(root, project, strategy);
    } catch (error) {
      if (first) console.log(`SKIPPED: ${strategy}: ${(error as Error).message}`);
    }
    settle();
  }
  await layered(root, project);
  const git = (...args: string[]): void =>
    run("git", ["-C", project, "-c", "user.name=b", "-c", "user.email=b@b", ...args]);
  git("init", "-q");
  git("add", "-A");
  git("commit", "-qm", "start");
  edit(project);
  await time(`git stash -u (${edits} changes)`, () => git("stash", "-u", "-q"));
}

async function onImage(kind: string, work: (root: string) => Promise<void>): Promise<void> {
  const image = path.join(scratch, "image");
  const root = path.join(scratch, "mnt");
  writeFileSync(image, "");
  // Sparse: it takes as much as is written.
  truncateSync(image, 4e9 + files * Number(values.bytes) * 8);
  mkdirSync(root);
  run(`mkfs.${kind}`, [
    "-q",
    ...(kind === "ext4" ? ["-N", String(files * 8 + 100_000)] : []),
    image,
  ]);
  run("mount", ["-o", "loop", image, root]);
  try {
    await work(root);
  } finally {
    run("umount", [root]);
    rmSync(image);
    rmSync(root, { recursive: true });
  }
}

try {
  for (let number = 0; number < Number(values.rounds); number++) {
    const work = (root: string): Promise<void> => round(root, number === 0);
    // oxlint-disable-next-line no-await-in-loop -- rounds take turns
    await (values.fs === "none"
      ? work(mkdtempSync(path.join(scratch, "round-")))
      : onImage(values.fs, work));
  }
} finally {
  rmSync(scratch, { recursive: true, force: true });
}

const median = (numbers: number[]): number =>
  numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
const baseline = median(samples.get("cp -a") ?? []);
console.log(
  `${files} files of ${values.bytes} bytes on ${values.fs}, medians of ${values.rounds} rounds`,
);
for (const [name, numbers] of samples) {
  const value = median(numbers);
  const columns = [
    name.padEnd(40),
    value.toFixed(1).padStart(10),
    "ms ",
    (value / baseline).toFixed(3),
    "x cp -a",
  ];
  console.log(columns.join(" "));
}
