// One flipped bit in every region of every file: ours must say so, and in the standard files fsck must too.
import { randomInt } from "node:crypto";
import { cpSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { ed25519Signer, HostLedger, openAuditLog, verifyLog } from "../src/index.ts";
import type { VerifyPolicy } from "../src/index.ts";
import { layout } from "../src/layout.ts";
import { connectEvent, openTestLog, origin, signer, temporaryDirectory } from "./helpers/logs.ts";
import { askOracle, oracleDirectory } from "./helpers/oracles.ts";
import { regionsOf, type Region } from "./helpers/regions.ts";

/** Every file below `dir`, relative. */
function files(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: "utf8" }).filter((name) =>
    statSync(path.join(dir, name)).isFile(),
  );
}

/** Files that carry no evidence: who may write here, and where this directory is. */
const noEvidence = new Set<string>([layout.identity, layout.lock]);

interface Flip extends Region {
  readonly file: string;
  readonly offset: number;
  readonly mask: number;
}

/** A bit in every region of every file; of the tiles and bundles, every third one, another third each time. */
function flips(dir: string): Flip[] {
  const third = randomInt(3);
  return files(dir)
    .filter((file) => !noEvidence.has(file))
    .flatMap((file) =>
      regionsOf(file, readFileSync(path.join(dir, file)))
        .filter((_, n) => !file.startsWith("tile/") || n % 3 === third || n === 0)
        .map((region) => ({
          ...region,
          file,
          offset: randomInt(region.start, region.end),
          mask: 1 << randomInt(8),
        })),
    );
}

/** The flips that our verifier takes no notice of. */
async function missed(dir: string, all: readonly Flip[], policy: VerifyPolicy): Promise<string[]> {
  const unseen: string[] = [];
  for (const { file, what, offset, mask } of all) {
    const name = path.join(dir, file);
    const original = readFileSync(name);
    const changed = Buffer.from(original);
    changed[offset] = (changed[offset] as number) ^ mask;
    writeFileSync(name, changed);
    const { ok } = await verifyLog(dir, policy);
    writeFileSync(name, original);
    if (ok) unseen.push(`${file}: ${what}, byte ${offset} ^ ${mask}`);
  }
  return unseen;
}

/** The flips in the standard files that tessera's fsck takes no notice of. */
function missedByFsck(dir: string, all: readonly Flip[], name: string, vkey: string): string[] {
  const [, size] = readFileSync(path.join(dir, "checkpoint"), "utf8").split("\n");
  // Partial tiles of older checkpoints are not looked at by fsck.
  const isCurrent = (file: string): boolean => {
    const [, level = "", width] = /^tile\/(\w+)\/.*\.p\/(\d+)$/.exec(file) ?? [];
    const height = level === "entries" ? 0 : Number(level);
    return width === undefined || Math.floor(Number(size) / 256 ** height) % 256 === Number(width);
  };
  // The last digit before the padding has bits that stand for nothing: Go's decoder ignores them, ours
  // refuses them (RFC 4648, 3.5).
  const isPadded = ({ file, offset }: Flip): boolean =>
    file === "checkpoint" && readFileSync(path.join(dir, file))[offset + 1] === "=".charCodeAt(0);
  const lines = all
    .filter((flip) => !flip.file.startsWith(".nono") && isCurrent(flip.file) && !isPadded(flip))
    .map(({ file, offset, mask }) => `${file} ${offset} ${mask}\n`);
  const { ok, output } = askOracle(["flips", dir, name, vkey], lines.join(""));
  expect(ok, output).toBe(true);
  return output.split("\n").filter((line) => line.startsWith("missed:"));
}

const fsck = (dir: string): { ok: boolean; output: string } =>
  askOracle(["fsck", dir, origin, signer.vkey]);

const trusted = { keys: [signer.vkey] };

/** Two heads, a full and a partial tile, a level above them, stale partial tiles, disclosures. */
async function logWithEverything(): Promise<string> {
  const dir = path.join(temporaryDirectory(), "log");
  const log = await openTestLog(dir);
  for (let n = 0; n < 40; n += 1) log.recordAndForget(connectEvent(n));
  await log.checkpoint();
  for (let n = 0; n < 240; n += 1) log.recordAndForget(connectEvent(n));
  await log.checkpoint();
  for (let n = 0; n < 240; n += 1) log.recordAndForget(connectEvent(n));
  for (let n = 0; n < 3; n += 1) {
    log.recordAndForget({
      type: "process.exec",
      phase: "event",
      decision: "allow",
      object: { path: "/bin/sh", argv: ["sh", "-c", "true"] },
    });
  }
  await log.close("done");
  return dir;
}

