// What commands leave in $SCRATCH is deleted, also when the owner was killed; nothing else ever is.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { afterEach, beforeEach, expect, test } from "vitest";
import { deleteTree } from "../src/delete-tree.ts";
import { prefixOf } from "../src/stale-directories.ts";
import { main, nono } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";

useOwnState();

let directory: string;
let env: NodeJS.ProcessEnv;
beforeEach(() => {
  directory = mkdtempSync(path.join(tmpdir(), "nono-owned-"));
  env = { ...process.env, TMPDIR: directory };
});
afterEach(() => {
  spawnSync("chmod", ["-R", "u+rwx", directory]);
  rmSync(directory, { recursive: true, force: true });
});

const left = (): string[] => readdirSync(directory).filter((name) => name.startsWith("nono-s"));

/** A run in which the owner is killed, with what is left of it. */
async function killed(): Promise<string> {
  const script = "mkdir -p $TMPDIR/a/b; chmod 555 $TMPDIR/a; echo ready; sleep 60";
  const args = [main, "run", "-p", "shell", "--no-audit", "--", "sh", "-c", script];
  const child = spawn(process.execPath, args, {
    env,
    cwd: "/",
    stdio: ["ignore", "pipe", "inherit"],
  });
  await once(child.stdout, "data");
  child.kill("SIGKILL");
  await once(child, "close");
  const [name = ""] = left();
  return path.join(directory, name);
}

const runAgain = (): ReturnType<typeof nono> =>
  nono(["run", "-p", "scratch", "--no-audit", "--", "true"], { env, cwd: "/" });

test("modes that forbid it don't keep it from being deleted, and don't make the run fail", () => {
  // As Go's module cache; and who may not look into it is no better off.
  const script = "cd $TMPDIR; mkdir -p a/b c; touch a/b/f; chmod 555 a/b a; chmod 0 c";
  const run = ["run", "-p", "shell", "--no-audit", "--", "sh", "-c", script];
  const { status, stderr } = nono(run, { env, cwd: "/" });
  expect({ status, stderr, left: left() }).toEqual({ status: 0, stderr: "", left: [] });
});

test("trees deeper than any path, and names that are not UTF-8, are deleted", () => {
  const tree = path.join(directory, "tree");
  mkdirSync(tree);
  const script =
    "import os, sys\nos.chdir(sys.argv[1])\nopen(b'\\xff', 'w')\n" +
    "for i in range(600):\n  os.mkdir('d' * 9); os.chdir('d' * 9)\n";
  expect(spawnSync("python3", ["-c", script, tree]).status).toBe(0);
  deleteTree(tree);
  expect(existsSync(tree)).toBe(false);
});

test("what a killed owner has left is deleted by the next one", async () => {
  expect(existsSync(await killed())).toBe(true);
  const { status, stderr } = runAgain();
  expect({ status, stderr, left: left() }).toEqual({ status: 0, stderr: "", left: [] });
});

test("that of a live owner, of another machine, or not to be told apart is left alone", () => {
  const own = path.join(directory, `${prefixOf("nono-scratch")}abcdef`);
  const elsewhere = path.join(directory, "nono-scratch-4194305-0123456789ab-abcdef");
  const unknown = path.join(directory, "nono-scratch-abcdef");
  for (const name of [own, elsewhere, unknown]) mkdirSync(name);
  runAgain();
  expect([own, elsewhere, unknown].filter((name) => existsSync(name))).toHaveLength(3);
});

test("no link is followed, whether it is the directory itself or in it", async () => {
  const stale = await killed();
  const precious = path.join(directory, "precious");
  mkdirSync(precious);
  writeFileSync(path.join(precious, "file"), "");
  symlinkSync(precious, path.join(stale, "link"));
  const moved = path.join(directory, "moved");
  renameSync(stale, moved);
  symlinkSync(precious, stale);
  runAgain();
  expect(existsSync(path.join(precious, "file"))).toBe(true);
  rmSync(stale);
  renameSync(moved, stale);
  runAgain();
  expect(left()).toEqual([]);
  expect(existsSync(path.join(precious, "file"))).toBe(true);
});

test("what races with the deletion is deleted itself at most", async () => {
  const precious = path.join(directory, "precious");
  mkdirSync(precious);
  for (let index = 0; index < 50; index += 1) writeFileSync(path.join(precious, `${index}`), "");
  const tree = path.join(directory, "tree");
  // A directory that becomes a link to what is precious, and back.
  const script =
    "import os, sys\ntree, precious = sys.argv[1:]\nprint(flush=True)\nwhile True:\n" +
    "  try: os.mkdir(tree + '/d'); open(tree + '/d/1', 'w'); os.rename(tree + '/d', tree + '/x')\n" +
    "  except OSError: pass\n" +
    "  try: os.symlink(precious, tree + '/l'); os.rename(tree + '/l', tree + '/d')\n" +
    "  except OSError: pass\n";
  mkdirSync(tree);
  const racer = spawn("python3", ["-c", script, tree, precious]);
  await once(racer.stdout, "data");
  try {
    for (let round = 0; round < 200; round += 1) {
      deleteTree(tree);
      mkdirSync(tree, { recursive: true });
    }
  } finally {
    racer.kill("SIGKILL");
  }
  expect(readdirSync(precious)).toHaveLength(50);
});

test.runIf(process.getuid?.() === 0)("another user's is not touched, even by root", () => {
  const gone = spawnSync("true").pid;
  const name = prefixOf("nono-scratch").replace(`${process.pid}`, `${gone}`);
  const other = path.join(directory, `${name}abcdef`);
  mkdirSync(other);
  chmodSync(directory, 0o755);
  expect(spawnSync("chown", ["65534", other]).status).toBe(0);
  runAgain();
  expect(existsSync(other)).toBe(true);
});
