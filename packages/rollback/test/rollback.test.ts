import { execFileSync, spawnSync } from "node:child_process";
import { mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import process from "node:process";
import { expect, onTestFinished, test, vi } from "vitest";
import { runRollbackCommand } from "../src/cli.ts";
import {
  type Change,
  checkpoint,
  listCheckpoints,
  openCheckpoint,
  recover,
  type SnapshotEvent,
} from "../src/index.ts";
import { capture, scratch } from "./support.ts";

async function listed(changes: AsyncIterable<Change>): Promise<Change[]> {
  const list: Change[] = [];
  for await (const change of changes) list.push(change);
  return list;
}

test("what an agent did is listed, compared and undone", async () => {
  const { project, store } = await scratch();
  await using before = await checkpoint(project, { store });
  await writeFile(path.join(project, "src/a.txt"), "one\n2\nthree\n");
  await writeFile(path.join(project, "blob"), Buffer.from([0, 1, 2]));
  await rm(path.join(project, "notes"));
  await rename(path.join(project, "src"), path.join(project, "lib"));
  const changes = await listed(before.changes());
  expect(changes.map(({ kind, path: name, from }) => [kind, name, from])).toEqual([
    ["added", "blob", undefined],
    ["renamed", "lib", "src"],
    ["modified", "lib/a.txt", undefined],
    ["deleted", "notes", undefined],
  ]);
  await expect(changes[0]?.diff()).resolves.toEqual({ kind: "binary" });
  await expect(changes[2]?.diff()).resolves.toEqual({
    kind: "text",
    text: "@@ -1,3 +1,3 @@\n one\n-two\n+2\n three\n",
  });
  expect(before.strategy.reason).not.toBe("");
  await expect(before.rollback()).resolves.toEqual({ holders: [] });
  await expect(readFile(path.join(project, "src/a.txt"), "utf8")).resolves.toBe(
    "one\ntwo\nthree\n",
  );
  await expect(readFile(path.join(project, "notes"), "utf8")).resolves.toBe("untracked");
  expect(before.state).toBe("rolled-back");
});

test.each([
  ["changed", 'writeFileSync("a.txt", "wrecked")'],
  ["deleted", 'rmSync("../../project", { recursive: true })'],
])("a process that works inside a directory that was %s still does afterwards", async (_, act) => {
  const { project, store } = await scratch();
  const script = `
    import { checkpoint } from ${JSON.stringify(path.resolve(import.meta.dirname, "../src/index.ts"))};
    import { readFileSync, rmSync, writeFileSync } from "node:fs";
    const before = await checkpoint("..", { store: ${JSON.stringify(store)} });
    ${act};
    const { holders } = await before.rollback();
    process.stdout.write(JSON.stringify([readFileSync("a.txt", "utf8").length, process.cwd().endsWith("/src"), holders[0].kind]));
    await before.dispose();`;
  const args = ["--input-type=module", "-e", script];
  const output = execFileSync(process.execPath, args, {
    cwd: path.join(project, "src"),
    encoding: "utf8",
  });
  expect(JSON.parse(output)).toEqual([14, true, "directory"]);
});

test("bad input is refused with a code and the path", async () => {
  const { project, store } = await scratch();
  await expect(checkpoint(path.join(project, "notes"), { store })).rejects.toMatchObject({
    name: "RollbackError",
    code: "ERR_NONO_NOT_A_DIRECTORY",
    path: path.join(project, "notes"),
  });
  await expect(checkpoint(project, { store, exclude: ["["] })).rejects.toMatchObject({
    code: "ERR_NONO_BAD_PATTERN",
  });
  await expect(openCheckpoint("../..", { store })).rejects.toMatchObject({
    code: "ERR_NONO_UNKNOWN_CHECKPOINT",
  });
  await expect(listCheckpoints({ store })).resolves.toEqual([]);
});

test("every operation is on record before it happens, and none happens without", async () => {
  const { project, store } = await scratch();
  const events: SnapshotEvent[] = [];
  let full = false;
  const sink = {
    async record(event: SnapshotEvent) {
      if (full) throw new Error("the log is full");
      return { seq: events.push(event) };
    },
  };
  const before = await checkpoint(project, { store, events: sink });
  await writeFile(path.join(project, "notes"), "changed");
  full = true;
  await expect(before.rollback()).rejects.toThrow("the log is full");
  await expect(readFile(path.join(project, "notes"), "utf8")).resolves.toBe("changed");
  full = false;
  await before.rollback({ paths: ["notes"] });
  await before.commit();
  await before.dispose();
  expect(events.map(({ type, phase, ref }) => [type, phase, ref])).toEqual([
    ["snapshot.create", "intent", undefined],
    ["snapshot.create", "result", 1],
    ["snapshot.restore", "intent", undefined],
    ["snapshot.restore", "result", 3],
    ["snapshot.commit", "intent", undefined],
    ["snapshot.commit", "result", 5],
  ]);
  expect(events[2]?.object.paths).toEqual(["notes"]);
});

test("a checkpoint of a process that was killed is found and rolled back", async () => {
  const { project, store } = await scratch();
  const script = `
    import { checkpoint } from ${JSON.stringify(path.resolve(import.meta.dirname, "../src/index.ts"))};
    await checkpoint(${JSON.stringify(project)}, { store: ${JSON.stringify(store)} });
    process.kill(process.pid, "SIGKILL");`;
  expect(() => execFileSync(process.execPath, ["--input-type=module", "-e", script])).toThrow(
    "SIGKILL",
  );
  await writeFile(path.join(project, "notes"), "changed");
  await expect(recover({ store })).resolves.toEqual({ finished: [], removed: [], busy: [] });
  const [found] = await listCheckpoints({ store });
  expect(found).toMatchObject({ state: "active", complete: true, dirs: [project] });
  const before = await openCheckpoint(found?.id ?? "", { store });
  await before.rollback();
  await before.dispose();
  await expect(readFile(path.join(project, "notes"), "utf8")).resolves.toBe("untracked");
});

test("the commands", async () => {
  const { project, store } = await scratch();
  const nono = async (...argv: string[]): Promise<[number, string]> => {
    let text = "";
    const out = { write: (chunk: string) => (text += chunk) };
    return [
      await runRollbackCommand([...argv, "--store", store], { stdout: out, stderr: out }),
      text,
    ];
  };
  expect((await nono("checkpoint", project))[0]).toBe(0);
  // From where no checkpoint is of, none is meant, however many there are.
  const elsewhere = await nono("rollback");
  expect(elsewhere[0]).toBe(1);
  expect(elsewhere[1]).toContain(`no open checkpoint covers ${process.cwd()}`);
  expect((await nono("rollback", path.join(project, "notes")))[0]).toBe(0);
  vi.spyOn(process, "cwd").mockReturnValue(project);
  onTestFinished(() => void vi.restoreAllMocks());
  await writeFile(path.join(project, "src/a.txt"), "one\n");
  await writeFile(path.join(project, "new\u001B[2J"), "");
  const [, tree] = await nono("diff");
  expect(tree).toBe(
    `${project}\n+ ├─ new\\u001b[2J\n  └─ src\n~    └─ a.txt (14 to 4 bytes)\n1 added, 1 modified\n`,
  );
  expect((await nono("diff", "src"))[1]).toBe(
    `${project}\n  └─ src\n~    └─ a.txt (14 to 4 bytes)\n1 modified\n`,
  );
  expect((await nono("diff", "-p"))[1]).toContain("-two\n-three");
  expect((await nono("commit", "src"))[0]).toBe(0);
  expect((await nono("rollback"))[1]).toBe(`rolled back ${project}\n`);
  await expect(readFile(path.join(project, "src/a.txt"), "utf8")).resolves.toBe("one\n");
  expect(await nono("checkpoints")).toEqual([0, "no checkpoints\n"]);
  const [status, message] = await nono("rollback");
  expect(status).toBe(1);
  expect(message).toContain("ERR_NONO_UNKNOWN_CHECKPOINT");
  expect((await nono("explode"))[0]).toBe(2);
  expect((await nono("diff", "--nonsense"))[0]).toBe(2);
});

test("a rename in JSON has both names", async () => {
  const { project, store } = await scratch();
  await using before = await checkpoint(project, { store });
  await rename(path.join(project, "notes"), path.join(project, "moved"));
  const io = capture();
  const argv = ["diff", "--json", "--checkpoint", before.id, "--store", store];
  expect(await runRollbackCommand(argv, io)).toBe(0);
  expect(JSON.parse(io.text())).toContainEqual({
    kind: "renamed",
    dir: project,
    path: "moved",
    from: "notes",
  });
});

test("a checkpoint of nothing is a wrong usage", async () => {
  const io = capture();
  expect(await runRollbackCommand(["checkpoint"], io)).toBe(2);
  expect(io.text()).toMatch(/^nono checkpoint: name the directory to keep.*\nusage: /u);
});

test.each([
  ["a flag that does not exist", ["diff", "--nonsense", "--json"], "'--nonsense'"],
  ["a value that is missing", ["rollback", "--json", "--checkpoint"], "--checkpoint"],
  ["no directory", ["checkpoint", "--json"], "name the directory to keep"],
])("a wrong usage in JSON: %s", async (_, argv, reason) => {
  const [io, told] = [capture(), capture()];
  expect(await runRollbackCommand(argv, { stdout: io.stdout, stderr: told.stderr })).toBe(2);
  expect(told.text()).toContain(`nono ${argv[0]}: `);
  expect(JSON.parse(io.text())).toEqual({
    error: {
      code: "ERR_NONO_INVALID_OPTION",
      message: expect.stringContaining(reason),
      remedy: `See nono ${argv[0]} --help.`,
    },
  });
});

test("what is behind the dashes is no flag", async () => {
  const [io, told] = [capture(), capture()];
  const argv = ["diff", "--nonsense", "--", "--json"];
  expect(await runRollbackCommand(argv, { stdout: io.stdout, stderr: told.stderr })).toBe(2);
  expect(io.text()).toBe("");
});

test("an answer of the operating system says what to do", async () => {
  const { project, store } = await scratch();
  await using before = await checkpoint(project, { store });
  await writeFile(path.join(project, "notes"), "changed");
  const changes = await listed(before.changes());
  await rm(path.join(project, "notes"));
  await expect(changes[0]?.diff()).rejects.toMatchObject({
    code: "ERR_NONO_ROLLBACK_IO",
    path: path.join(project, "notes"),
    message: expect.stringMatching(
      /^could not read .*\/notes: No such file or directory \(os error 2\): put what was there back/u,
    ),
  });
});

test("what an agent wrote does not steer the terminal", async () => {
  const { project, store } = await scratch();
  await using before = await checkpoint(project, { store });
  const argv = ["diff", "-p", "--checkpoint", before.id, "--store", store];
  await writeFile(path.join(project, "src/a.txt"), "\u001B]0;owned\u0007\u202Etxt\n");
  const [terminal, pipe] = [capture(true), capture(false)];
  await runRollbackCommand(argv, terminal);
  await runRollbackCommand(argv, pipe);
  expect(terminal.text()).toContain("+\\u001b]0;owned\\u0007\\u202etxt\n");
  expect(pipe.text()).toContain("+\u001B]0;owned\u0007\u202Etxt\n");
});

test("names that an agent chose are text, and JSON is one line", async () => {
  const { project, store } = await scratch();
  await using before = await checkpoint(project, { store });
  const name = "\u009B31m\u2028\u007F\u{E0041}\nnono diff: x";
  const unsafe = /[^\P{C}\n]|[\p{Zl}\p{Zp}]/u;
  await writeFile(path.join(project, name), "");
  const where = ["--checkpoint", before.id, "--store", store];
  for (const args of [
    ["diff"],
    ["diff", "--json"],
    ["rollback", `no/${name}`, "--json"],
    ["diff", `--${name}`],
  ]) {
    const io = capture();
    await runRollbackCommand([...args, ...where], io);
    expect(io.text()).not.toMatch(unsafe);
    expect(io.text()).not.toMatch(/^nono diff: x/mu);
    if (!args.includes("--json")) continue;
    const [line = "", ...more] = io.text().split("\n");
    expect(JSON.stringify(JSON.parse(line))).toContain("\u009B31m");
    expect(more.at(-1)).toBe("");
  }
});

test("a new directory with much in it is one line", async () => {
  const { project, store } = await scratch();
  await using before = await checkpoint(project, { store });
  await mkdir(path.join(project, "node_modules/inner"), { recursive: true });
  for (let n = 0; n < 30; n++) await writeFile(path.join(project, `node_modules/inner/${n}`), "");
  const io = capture();
  await runRollbackCommand(["diff", "--checkpoint", before.id, "--store", store], io);
  expect(io.text()).toBe(`${project}\n+ └─ node_modules/ (31 entries)\n32 added\n`);
});

test("a directory that was deleted comes back from within", async () => {
  const { project, store } = await scratch();
  await checkpoint(project, { store });
  const cli = path.resolve(import.meta.dirname, "../src/cli.ts");
  const script = `
    import { rmSync } from "node:fs";
    import { runRollbackCommand } from ${JSON.stringify(cli)};
    rmSync(process.argv[1], { recursive: true });
    process.exitCode = await runRollbackCommand(["rollback", "--store", process.argv[2]], process);`;
  const argv = ["--input-type=module", "-e", script, "--", project, store];
  execFileSync(process.execPath, argv, { cwd: project });
  await expect(readFile(path.join(project, "notes"), "utf8")).resolves.toBe("untracked");
});

test("a directory that is gone itself is said to be", async () => {
  const { project, store } = await scratch();
  await using before = await checkpoint(project, { store });
  await rm(project, { recursive: true });
  const argv = (...flags: string[]): string[] => ["diff", ...flags, "--store", store, project];
  const [tree, patch] = [capture(), capture()];
  expect(await runRollbackCommand(argv(), tree)).toBe(0);
  expect(tree.text()).toContain(`${project} (deleted)\n- ├─ notes\n`);
  expect(await runRollbackCommand(argv("-p"), patch)).toBe(0);
  expect(patch.text()).toMatch(/^# deleted directory \.$/mu);
  await before.rollback();
});

test("names are meant from where one is, and the checkpoint of that place", async () => {
  const { project, store } = await scratch();
  const other = await scratch();
  const made = await checkpoint(project, { store });
  await checkpoint(other.project, { store });
  await writeFile(path.join(project, "src/a.txt"), "changed");
  await writeFile(path.join(project, "notes"), "changed");
  const cli = path.resolve(import.meta.dirname, "../src/cli.ts");
  const script = `
    import { runRollbackCommand } from ${JSON.stringify(cli)};
    process.exitCode = await runRollbackCommand(process.argv.slice(1), process);`;
  const nono = (...args: string[]): string =>
    execFileSync(
      process.execPath,
      ["--input-type=module", "-e", script, "--", ...args, "--store", store],
      { cwd, encoding: "utf8" },
    );
  // Above it as well: nothing else can be meant by its name.
  let cwd = path.dirname(project);
  expect(nono("diff", "project/notes")).toContain("1 modified");
  cwd = path.join(project, "src");
  expect(nono("diff", "a.txt")).toContain("1 modified");
  expect(nono("rollback", "a.txt", "../notes")).toBe(
    `rolled back ${project}/src/a.txt ${project}/notes\n`,
  );
  expect(await listed(made.changes())).toEqual([]);
});

test("an overlay's mounts are what a sandbox needs, and its changes arrive when applied", async ({
  skip,
}) => {
  if (spawnSync("unshare", ["--user", "--map-root-user", "--mount", "true"]).status !== 0) {
    console.log("SKIPPED: an overlay's mounts: user namespaces are not available");
    skip();
  }
  const { project, store } = await scratch();
  const before = await checkpoint(project, { store, strategy: "overlay", mounter: "unprivileged" });
  const [mount] = before.mounts;
  expect(mount).toMatchObject({ type: "overlay", target: project, lower: project });
  const { lower, upper, work, target } = mount!;
  const command = `mount -t overlay x -o "lowerdir=${lower},upperdir=${upper},workdir=${work},userxattr" ${target} && echo in > ${target}/notes`;
  execFileSync("unshare", ["--user", "--map-root-user", "--mount", "sh", "-c", command]);
  await expect(readFile(path.join(project, "notes"), "utf8")).resolves.toBe("untracked");
  expect((await listed(before.changes())).map(({ path: name }) => name)).toEqual(["notes"]);
  await before.apply();
  await expect(readFile(path.join(project, "notes"), "utf8")).resolves.toBe("in\n");
  await before.rollback();
  await expect(readFile(path.join(project, "notes"), "utf8")).resolves.toBe("untracked");
  await before.dispose();
});

test("the example runs", () => {
  const main = path.resolve(import.meta.dirname, "../../../examples/rollback-agent/main.ts");
  const output = execFileSync(process.execPath, [main], { encoding: "utf8" });
  expect(output).toContain("400 files are back, and kept is: # The one good idea");
});
