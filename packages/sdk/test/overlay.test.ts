// Undo through an overlay: what commands change is in the directories only when it is to be.
import { execFileSync, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { listCheckpoints, openCheckpoint } from "@nono/rollback";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Sandbox, type SandboxSettings, support } from "../src/index.ts";

let directory: string;
let work: string;
let store: string;

beforeEach(() => {
  // A disk: tmpfs, which /tmp may be, takes no user.* attributes on some kernels.
  directory = realpathSync(mkdtempSync("/var/tmp/nono-overlay-"));
  [work, store] = [path.join(directory, "work"), path.join(directory, "store")];
  mkdirSync(path.join(work, "src", "deep"), { recursive: true });
  writeFileSync(path.join(work, "src", "kept.txt"), "before\n");
  writeFileSync(path.join(work, "src", "deep", "file"), "deep\n");
  writeFileSync(path.join(work, "other.txt"), "other\n");
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

const isPossible = support().tiers.some((tier) => tier.name === "namespaces" && tier.available);

const programs = ["sh", "mv", "rm", "cat", "mkdir", "git", "ls", "sleep"];

function make(
  rollback: Parameters<Sandbox["enableRollback"]>[0],
  settings: SandboxSettings = {},
): Sandbox {
  return new Sandbox({ audit: false, ...settings })
    .allowWrite(work)
    .allowExec(programs)
    .enableRollback({ store, ...rollback });
}

async function sh(sandbox: Sandbox, script: string): Promise<string> {
  const { exitCode, stdout, stderr } = await sandbox.run(["sh", "-c", script], { cwd: work });
  expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
  return stdout;
}

async function changed(of: Sandbox): Promise<string[]> {
  const list: string[] = [];
  for await (const { kind, path: name, from } of of.changes()) {
    list.push([kind, name, ...(from === undefined ? [] : [from])].join(" "));
  }
  return list;
}

const read = (name: string): string => readFileSync(path.join(work, name), "utf8");

describe.runIf(isPossible)("strategy overlay", () => {
  test("the directory is untouched until close(), which brings the changes in", async () => {
    const sandbox = make({ strategy: "overlay" });
    await sh(sandbox, "echo after > src/kept.txt; rm other.txt; echo new > new.txt");
    expect(await sh(sandbox, "cat src/kept.txt new.txt")).toBe("after\nnew\n");
    expect(readdirSync(work)).toEqual(["other.txt", "src"]);
    expect(read("src/kept.txt")).toBe("before\n");
    expect(await changed(sandbox)).toEqual([
      "added new.txt",
      "deleted other.txt",
      "modified src/kept.txt",
    ]);
    await sandbox.close();
    expect(read("src/kept.txt")).toBe("after\n");
    expect(readdirSync(work)).toEqual(["new.txt", "src"]);
    expect(await listCheckpoints({ store })).toEqual([]);
  });

  test("rollback() drops them, and the next command starts from the directory", async () => {
    await using sandbox = make({ strategy: "overlay" });
    await sh(sandbox, "echo after > src/kept.txt; rm -r src/deep; echo new > new.txt");
    await sandbox.rollback({ paths: ["new.txt"] });
    expect(await sh(sandbox, "ls; cat src/kept.txt")).toBe("other.txt\nsrc\nafter\n");
    await sandbox.rollback();
    expect(await sh(sandbox, "ls src; cat src/kept.txt")).toBe("deep\nkept.txt\nbefore\n");
    expect(read("src/kept.txt")).toBe("before\n");
  });

  test("commit() brings in everything, or single paths, and the rest can be rolled back", async () => {
    await using sandbox = make({ strategy: "overlay" });
    await sh(sandbox, "echo 1 > one; echo 2 > two; rm other.txt");
    await sandbox.commit({ paths: ["one"] });
    expect(readdirSync(work)).toEqual(["one", "other.txt", "src"]);
    expect(await sh(sandbox, "cat one two")).toBe("1\n2\n");
    await sandbox.rollback();
    expect(await sh(sandbox, "ls; echo 3 > three")).toBe("one\nother.txt\nsrc\n");
    await sandbox.commit();
    expect(read("three")).toBe("3\n");
    await sh(sandbox, "rm three");
    await sandbox.rollback();
    expect(read("three")).toBe("3\n");
    await sandbox.close();
    expect(await listCheckpoints({ store })).toEqual([]);
  });

  test("states kept between commands are gone back to one after the other", async () => {
    await using sandbox = make({ strategy: "overlay" });
    const file = "src/kept.txt";
    await sh(sandbox, `echo first > ${file}; mkdir made`);
    await sandbox.checkpoint();
    expect(read(file)).toBe("first\n");
    await sh(sandbox, `echo second > ${file}; mv src moved; rm -r made`);
    expect(await changed(sandbox)).toEqual(
      // What the supervisor has moved consists of other inodes.
      support().privilegedOverlay
        ? ["deleted made", "renamed moved src", "modified moved/kept.txt"]
        : [
            "deleted made",
            "added moved",
            "added moved/deep",
            "added moved/deep/file",
            "added moved/kept.txt",
            "deleted src",
            "deleted src/deep",
            "deleted src/deep/file",
            "deleted src/kept.txt",
          ],
    );
    await expect(sandbox.commit({ paths: ["made"] })).rejects.toMatchObject({
      code: "ERR_NONO_CHECKPOINT_NEEDED",
    });
    await sandbox.rollback();
    expect(await sh(sandbox, `cat ${file}; ls`)).toBe("first\nmade\nother.txt\nsrc\n");
    expect(await changed(sandbox)).toEqual(["added made", `modified ${file}`]);
    await sh(sandbox, `echo third > ${file}`);
    await sandbox.rollback();
    expect(await sh(sandbox, `cat ${file}; ls`)).toBe("before\nother.txt\nsrc\n");
    expect(read(file)).toBe("before\n");

    await sh(sandbox, `echo fourth > ${file}`);
    await sandbox.checkpoint();
    await sh(sandbox, `echo fifth > ${file}`);
    await sandbox.commit();
    await sandbox.rollback();
    expect(read(file)).toBe("fifth\n");
  });

  test("directories are renamed by mv, git and Node", async () => {
    execFileSync("git", ["init", "-q", work]);
    const git = (...args: string[]): string =>
      execFileSync("git", ["-C", work, "-c", "user.name=n", "-c", "user.email=e@e", ...args], {
        encoding: "utf8",
      });
    git("add", "-A");
    git("commit", "-qm", "start");
    const sandbox = make({ strategy: "overlay" }).allowExec(process.execPath);
    await sh(sandbox, "GIT_CONFIG_GLOBAL=/dev/null git mv src lib");
    const rename = `require("node:fs").renameSync("lib/deep", "deep")`;
    const node = await sandbox.run([process.execPath, "-e", rename], { cwd: work });
    expect(node.stderr).toBe("");
    await sh(sandbox, "mv deep aside && mv aside lib/inner");
    expect(existsSync(path.join(work, "src"))).toBe(true);
    await sandbox.close();
    expect(read("lib/inner/file")).toBe("deep\n");
    expect(existsSync(path.join(work, "src"))).toBe(false);
    expect(git("status", "--porcelain")).toContain("R  src/kept.txt -> lib/kept.txt");
  });

  test("what is kept at close() is applied, and leads back later", async () => {
    const sandbox = make({ strategy: "overlay", keep: true });
    await sh(sandbox, "echo after > src/kept.txt; mv src/deep out");
    await sandbox.close();
    expect(read("out/file")).toBe("deep\n");
    const [left] = await listCheckpoints({ store });
    expect(left).toMatchObject({ strategy: "overlay", state: "applied" });
    await using checkpoint = await openCheckpoint(left?.id ?? "", { store });
    await checkpoint.rollback();
    expect(read("src/kept.txt") + read("src/deep/file")).toBe("before\ndeep\n");
  });

  test("what a process leaves that dies is committed or rolled back later", async () => {
    const program = `
      import { Sandbox } from ${JSON.stringify(path.resolve(import.meta.dirname, "../src/index.ts"))};
      const sandbox = new Sandbox({ audit: false }).allowWrite(${JSON.stringify(work)})
        .allowExec("sh").enableRollback({ strategy: "overlay", store: ${JSON.stringify(store)} });
      await sandbox.run(["sh", "-c", "echo after > src/kept.txt"], { cwd: ${JSON.stringify(work)} });
      process.kill(process.pid, "SIGKILL");`;
    spawnSync(process.execPath, ["--input-type=module", "-e", program]);
    expect(read("src/kept.txt")).toBe("before\n");
    const [left] = await listCheckpoints({ store });
    const checkpoint = await openCheckpoint(left?.id ?? "", { store });
    await checkpoint.commit();
    await checkpoint.dispose();
    expect(read("src/kept.txt")).toBe("after\n");
  });

  test("a violation drops what the command changed", async () => {
    await using sandbox = make({ strategy: "overlay" }, { onViolation: "rollback" });
    writeFileSync(path.join(directory, "secret"), "");
    const script = "echo bad > src/kept.txt; cat ../secret";
    const result = await sandbox.run(["sh", "-c", script], { cwd: work });
    expect(result.rolledBack).toBe(true);
    expect(await sh(sandbox, "cat src/kept.txt")).toBe("before\n");
  });

  test("nothing is brought in under commands that run", async () => {
    await using sandbox = make({ strategy: "overlay" });
    const child = await sandbox.spawn(["sleep", "60"]);
    const busy = { code: "ERR_NONO_CHECKPOINT_BUSY" };
    await expect(sandbox.checkpoint()).rejects.toMatchObject(busy);
    await expect(sandbox.commit()).rejects.toMatchObject(busy);
    child.kill("SIGKILL");
    await child.exited;
    await sandbox.checkpoint();
  });

  test("auto takes it when changes may be deferred", async () => {
    await using sandbox = make({ deferred: true });
    await sh(sandbox, "echo after > src/kept.txt");
    expect(read("src/kept.txt")).toBe("before\n");
    expect(await listCheckpoints({ store })).toMatchObject([{ strategy: "overlay" }]);
  });
});

test.runIf(isPossible)("layers that commands could reach are not taken", async () => {
  // Not on the file system of the directory, so layers would be beside it.
  const elsewhere = mkdtempSync("/dev/shm/nono-overlay-");
  try {
    await using sandbox = make({ deferred: true, store: elsewhere }).allowRead(directory);
    await sh(sandbox, "mv src moved");
    const [made] = await listCheckpoints({ store: elsewhere });
    expect(made?.strategy).not.toBe("overlay");
    await sandbox.rollback();
    expect(read("src/kept.txt")).toBe("before\n");
  } finally {
    rmSync(elsewhere, { recursive: true });
  }
});

test("without deferred, changes are in the directory at once", async () => {
  await using sandbox = make({});
  await sh(sandbox, "echo after > src/kept.txt");
  expect(read("src/kept.txt")).toBe("after\n");
});

test("the tier flat mounts nothing", async () => {
  await using sandbox = make({ strategy: "overlay" }, { tier: "flat" });
  await expect(sandbox.run(["sh", "-c", ":"])).rejects.toMatchObject({
    code: "ERR_NONO_STRATEGY_UNSUPPORTED",
    message: expect.stringContaining("tier namespaces"),
  });
});
