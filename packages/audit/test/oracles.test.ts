import { randomInt } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import {
  LogReader,
  mlDsa44Signer,
  noteVerifier,
  parseNote,
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
