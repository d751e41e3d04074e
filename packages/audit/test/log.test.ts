import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { checkProof, parseProof, verifyConsistency, verifyLog } from "../src/index.ts";
import { layout } from "../src/layout.ts";
import {
  closedLog,
  connectEvent,
  openTestLog,
  origin,
  signer,
  temporaryDirectory,
} from "./helpers/logs.ts";

const trusted = { keys: [signer.vkey] };

describe("audit log", () => {
  test.each([2, 3, 255, 256, 257, 513])(
    "a log of %i entries verifies, and says that nothing is anchored",
    async (count) => {
      const report = await verifyLog(await closedLog(count), trusted);
      expect(report).toMatchObject({
        verdict: "SIGNED",
        ok: true,
        size: count,
        closed: true,
        unsealed: 0,
        problems: [],
        tail: { entries: count },
      });
    },
  );

  test("65,537 entries: two levels of tiles", async () => {
    expect(await verifyLog(await closedLog(65_537), trusted)).toMatchObject({
      verdict: "SIGNED",
      size: 65_537,
    });
  });

  test("receipts count up without gaps, results refer to intents, entries come back as recorded", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    const intents = await Promise.all(
      Array.from({ length: 300 }, (_, n) => log.record(connectEvent(n))),
    );
    expect(intents.map(({ seq }) => seq)).toEqual(Array.from({ length: 300 }, (_, n) => n + 1));
    const ref = intents[17]?.seq as number;
    const result = await log.record({
      ...connectEvent(17),
      phase: "result",
      ref,
      outcome: { errno: "ECONNREFUSED", durationUs: 90 },
    });
    await log.checkpoint();
    const entries = [];
    for await (const entry of log.entries({ from: result.seq })) entries.push(entry);
    expect(entries).toMatchObject([
      {
        seq: 301,
        ref: 18,
        type: "net.connect",
        phase: "result",
        outcome: { errno: "ECONNREFUSED" },
      },
    ]);
    await log.close("done");
    await expect(log.record(connectEvent(1))).rejects.toMatchObject({
      code: "ERR_NONO_AUDIT_CLOSED",
    });
    await expect(log.close("again")).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_CLOSED" });
  });

  test("proofs of every kind of position verify by themselves; consistency between any two heads", async () => {
    const log = await openTestLog(path.join(temporaryDirectory(), "log"));
    const heads = [await log.checkpoint()];
    for (const size of [200, 257, 600]) {
      while (log.size < size) log.recordAndForget(connectEvent(log.size));
      heads.push(await log.checkpoint());
    }
    for (const seq of [0, 1, 199, 200, 255, 256, 599]) {
      const proof = await log.prove(seq);
      expect(checkProof(parseProof(proof)).head.size).toBe(600);
      expect(() => checkProof({ ...parseProof(proof), index: seq + 1 })).toThrow();
    }
    for (const from of heads) {
      for (const to of heads.filter(({ size }) => size >= from.size)) {
        const proof = await log.consistency(from.size, to.size);
        verifyConsistency({
          oldSize: from.size,
          oldRoot: from.root,
          size: to.size,
          root: to.root,
          proof,
        });
      }
    }
    await expect(log.prove(600)).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_INPUT" });
    await log.close("done");
  });

  test("a proof that has not been asked for yet makes its own checkpoint", async () => {
    const log = await openTestLog(path.join(temporaryDirectory(), "log"));
    const { seq } = await log.record(connectEvent(1));
    const file = path.join(temporaryDirectory(), "x.tlog-proof");
    writeFileSync(file, await log.prove(seq));
    expect(await verifyLog(file, trusted)).toMatchObject({
      kind: "proof",
      verdict: "SIGNED",
      ok: true,
    });
    await log.close("done");
  });

  test("a continued log records what it found", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    await (await openTestLog(dir)).close("first");
    const log = await openTestLog(dir);
    await log.record(connectEvent(1));
    await log.close("second");
    const second = await verifyLog(dir, trusted);
    expect(second).toMatchObject({ verdict: "SIGNED", size: 5 });
    const reader = readFileSync(path.join(dir, "tile/entries/000.p/5")).toString();
    expect(reader).toContain('"object":{"cutBytes":0,"entries":0,"signed":2}');
  });

  test("a checkpoint follows by itself while events arrive, at once for credential use", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    await log.record({
      type: "credential.inject",
      phase: "intent",
      decision: "allow",
      object: { name: "T", host: "h" },
    });
    await expect
      .poll(() => readFileSync(path.join(dir, "checkpoint"), "utf8").split("\n")[1])
      .toBe("2");
    await log.close("done");
  });

  test("an idle log beats", async () => {
    const log = await openTestLog(path.join(temporaryDirectory(), "log"), {
      heartbeatInterval: 20,
    });
    await expect.poll(() => log.size).toBeGreaterThan(3);
    await log.close("done");
  });

  test("entries of the log's own types cannot be recorded from outside", async () => {
    const log = await openTestLog(path.join(temporaryDirectory(), "log"));
    const forged = {
      type: "log.close",
      phase: "event",
      decision: "allow",
      object: { reason: "x" },
    } as never;
    await expect(log.record(forged)).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_INPUT" });
    expect(log.size).toBe(1);
    await log.close("done");
  });

  test("what is dropped under overload is counted in the log", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir, { redact: false });
    const big = {
      type: "tool.call",
      phase: "event",
      decision: "allow",
      object: { name: "n", arguments: "x".repeat(4000) },
    } as const;
    for (let n = 0; n < 20_000; n += 1) log.recordAndForget(big);
    await expect(log.record(big)).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_OVERLOAD" });
    expect(log.lost).toBeGreaterThan(1000);
    const { lost } = log;
    await log.flush();
    await log.record(connectEvent(1));
    await log.close("done");
    expect(await verifyLog(dir, trusted)).toMatchObject({ verdict: "SIGNED", lost });
  });
});

