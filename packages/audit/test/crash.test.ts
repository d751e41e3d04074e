import { spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  cpSync,
  readFileSync,
  readdirSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { randomBytes } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, test } from "vitest";
import { decodeEntry, LogReader, verifyLog } from "../src/index.ts";
import { headPath, layout } from "../src/layout.ts";
import { checkDisclosures } from "../src/verify-files.ts";
import type { Problem } from "../src/verify-tree.ts";
import {
  connectEvent,
  openTestLog,
  origin,
  seed,
  signer,
  temporaryDirectory,
} from "./helpers/logs.ts";

/** Runs the writer for as long as `meanwhile` takes, then kills it; returns what it had been promised. */
async function killedWriter(
  dir: string,
  meanwhile: (acknowledged: string) => Promise<void>,
  pause = 0,
): Promise<Map<number, number>> {
  const script = path.join(import.meta.dirname, "helpers/crash-writer.ts");
  const acknowledged = path.join(temporaryDirectory(), "acknowledged");
  const args = [script, dir, origin, seed.toString("hex"), acknowledged, String(pause)];
  const child = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  const closed = once(child, "close");
  await once(child.stdout, "data");
  try {
    await meanwhile(acknowledged);
  } finally {
    child.kill("SIGKILL");
    await closed;
  }
  expect(child.signalCode).toBe("SIGKILL");
  const lines = readFileSync(acknowledged, "utf8").split("\n").slice(0, -1);
  return new Map(lines.map((line) => line.split(",").map(Number) as [number, number]));
}

describe("SIGKILL", () => {
  test("loses no acknowledged entry; torn tails are cut and recorded", async () => {
    for (let round = 0; round < 6; round += 1) {
      const dir = path.join(temporaryDirectory(), "log");
      const promised = await killedWriter(dir, async (file) => {
        // Each time somewhere else between two checkpoints.
        await expect.poll(() => statSync(file).size).toBeGreaterThan(100);
        await sleep(round * 7);
      });
      expect(promised.size).toBeGreaterThan(0);
      // The kernel looks for a deadly signal between the pages of a write, so the last group may be torn anyway.
      const isTorn = round % 2 === 1;
      if (isTorn) {
        const journal = path.join(dir, layout.journal);
        const last = readdirSync(journal)
          .map(Number)
          .toSorted((a, b) => b - a)[0];
        appendFileSync(
          path.join(journal, String(last)),
          Buffer.concat([Buffer.from([90, 0, 0, 0]), randomBytes(30)]),
        );
      }
      const before = await verifyLog(dir, { keys: [signer.vkey] });
      expect(before).toMatchObject({ verdict: "SIGNED", closed: false });
      if (isTorn) expect(before.torn).toBeGreaterThan(0);
      const log = await openTestLog(dir);
      await log.close("after the crash");
      expect(await verifyLog(dir, { keys: [signer.vkey] })).toMatchObject({
        verdict: "SIGNED",
        closed: true,
        unsealed: 0,
      });
      const reader = new LogReader(dir, log.size);
      const ports = new Map<number, number>();
      let recovered: Readonly<Record<string, unknown>> = {};
      for (const { seq, entry } of reader.entries()) {
        const { type, object } = decodeEntry(entry, seq);
        if (type === "net.connect") ports.set(Number(object.port), seq);
        if (type === "log.recovered") recovered = object;
      }
      for (const [port, seq] of promised) expect(ports.get(port)).toBe(seq);
      expect(recovered.cutBytes).toBe(before.torn);
    }
  });
});

describe("power loss", () => {
  test("may leave a sector of the last group unwritten: the group is cut, not refused", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    await log.record(connectEvent(0));
    const durable = statSync(path.join(dir, layout.journal, "1")).size;
    // One group, so that any part of it may be missing.
    await Promise.all(Array.from({ length: 20 }, (_, n) => log.record(connectEvent(n + 1))));
    const lost = path.join(temporaryDirectory(), "lost");
    cpSync(dir, lost, { recursive: true });
    await log.close("done");
    const segment = path.join(lost, layout.journal, "1");
    const bytes = readFileSync(segment);
    const sector = Math.ceil(durable / 512) * 512;
    writeFileSync(segment, bytes.fill(0, sector + 512, sector + 1024));
    const report = await verifyLog(lost, { keys: [signer.vkey] });
    expect(report).toMatchObject({ verdict: "SIGNED" });
    expect(report.unsealed).toBeGreaterThanOrEqual(1);
    expect(report.unsealed).toBeLessThan(21);
    expect(report.torn).toBeGreaterThan(512);
  });
});