describe("one flipped bit in every region", () => {
  test("of a log: found by us, and in the standard files by fsck", async () => {
    const dir = await logWithEverything();
    const all = flips(dir);
    expect(all.length).toBeGreaterThan(600);
    expect(await verifyLog(dir, trusted)).toMatchObject({ verdict: "SIGNED", ok: true });
    expect(await missed(dir, all, trusted)).toEqual([]);
    if (oracleDirectory()) expect(missedByFsck(dir, all, origin, signer.vkey)).toEqual([]);
    expect(await verifyLog(dir, trusted)).toMatchObject({ ok: true });
  });

  test("of a log under a ledger, and of the ledger", async () => {
    const host = "nono.local/test";
    const hostSigner = ed25519Signer(host, Buffer.alloc(32, 9));
    const ledgerDir = path.join(temporaryDirectory(), "ledger");
    const ledger = new HostLedger({ dir: ledgerDir, origin: host, signer: hostSigner });
    const dir = path.join(temporaryDirectory(), "log");
    // Long enough that a busy machine does not make many more of them than are waited for: each has its files.
    const epochs = { seconds: 0.4, count: 2 };
    const log = await openAuditLog({ dir, origin, ledger, epochs, checkpointInterval: 3_600_000 });
    await expect.poll(() => readdirSync(path.join(dir, layout.heads)).length).toBeGreaterThan(2);
    await log.record(connectEvent(1));
    await log.close("done");
    const policy = { ledgerKeys: [hostSigner.vkey] };
    for (const target of [dir, ledgerDir]) {
      const all = flips(target);
      expect(all.length).toBeGreaterThan(50);
      expect(await verifyLog(target, policy)).toMatchObject({ verdict: "SIGNED", ok: true });
      expect(await missed(target, all, policy)).toEqual([]);
    }
    if (oracleDirectory())
      expect(missedByFsck(ledgerDir, flips(ledgerDir), host, hostSigner.vkey)).toEqual([]);
  });

  test("of the journal: refused, or an end as a crash leaves it, and never another entry", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    for (let n = 0; n < 20; n += 1) await log.record(connectEvent(n));
    await log.record({
      type: "process.exec",
      phase: "event",
      decision: "allow",
      object: { path: "/bin/sh", argv: ["sh"] },
    });
    const copy = path.join(temporaryDirectory(), "copy");
    cpSync(dir, copy, { recursive: true });
    await log.close("done");
    const before = await verifyLog(copy, trusted);
    expect(before).toMatchObject({ verdict: "SIGNED", unsealed: 21, torn: 0 });
    const all = flips(copy).filter(({ file }) => file.startsWith(layout.journal));
    expect(all.length).toBeGreaterThan(60);
    const lastFrame = Math.max(...all.map(({ frame = 0 }) => frame));
    for (const flip of all) {
      const name = path.join(copy, flip.file);
      const original = readFileSync(name);
      const changed = Buffer.from(original);
      changed[flip.offset] = (changed[flip.offset] as number) ^ flip.mask;
      writeFileSync(name, changed);
      const { verdict, unsealed, torn } = await verifyLog(copy, trusted);
      writeFileSync(name, original);
      const what = `${flip.what}, byte ${flip.offset} ^ ${flip.mask}`;
      if (flip.frame !== lastFrame) expect(verdict, what).toBe("TAMPERED");
      else if (verdict !== "TAMPERED") {
        expect(unsealed, what).toBe(20);
        expect(torn, what).toBeGreaterThan(0);
      }
    }
  });
});

describe("whole files", () => {
  test.each<[string, (dir: string) => void]>([
    ["a bundle is missing", (dir) => rmSync(path.join(dir, "tile/entries/001"))],
    [
      "two bundles are swapped",
      (dir) => swap(path.join(dir, "tile/entries/000"), path.join(dir, "tile/entries/001")),
    ],
    ["a level-0 tile is missing", (dir) => rmSync(path.join(dir, "tile/0/000"))],
    [
      "a bundle is cut",
      (dir) =>
        writeFileSync(
          path.join(dir, "tile/entries/001"),
          readFileSync(path.join(dir, "tile/entries/001")).subarray(0, -7),
        ),
    ],
    [
      "the size is edited",
      (dir) => edit(path.join(dir, "checkpoint"), (note) => note.replace("\n525\n", "\n524\n")),
    ],
    ["the checkpoint is gone", (dir) => rmSync(path.join(dir, "checkpoint"))],
  ])("%s: ours says TAMPERED, fsck fails", async (_what, mutate) => {
    const dir = path.join(temporaryDirectory(), "log");
    cpSync(await logWithEverything(), dir, { recursive: true });
    mutate(dir);
    expect(await verifyLog(dir, { keys: [signer.vkey] })).toMatchObject({
      verdict: "TAMPERED",
      ok: false,
    });
    if (oracleDirectory()) expect(fsck(dir).ok).toBe(false);
  });

  test("the first bad entry is named", async () => {
    const dir = await logWithEverything();
    edit(path.join(dir, "tile/entries/001"), (text) => text.replace('"seq":300', '"seq":301'));
    const [first] = (await verifyLog(dir, { keys: [signer.vkey] })).problems;
    expect(first).toMatchObject({ seq: 300 });
  });
});

function edit(file: string, change: (text: string) => string): void {
  const before = readFileSync(file, "latin1");
  const after = change(before);
  expect(after).not.toBe(before);
  writeFileSync(file, after, "latin1");
}

function swap(a: string, b: string): void {
  const kept = readFileSync(a);
  writeFileSync(a, readFileSync(b));
  writeFileSync(b, kept);
}