describe("one writer, one history", () => {
  test("a second writer is refused while the first lives, in this process and in another", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    await expect(openTestLog(dir)).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_LOCKED" });
    const index = path.resolve(import.meta.dirname, "../src/index.ts");
    const script = `import { openAuditLog, ed25519Signer } from ${JSON.stringify(index)};
      await openAuditLog({ dir: ${JSON.stringify(dir)}, origin: ${JSON.stringify(origin)}, signer: ed25519Signer(${JSON.stringify(origin)}) })
        .catch((error) => console.log(error.code));`;
    const other = spawnSync(process.execPath, ["--input-type=module", "-e", script], {
      encoding: "utf8",
    });
    expect(other.stdout.trim()).toBe("ERR_NONO_AUDIT_LOCKED");
    await log.close("done");
    await (await openTestLog(dir)).close("again");
  });

  test("a copy of a directory can be verified but not continued", async () => {
    const dir = await closedLog(10);
    const copy = path.join(temporaryDirectory(), "copy");
    cpSync(dir, copy, { recursive: true });
    expect(await verifyLog(copy, trusted)).toMatchObject({ verdict: "SIGNED" });
    await expect(openTestLog(copy)).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_FORK" });
  });

  test("a backup restored in the place of the original is refused, also where its inode is given out again", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    await (await openTestLog(dir)).close("first");
    const backup = path.join(temporaryDirectory(), "backup");
    cpSync(dir, backup, { recursive: true });
    const log = await openTestLog(dir);
    await log.record(connectEvent(1));
    await log.close("second");
    let reused = 0;
    for (let n = 0; n < 20; n += 1) {
      const { ino } = statSync(dir);
      rmSync(dir, { recursive: true });
      cpSync(backup, dir, { recursive: true });
      if (statSync(dir).ino === ino) reused += 1;
      await expect(openTestLog(dir)).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_FORK" });
    }
    if (reused === 0)
      console.log("SKIPPED: audit inode reuse: this file system gave out no inode twice");
    // In place, as tar and rsync do it: the directory is the same, its files are not.
    const second = path.join(temporaryDirectory(), "log");
    await (await openTestLog(second)).close("first");
    const archive = path.join(temporaryDirectory(), "archive.tar");
    spawnSync("tar", ["-cf", archive, "-C", second, "."]);
    await (await openTestLog(second)).close("second");
    spawnSync("tar", ["-xf", archive, "-C", second]);
    await expect(openTestLog(second)).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_FORK" });
  });

  test("a backup restored into the same directory is refused, whichever parts were restored", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    await (await openTestLog(dir)).close("first");
    const backup = path.join(temporaryDirectory(), "backup");
    cpSync(dir, backup, { recursive: true });
    const log = await openTestLog(dir);
    for (let n = 0; n < 300; n += 1) log.recordAndForget(connectEvent(n));
    await log.close("second");
    cpSync(path.join(backup, layout.head), path.join(dir, layout.head));
    await expect(openTestLog(dir)).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_FORK" });
    expect(await verifyLog(dir, trusted)).toMatchObject({ verdict: "TAMPERED" });
  });

  test("a directory without its last head, or with another's, is refused", async () => {
    const dir = await closedLog(10);
    const head = path.join(dir, layout.head);
    renameSync(head, `${head}.away`);
    await expect(openTestLog(dir)).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_CORRUPT" });
    renameSync(`${head}.away`, head);
    rmSync(path.join(dir, "tile/entries"), { recursive: true });
    await expect(openTestLog(dir)).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_CORRUPT" });
  });

  test("a place that cannot be written is refused by name", async () => {
    const file = path.join(temporaryDirectory(), "file");
    writeFileSync(file, "");
    await expect(openTestLog(path.join(file, "log"))).rejects.toMatchObject({
      code: "ERR_NONO_AUDIT_WRITE",
      message: expect.stringContaining("ENOTDIR"),
    });
  });

  test("an impossible origin is refused before anything is made", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    await expect(openTestLog(dir, { origin: "a b" })).rejects.toMatchObject({
      code: "ERR_NONO_AUDIT_INPUT",
    });
    expect(existsSync(dir)).toBe(false);
  });

  test("partial tiles go once the full tile is there", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    await log.record(connectEvent(1));
    await log.checkpoint();
    expect(existsSync(path.join(dir, "tile/entries/000.p"))).toBe(true);
    for (let n = 0; n < 300; n += 1) log.recordAndForget(connectEvent(n));
    await log.close("done");
    expect(readdirSync(path.join(dir, "tile/entries")).toSorted()).toEqual(["000", "001.p"]);
  });
});