describe("a log that is being written", () => {
  test("can be verified at any time", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir, { checkpointInterval: 1 });
    const over = new AbortController();
    const writing = (async (): Promise<void> => {
      for (let n = 0; !over.signal.aborted; n += 1) await log.record(connectEvent(n));
    })();
    const sizes = new Set<number>();
    while (sizes.size < 10) {
      const { verdict, problems, size } = await verifyLog(dir, { keys: [signer.vkey] });
      expect(problems).toEqual([]);
      expect(verdict).toBe("SIGNED");
      sizes.add(size);
      await sleep(10);
    }
    over.abort();
    await writing;
    await log.close("done");
  });

  test("by another process, with disclosures and fifty checkpoints a second", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const sizes = new Set<number>();
    const verifyTenSizes = async (): Promise<void> => {
      while (sizes.size < 10) {
        const { verdict, problems, size } = await verifyLog(dir, { keys: [signer.vkey] });
        expect(problems).toEqual([]);
        expect(verdict).toBe("SIGNED");
        sizes.add(size);
      }
    };
    // With pauses: on a busy machine a writer at full speed outruns the verifier, each time further.
    await killedWriter(dir, verifyTenSizes, 20);
  });

  test("what was disclosed since the checkpoint was read is not held against it", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    const exec = { type: "process.exec", phase: "event", decision: "allow" } as const;
    const object = { path: "/bin/true", argv: ["true", "secret"] };
    await log.record({ ...exec, object });
    const { size } = await log.checkpoint();
    const seq = (await log.record({ ...exec, object })).seq;
    await log.checkpoint();
    const problems: Problem[] = [];
    checkDisclosures(dir, size, problems);
    expect(problems).toEqual([]);
    await log.close("done");
    const file = path.join(dir, layout.disclosures, "0");
    const lines = readFileSync(file, "utf8");
    expect(lines).toContain(`\n${seq} `);
    // One of an entry that never was still is.
    writeFileSync(file, lines.replace(`\n${seq} `, "\n99 "));
    checkDisclosures(dir, size, problems);
    expect(problems).toMatchObject([{ code: "ERR_NONO_AUDIT_CORRUPT", seq: 99 }]);
  });

  test("a journal that lacks acknowledged entries is damaged", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    for (let n = 0; n < 5; n += 1) await log.record(connectEvent(n));
    const before = path.join(temporaryDirectory(), "before");
    cpSync(dir, before, { recursive: true });
    await log.checkpoint();
    await log.record(connectEvent(5));
    // As if the checkpoint had failed after the journal's next segment was begun, and the one before it were gone.
    const [segment = ""] = readdirSync(path.join(dir, layout.journal));
    rmSync(path.join(before, layout.journal), { recursive: true });
    cpSync(path.join(dir, layout.journal), path.join(before, layout.journal), { recursive: true });
    await log.close("done");
    expect(segment).toBe("6");
    expect(await verifyLog(before, { keys: [signer.vkey] })).toMatchObject({
      verdict: "TAMPERED",
      problems: [{ file: `${layout.journal}/6`, message: expect.stringContaining("is missing") }],
    });
  });

  test("a head that was archived, but not published yet, is one of the log", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    await log.record(connectEvent(0));
    const before = path.join(temporaryDirectory(), "before");
    cpSync(dir, before, { recursive: true });
    const { size, note } = await log.checkpoint();
    // As a crash leaves it between the two: tiles, head and archive are written, the checkpoint is not.
    cpSync(path.join(dir, "tile"), path.join(before, "tile"), { recursive: true });
    cpSync(path.join(dir, layout.head), path.join(before, layout.head));
    writeFileSync(path.join(before, headPath(size)), note);
    await log.close("done");
    const trusted = { keys: [signer.vkey] };
    expect(await verifyLog(before, trusted)).toMatchObject({ verdict: "SIGNED", problems: [] });
    writeFileSync(
      path.join(before, headPath(size)),
      note.replace(`\n${size}\n`, `\n${size + 1}\n`),
    );
    expect(await verifyLog(before, trusted)).toMatchObject({ verdict: "TAMPERED" });
  });
});
