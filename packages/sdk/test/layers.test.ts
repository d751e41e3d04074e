// The layers together: what commands do is on record, and can be undone.
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { decodeEntry, LogReader, verifyLog } from "@nono/audit";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Sandbox } from "../src/index.ts";

let directory: string;
let workspace: string;
let audit: { dir: string };

beforeEach(() => {
  // Not below /tmp's own directory of the sandbox, and not below each other.
  directory = mkdtempSync(path.join(tmpdir(), "nono-layers-"));
  workspace = path.join(directory, "workspace");
  audit = { dir: path.join(directory, "audit") };
  mkdirSync(path.join(workspace, "src"), { recursive: true });
  writeFileSync(path.join(workspace, "src", "kept.txt"), "before\n");
  writeFileSync(path.join(workspace, "other.txt"), "other\n");
});

afterEach(() => rmSync(directory, { recursive: true, force: true }));

function sandbox(): Sandbox {
  return new Sandbox({ audit }).allowWrite(workspace).allowExec(["/bin/sh", "/bin/rm", "/bin/mv"]);
}

async function changed(of: { changes(): AsyncIterable<{ path: unknown; kind: string }> }) {
  const list: string[] = [];
  for await (const { kind, path } of of.changes()) list.push(`${kind} ${String(path)}`);
  return list;
}

test("what a command did comes back, and the next command starts from there", async () => {
  await using box = sandbox().enableRollback({ store: path.join(directory, "store") });
  const result = await box.run([
    "/bin/sh",
    "-c",
    "rm -r src; echo new > new.txt; mv other.txt moved.txt",
  ]);
  expect(result.exitCode).toBe(0);
  expect(await changed(result)).not.toEqual([]);
  await box.rollback();
  expect(readFileSync(path.join(workspace, "src", "kept.txt"), "utf8")).toBe("before\n");
  expect(readFileSync(path.join(workspace, "other.txt"), "utf8")).toBe("other\n");

  const again = await box.run([
    "/bin/sh",
    "-c",
    "cat 2>/dev/null src/kept.txt; read x < src/kept.txt; echo $x; echo y > later.txt",
  ]);
  expect(again.stdout).toBe("before\n");
  await box.commit();
  await box.rollback();
  expect(readFileSync(path.join(workspace, "later.txt"), "utf8")).toBe("y\n");
  await box.close();
  expect(readdirSync(path.join(directory, "store"))).toEqual([]);
});

test("every command is on record, and the record holds", async () => {
  const box = sandbox().enableRollback({ store: path.join(directory, "store") });
  const first = await box.run(["/bin/sh", "-c", "echo a > a.txt"]);
  const second = await box.run(["/bin/sh", "-c", "exit 3"]);
  await expect(box.run(["/bin/ls"])).rejects.toThrow("not allowed to be executed");
  await box.rollback();
  await box.close();

  expect(second.audit?.dir).toBe(first.audit?.dir);
  expect(second.audit?.head.size).toBeGreaterThan(first.audit?.head.size ?? Infinity);
  const dir = first.audit?.dir ?? "";
  const report = await verifyLog(dir, {});
  expect(report).toMatchObject({ problems: [] });

  const reader = new LogReader(dir, report.size);
  const seen = Array.from({ length: report.size }, (_, seq) => decodeEntry(reader.entry(seq), seq));
  const lines = seen.map(({ type, phase, decision }) => `${type} ${phase} ${decision}`);
  expect(lines).toEqual(
    expect.arrayContaining([
      "snapshot.create intent allow",
      "process.exec intent allow",
      "process.exit event allow",
      "process.exec result deny",
      "snapshot.restore result allow",
      "log.close event allow",
    ]),
  );
});

test("a record or store within the commands' reach is refused", async () => {
  await using reachable = new Sandbox({ audit }).allowWrite(directory).allowExec("/bin/sh");
  await expect(reachable.run(["/bin/sh", "-c", ":"])).rejects.toThrow("the record is kept in");
  const link = path.join(directory, "link");
  symlinkSync(".", link);
  await using linked = new Sandbox({ audit }).allowRead(link).allowExec("/bin/sh");
  await expect(linked.run(["/bin/sh", "-c", ":"])).rejects.toThrow("the record is kept in");
  await using store = sandbox().enableRollback({ store: path.join(workspace, "store") });
  await expect(store.run(["/bin/sh", "-c", ":"])).rejects.toThrow("rollback is kept in");
});

test("without enableRollback there is nothing to bring back, and it says so", async () => {
  await using box = sandbox();
  await box.run(["/bin/sh", "-c", ":"]);
  await expect(box.rollback()).rejects.toMatchObject({
    code: "ERR_NONO_INVALID_OPTION",
    remedy: "Call enableRollback(), and run a command.",
  });
});

test("checkpoint() adds a state to go back to, before the first one", async () => {
  const file = path.join(workspace, "src", "kept.txt");
  const read = (): string => readFileSync(file, "utf8");
  await using states = new Sandbox({ audit: false })
    .allowWrite(workspace)
    .allowExec("sh")
    .enableRollback({ store: path.join(directory, "states") });
  const write = (text: string): Promise<unknown> =>
    states.run(["sh", "-c", `echo ${text} > src/kept.txt`], { cwd: workspace });
  await write("first");
  await states.checkpoint();
  await write("second");
  await states.rollback();
  expect(read()).toBe("first\n");
  await write("third");
  await states.rollback();
  expect(read()).toBe("before\n");

  await write("fourth");
  await states.checkpoint();
  await write("fifth");
  await states.commit();
  await states.rollback();
  expect(read()).toBe("fifth\n");
});
