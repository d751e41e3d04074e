import { existsSync, readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { createSandbox, type Limits, UnsupportedPolicyError } from "../src/index.ts";
import { sandboxIn, tiers, tools, Workspace } from "./workspace.ts";

test.for(tiers)(
  "a command whose time is over is ended, and the exit says so (%s)",
  async (tier) => {
    using workspace = new Workspace();
    await using sandbox = await sandboxIn(workspace, { limits: { wallSeconds: 1 } }, { tier });
    const over = sandbox.run(["sh", "-c", "echo begun; sleep 60"]);
    // Kept inside: the owner's event loop has no part in it.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500);
    expect(await over).toMatchObject({
      exitCode: null,
      signal: "SIGTERM",
      exceeded: "wallSeconds",
      stdout: "begun\n",
    });
    expect((await sandbox.run(["true"])).exceeded).toBeNull();
  },
);

test.for(tiers)("each limit that was asked for is in the guarantees (%s)", async (tier) => {
  using workspace = new Workspace();
  const limits: Limits = {
    memory: 256 * 1024 * 1024,
    processes: 4096, // of the flat tier's user, whose other processes count
    openFiles: 64,
    fileSize: 1024,
    cpuSeconds: 10,
    wallSeconds: 10,
  };
  const options = { tier, allowDegraded: ["limit-processes"] } as const;
  await using sandbox = await sandboxIn(workspace, { limits }, options);
  const kept = sandbox.guarantees.filter(({ name }) => name.startsWith("limit-"));
  expect(kept.map(({ name }) => name)).toEqual([
    "limit-memory",
    "limit-processes",
    "limit-open-files",
    "limit-file-size",
    "limit-cpu-seconds",
    "limit-wall-seconds",
  ]);
  for (const { status, reason, mechanism } of kept) {
    expect(mechanism).not.toBe("");
    expect(reason === undefined).toBe(status === "enforced");
  }
  const { exceeded, usage } = await sandbox.run(["sh", "-c", "exec head -c 4096 /dev/zero > big"]);
  expect(exceeded).toBe("fileSize");
  const isWhole = kept[0]!.status === "enforced";
  expect(usage.peakMemoryBytes !== undefined).toBe(isWhole);
  if (isWhole) expect(usage.peakMemoryBytes).toBeGreaterThan(4096);
});

test("what can't be limited here is refused by name", async () => {
  using workspace = new Workspace();
  for (const tier of tiers) {
    try {
      await using sandbox = await sandboxIn(workspace, { limits: { cpus: 0.5 } }, { tier });
      expect(sandbox.guarantees).toContainEqual(
        expect.objectContaining({ name: "limit-cpus", status: "enforced" }),
      );
    } catch (error) {
      expect(error).toBeInstanceOf(UnsupportedPolicyError);
      expect((error as UnsupportedPolicyError).guarantees).toEqual(["limit-cpus"]);
    }
  }
});

test.for<[string, object]>([
  ["no memory", { memory: 0 }],
  ["half a process", { processes: 0.5 }],
  ["no processors", { cpus: 0 }],
  ["processors without end", { cpus: Infinity }],
  ["a month", { wallSeconds: 2_592_000 }],
  ["a name that there is not", { ram: 1 }],
])("limits that make no sense are refused: %s", async ([, limits]) => {
  await expect(createSandbox({ limits })).rejects.toMatchObject({
    code: "ERR_NONO_INVALID_CAPABILITIES",
  });
});

test.for(tiers)("without a private /tmp, the machine's is there as granted (%s)", async (tier) => {
  using workspace = new Workspace();
  const file = workspace.at("file");
  await using sandbox = await createSandbox(
    { write: [workspace.path], exec: tools, privateTmp: false },
    { tier },
  );
  expect((await sandbox.run(["sh", "-c", `echo in > ${file}`])).exitCode).toBe(0);
  expect(readFileSync(file, "utf8")).toBe("in\n");
  const stray = `/tmp/nono-stray-${process.pid}`;
  expect((await sandbox.run(["sh", "-c", `echo out > ${stray}`])).exitCode).not.toBe(0);
  expect(existsSync(stray)).toBe(false);
});
