import { randomInt } from "node:crypto";
import { cpSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import {
  LogReader,
  mlDsa44Signer,
  noteVerifier,
  parseNote,
  verifyLog,
  verifySignatures,
} from "../src/index.ts";
import {
  closedLog,
  connectEvent,
  openTestLog,
  origin,
  signer,
  temporaryDirectory,
} from "./helpers/logs.ts";
import { askOracle, oracleDirectory } from "./helpers/oracles.ts";

const withOracles = describe.skipIf(oracleDirectory() === undefined);
const fsck = (dir: string): { ok: boolean; output: string } =>
  askOracle(["fsck", dir, origin, signer.vkey]);

withOracles("what we write, judged by others", () => {
  test.each([2, 255, 256, 257, 5000, 65_536, 65_537])(
    "tessera fsck accepts a directory of %i entries",
    async (count) => {
      expect(fsck(await closedLog(count))).toMatchObject({ ok: true });
    },
  );

  test("x/mod and transparency-dev check every line of a note with Ed25519 and ML-DSA-44 keys", async () => {
    const pq = mlDsa44Signer(origin);
    const dir = await closedLog(5, { signer: [signer, pq] });
    const note = readFileSync(path.join(dir, "checkpoint"), "utf8");
    expect(askOracle(["note", signer.vkey, pq.vkey], note)).toMatchObject({
      ok: true,
      output: "2\n",
    });
    expect(
      verifySignatures(
        parseNote(note),
        [signer, pq].map(({ vkey }) => noteVerifier(vkey)),
      ),
    ).toHaveLength(2);
    expect(askOracle(["note", signer.vkey, pq.vkey], note.replace("\n5\n", "\n6\n"))).toMatchObject(
      { ok: false },
    );
  });

  test("C2SP tlog-proof is read back canonically and x/mod accepts its path", async () => {
    const log = await openTestLog(path.join(temporaryDirectory(), "log"));
    for (let n = 0; n < 700; n += 1) log.recordAndForget(connectEvent(n));
    await log.checkpoint();
    const entry = path.join(temporaryDirectory(), "entry");
    for (const seq of [0, 1, 255, 256, 511, 512, 699, 700]) {
      const proof = await log.prove(seq);
      writeFileSync(entry, log.reader().entry(seq));
      expect(askOracle(["proof", signer.vkey, entry], proof)).toMatchObject({ ok: true });
      writeFileSync(entry, log.reader().entry(seq === 0 ? 1 : 0));
      expect(askOracle(["proof", signer.vkey, entry], proof)).toMatchObject({ ok: false });
    }
    await log.close("done");
  });

  test("x/mod accepts 500 consistency proofs between random sizes", async () => {
    const reader = new LogReader(await closedLog(66_000), 66_000);
    const line = (from: number, to: number): string =>
      [
        from,
        reader.root(from).toString("base64"),
        to,
        reader.root(to).toString("base64"),
        ...reader.consistencyProof(from, to).map((hash) => hash.toString("base64")),
      ].join(" ");
    const lines = Array.from({ length: 500 }, (_, n) => {
      const to = randomInt(2, n % 2 ? 66_000 : 600);
      return line(randomInt(1, to), to);
    });
    expect(askOracle(["consistency"], `${lines.join("\n")}\n`)).toEqual({ ok: true, output: "" });
    const [from = "", root = "", ...rest] = line(300, 65_999).split(" ");
    expect(askOracle(["consistency"], [Number(from) + 1, root, ...rest].join(" "))).toMatchObject({
      ok: false,
    });
  });
});

/** Every file below `dir`, relative. */
function files(dir: string): string[] {
  return readdirSync(dir, { recursive: true, encoding: "utf8" }).filter((name) =>
    statSync(path.join(dir, name)).isFile(),
  );
}

async function logWithEverything(): Promise<string> {
  const dir = path.join(temporaryDirectory(), "log");
  const log = await openTestLog(dir);
  for (let n = 0; n < 40; n += 1) log.recordAndForget(connectEvent(n));
  await log.checkpoint();
  for (let n = 0; n < 560; n += 1) log.recordAndForget(connectEvent(n));
  log.recordAndForget({
    type: "process.exec",
    phase: "event",
    decision: "allow",
    object: { path: "/bin/sh", argv: ["sh", "-c", "true"] },
  });
  await log.close("done");
  return dir;
}

/** Files that carry no evidence: a copy or a damaged one is refused when the log is opened for writing. */
const noEvidence = new Set([".nono/identity"]);

describe("mutation: one flipped bit anywhere", () => {
  test(
    "is found by our verifier, and in the standard files by fsck",
    { timeout: 120_000 },
    async () => {
      const dir = await logWithEverything();
      const trusted = { keys: [signer.vkey] };
      expect(await verifyLog(dir, trusted)).toMatchObject({ verdict: "SIGNED", ok: true });
      let mutations = 0;
      for (const name of files(dir).filter((file) => !noEvidence.has(file))) {
        const file = path.join(dir, name);
        const original = readFileSync(file);
        const places = new Set([
          0,
          1,
          original.length >> 1,
          original.length - 2,
          original.length - 1,
          randomInt(original.length),
          randomInt(original.length),
        ]);
        for (const place of [...places].filter((at) => at >= 0)) {
          const mutated = Buffer.from(original);
          mutated[place] = (mutated[place] as number) ^ (1 << randomInt(8));
          writeFileSync(file, mutated);
          const report = await verifyLog(dir, trusted);
          expect(report.ok, `${name} byte ${place}`).toBe(false);
          // Partial tiles of older checkpoints are not looked at by fsck.
          const standard = !name.startsWith(".nono") && !/\.p\/(?:41|1)$/.test(name);
          if (standard && oracleDirectory())
            expect(fsck(dir).ok, `fsck: ${name} byte ${place}`).toBe(false);
          mutations += 1;
        }
        writeFileSync(file, original);
      }
      expect(mutations).toBeGreaterThan(50);
      expect(await verifyLog(dir, trusted)).toMatchObject({ ok: true });
    },
  );

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
      (dir) => edit(path.join(dir, "checkpoint"), (note) => note.replace("\n603\n", "\n602\n")),
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
