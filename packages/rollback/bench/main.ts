// Checkpoint, listing, rollback and commit against cp -a, rsync and git stash, interleaved in one run.
//
//   pnpm --filter @nono/rollback bench [--files N --bytes N] [--rounds 3] [--fs ext4|xfs|btrfs] [--dir /path]
//
// By default 100,000 files of 20 KB, 30,000 of 4 KiB and 1000 of 1 MiB.
//
// `floor` is a program without a walk, a list or attributes (`floor.c`): what the kernel's own work costs,
// below which nothing that keeps a second tree can get.
//
// As root each round runs on a fresh file system in an image file: ext4 looks for a free inode past
// each one that was freed within the last minutes (fs/ext4/ialloc.c, recently_deleted), so
// whoever copies a tree after another copy was deleted would pay for that. Otherwise, and with
// `--fs none`, everything happens in --dir, and that cost shows.
import { execFileSync, type ExecFileSyncOptions } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, statfsSync, truncateSync, writeFileSync } from "node:fs";
import { loadavg, tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { parseArgs } from "node:util";
import { type Checkpoint, checkpoint, type StrategyName } from "../src/index.ts";

const { values } = parseArgs({
  options: {
    files: { type: "string" },
    bytes: { type: "string", default: "20000" },
    rounds: { type: "string", default: "3" },
    fs: { type: "string", default: process.getuid?.() === 0 ? "ext4" : "none" },
    dir: { type: "string", default: tmpdir() },
  },
});
interface Shape {
  readonly files: number;
  readonly bytes: number;
}

const shapes: Shape[] =
  values.files === undefined
    ? [
        { files: 100_000, bytes: 20_000 },
        { files: 30_000, bytes: 4096 },
        { files: 1000, bytes: 1 << 20 },
      ]
    : [{ files: Number(values.files), bytes: Number(values.bytes) }];
const edits = Math.min(250, ...shapes.map(({ files }) => files));
const scratch = mkdtempSync(path.join(values.dir, "nono-rollback-bench-"));
const samples = new Map<string, number[]>();
const skipped = new Set<string>();
const mounted = new Set<string>();
let directories = 0;

/** What each is to take at most with 100,000 files, in milliseconds. */
const targets = new Map([
  ["copy: rollback (swap)", 5],
  ["reflink: begin", 1500],
  ["reflink: rollback (swap)", 5],
  ["btrfs: begin", 5],
  ["btrfs: rollback (swap)", 5],
  ["overlay: begin", 5],
  ["overlay: rollback (discard)", 5],
  [`overlay: commit ${edits} changes`, 150],
  ...["copy", "reflink", "btrfs", "overlay"].map(
    (name) => [`${name}: list ${edits} changes`, 200] as const,
  ),
]);
/**
 * And in multiples of a `cp -a` that copies: by itself it shares blocks where it can, as `reflink`
 * does, and then there is nothing to compare `copy` with.
 */
const ratios = new Map([["copy: begin", 0.6]]);
const copying = "cp -a --reflink=never";
/** What the kernel's part of each costs. */
const floors = new Map([
  ["copy: begin", "floor: bytes"],
  ["reflink: begin", "floor: share"],
]);
const floor = path.join(scratch, "floor");

function note(name: string, value: number): void {
  samples.set(name, [...(samples.get(name) ?? []), value]);
}

async function time<T>(name: string, work: () => T | Promise<T>): Promise<T> {
  const start = performance.now();
  const result = await work();
  note(name, performance.now() - start);
  return result;
}

function run(command: string, args: string[], options: ExecFileSyncOptions = {}): void {
  execFileSync(command, args, { stdio: ["ignore", "ignore", "inherit"], ...options });
}

/** What one measurement left to write back must not be paid by the next. */
function settle(): void {
  run("sync", []);
}

/**
 * The same for what a strategy left behind: what was deleted goes on being freed in the background, and
 * of the tree that came back nothing is in memory yet.
 */
function settleAfter(root: string, project: string): void {
  if (values.fs === "btrfs") run("btrfs", ["subvolume", "sync", root]);
  if (values.fs === "xfs") {
    run("fsfreeze", ["--freeze", root]);
    run("fsfreeze", ["--unfreeze", root]);
  }
  run("find", [project, "-type", "f", "-exec", "cat", "{}", "+"]);
}

/** Bytes of the file system in use. */
function used(root: string): number {
  settle();
  const { bfree, blocks, bsize } = statfsSync(root);
  return (blocks - bfree) * bsize;
}

function furnish(project: string, { files, bytes }: Shape): void {
  directories = Math.min(400, files);
  const contents = Buffer.alloc(bytes, "contents of a source file\n");
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
  const empty = used(root);
  const before = await time(`${strategy}: begin`, () => checkpoint(project, options));
  // Flushed to disk, which cp leaves to the kernel too.
  await before.rollback({ paths: [path.relative(project, edited(project, 0))] });
  note(`${strategy}: disk (MB)`, (used(root) - empty) / 1e6);
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

/** What can't be measured here is said by name, once, and the rest goes on. */
async function attempt(name: string, work: () => void | Promise<void>): Promise<void> {
  try {
    await work();
  } catch (error) {
    const { code, message, status } = error as NodeJS.ErrnoException & { status?: number };
    // The last is EX_UNAVAILABLE, by which `floor` says that there are no blocks to share.
    const isMissing =
      code === "ERR_NONO_STRATEGY_UNSUPPORTED" || code === "ENOENT" || status === 69;
    if (!isMissing) process.exitCode = 1;
    if (!skipped.has(name)) {
      console.log(`${isMissing ? "SKIPPED" : "FAILED"}: ${name}: ${message.trim()}`);
    }
    skipped.add(name);
  }
  settle();
}

/** Everything, each once, in `root`. */
async function round(root: string, shape: Shape): Promise<void> {
  const project = path.join(root, "project");
  if (values.fs === "btrfs") run("btrfs", ["-q", "subvolume", "create", project]);
  else mkdirSync(project);
  furnish(project, shape);
  for (const [name, command, ...args] of [
    ["cp -a", "cp", "-a", project, path.join(root, "cp")],
    [copying, "cp", "-a", "--reflink=never", project, path.join(root, "copied")],
    ["rsync -a", "rsync", "-a", `${project}/`, path.join(root, "rsync")],
    ["floor: bytes", floor, "bytes", project, path.join(root, "floor-bytes")],
    ["floor: share", floor, "share", project, path.join(root, "floor-share")],
    // What a list costs at least that looks at every file, in one thread.
    ["find -size", "find", project, "-size", "+1G"],
  ] as const) {
    await attempt(name, () => time(name, () => run(command, args)));
  }
  // btrfs first: the others bring a subvolume back as a directory.
  for (const strategy of ["btrfs", "reflink", "copy"] as const) {
    await attempt(strategy, () => whole(root, project, strategy));
    settleAfter(root, project);
  }
  await attempt("overlay", () => layered(root, project));
  await attempt("git stash -u", async () => {
    const git = (...args: string[]): void =>
      run("git", ["-C", project, "-c", "user.name=b", "-c", "user.email=b@b", ...args]);
    git("init", "-q");
    git("add", "-A");
    git("commit", "-qm", "start");
    edit(project);
    await time(`git stash -u (${edits} changes)`, () => git("stash", "-u", "-q"));
  });
}

async function onImage(
  kind: string,
  { files, bytes }: Shape,
  work: (root: string) => Promise<void>,
): Promise<void> {
  const [image, root] = [path.join(scratch, "image"), path.join(scratch, "mnt")];
  writeFileSync(image, "");
  // Sparse: it takes as much as is written.
  truncateSync(image, 4e9 + files * bytes * 11);
  mkdirSync(root, { recursive: true });
  run(`mkfs.${kind}`, [
    "-q",
    ...(kind === "ext4" ? ["-N", String(files * 11 + 100_000)] : []),
    image,
  ]);
  run("mount", ["-o", "loop", image, root]);
  mounted.add(root);
  try {
    await work(root);
  } finally {
    run("umount", [root]);
    mounted.delete(root);
    rmSync(image);
  }
}

/** The loop device was attached by mount(8) and goes with the last unmount. */
function cleanUp(): void {
  for (const root of mounted) run("umount", ["--lazy", root]);
  rmSync(scratch, { recursive: true, force: true });
}

async function measure(shape: Shape): Promise<void> {
  samples.clear();
  skipped.clear();
  for (let number = 0; number < Number(values.rounds); number++) {
    const work = (root: string): Promise<void> => round(root, shape);
    // oxlint-disable-next-line no-await-in-loop -- rounds take turns
    await (values.fs === "none"
      ? work(mkdtempSync(path.join(scratch, "round-")))
      : onImage(values.fs, shape, work));
  }
  const { files, bytes } = shape;
  const load = loadavg()[0]?.toFixed(1);
  console.log(
    `${files} files of ${bytes} bytes on ${values.fs}, medians of ${values.rounds} rounds, load ${load}`,
  );
  const baseline = median(samples.get("cp -a") ?? []);
  const copied = median(samples.get(copying) ?? []);
  for (const [name, numbers] of samples) {
    const [value, ratio] = [median(numbers), median(numbers) / baseline];
    const columns = [name.padEnd(40), value.toFixed(1).padStart(10)];
    if (!name.includes("disk")) {
      columns.push("ms ", ratio.toFixed(3), "x cp -a");
      const [most, share] = [targets.get(name), ratios.get(name)];
      const least = samples.get(floors.get(name) ?? "");
      if (least !== undefined) columns.push(` ${(value / median(least)).toFixed(2)} x floor`);
      if (most !== undefined) columns.push(` target ${most} ms: ${value <= most}`);
      if (share !== undefined) {
        const multiple = value / copied;
        columns.push(` ${multiple.toFixed(2)} x ${copying}, target ${share}: ${multiple <= share}`);
      }
    }
    console.log(columns.join(" "));
  }
  console.log();
}

function median(numbers: number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? Number.NaN;
}

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => {
    cleanUp();
    process.exit(1);
  });
}
try {
  run("cc", ["-O2", "-o", floor, path.join(import.meta.dirname, "floor.c"), "-lpthread"]);
  // oxlint-disable-next-line no-await-in-loop -- one after the other
  for (const shape of shapes) await measure(shape);
} finally {
  cleanUp();
}
