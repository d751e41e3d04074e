// Vectors that others have published, and verdicts of others on cases that nobody has published.
import { createPublicKey, verify, type KeyObject } from "node:crypto";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import canonicalize from "canonicalize";
import { describe, expect, test } from "vitest";
import { encodeEntry } from "../src/encode.ts";
import { noteVerifier, verifyConsistency, verifyInclusion, verifyLog } from "../src/index.ts";
import { publicKeyFromRaw } from "../src/keys.ts";
import { leafHash } from "../src/merkle.ts";
import { formatVkey, signatureType } from "../src/note.ts";
import { sigstoreEvidence } from "../src/sigstore.ts";
import { TileTree } from "../src/tiles.ts";
import { connectEvent } from "./helpers/logs.ts";
import { askOracle, oracleDirectory, vectorDirectory } from "./helpers/oracles.ts";

const vectors = vectorDirectory() ?? "";
const withVectors = describe.skipIf(vectors === "");

interface MerkleCase {
  kind: "root" | "inclusion" | "consistency";
  what: string;
  index: number;
  oldSize: number;
  size: number;
  leaf: string | null;
  oldRoot: string | null;
  root: string;
  proof: string[] | null;
  leaves?: string[];
  ok: boolean;
}

const bytes = (base64: string | null): Buffer => Buffer.from(base64 ?? "", "base64");

/** Our verdict on a proof. */
function accepts({ kind, index, oldSize, size, ...rest }: MerkleCase): boolean {
  const [root, proof] = [bytes(rest.root), (rest.proof ?? []).map(bytes)];
  try {
    if (kind === "inclusion") verifyInclusion({ index, size, leaf: bytes(rest.leaf), proof, root });
    else verifyConsistency({ oldSize, oldRoot: bytes(rest.oldRoot), size, root, proof });
    return true;
  } catch (error) {
    expect(error).toMatchObject({ code: "ERR_NONO_AUDIT_PROOF" });
    return false;
  }
}

describe.skipIf(oracleDirectory() === undefined)("transparency-dev/merkle", () => {
  test("the golden trees have their roots, and thousands of proofs get the same verdict", () => {
    const { ok, output } = askOracle(["merkle"]);
    expect(ok).toBe(true);
    const cases = output
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as MerkleCase);
    const proofs = cases.filter(({ kind }) => kind !== "root");
    for (const { leaves = [], root } of cases.filter(({ kind }) => kind === "root")) {
      const tree = new TileTree();
      for (const leaf of leaves) tree.append(leafHash(bytes(leaf)));
      expect(tree.root()).toEqual(bytes(root));
    }
    // Release 0.0.2 takes "anything extends the empty tree" for a proof; later ones refuse it as we do.
    const different = proofs.filter((one) => accepts(one) !== one.ok);
    expect(different.filter(({ oldSize, kind }) => kind !== "consistency" || oldSize > 0)).toEqual(
      [],
    );
    expect(different.every(({ ok: good }) => good)).toBe(true);
    expect(proofs.filter(({ ok: good }) => good).length).toBeGreaterThan(200);
    expect(proofs.filter(({ ok: good }) => !good).length).toBeGreaterThan(5000);
  });
});

withVectors("RFC 8785 (cyberphone/json-canonicalization)", () => {
  const names = existsSync(vectors) ? readdirSync(path.join(vectors, "input")) : [];
  const read = (kind: string, name: string): string =>
    readFileSync(path.join(vectors, kind, name), "utf8");

  test.each(names)("%s: the canonicaliser that our tests compare with gives the output", (name) => {
    expect(canonicalize(JSON.parse(read("input", name)))).toBe(read("output", name));
  });

  test("every text in them is written by us as they write it", () => {
    const texts = new Set<string>();
    const collect = (value: unknown): void => {
      if (typeof value === "string") texts.add(value);
      else if (typeof value === "object" && value !== null)
        for (const [key, member] of Object.entries(value)) {
          texts.add(key);
          collect(member);
        }
    };
    for (const name of names) collect(JSON.parse(read("input", name)));
    const outputs = names.map((name) => read("output", name)).join("\n");
    expect(texts.size).toBeGreaterThan(20);
    for (const text of texts) {
      const json = entry(text);
      const written = /"path":("(?:[^"\\]|\\.)*")/s.exec(json)?.[1] ?? "";
      expect(JSON.parse(written)).toBe(text);
      // Numbers as keys of arrays are ours, not theirs.
      if (!/^\d+$/.test(text)) expect(outputs).toContain(written);
    }
  });

  test.skipIf(oracleDirectory() === undefined)("and their Go implementation agrees", () => {
    const texts = ["é", "\u2028", "\u007f", "\u0000", "😀", "\ufb33", "</script>", "\\", '"'];
    const lines = Array.from({ length: 2000 }, (_, n) =>
      encodeEntry(connectEvent(n), { ...stamp, seq: n, time: n * 1e9 }),
    );
    const all = [...lines, ...texts.map(entry)].join("\n");
    expect(askOracle(["jcs"], `${all}\n`)).toEqual({ ok: true, output: "" });
    expect(askOracle(["jcs"], all.replace("{", "{ ")).ok).toBe(false);
  });
});

const stamp = { seq: 1, id: "i", session: '"s"', time: 0, mono: "0" };

function entry(text: string): string {
  const event = { type: "file.open", phase: "event", decision: "allow" } as const;
  return encodeEntry({ ...event, object: { path: text } }, stamp);
}

interface WycheproofCase {
  tcId: number;
  msg: string;
  sig: string;
  ctx?: string;
  result: "valid" | "invalid" | "acceptable";
}

interface WycheproofGroup {
  publicKey: string | { pk: string };
  publicKeyDer: string;
  tests: WycheproofCase[];
}

function groupsOf(file: string): WycheproofGroup[] {
  const text = readFileSync(path.join(vectors, file), "utf8");
  return (JSON.parse(text) as { testGroups: WycheproofGroup[] }).testGroups;
}

const hex = (text: string): Buffer => Buffer.from(text, "hex");

/** Compares every verdict; returns how many there were. */
function compare(
  file: string,
  check: (group: WycheproofGroup, message: Buffer, signature: Buffer) => boolean,
): number {
  let count = 0;
  for (const group of groupsOf(file)) {
    for (const { tcId, msg, sig, ctx = "", result } of group.tests) {
      // C2SP signs without a context.
      if (ctx !== "") continue;
      expect(check(group, hex(msg), hex(sig)), `${file} case ${tcId}`).toBe(result === "valid");
      count += 1;
    }
  }
  return count;
}

/** By a note verifier where the message is text, by the key itself where it is not. */
function checkNote(
  { type, raw, key, digest }: { type: number; raw: Buffer; key: KeyObject; digest: string | null },
  message: Buffer,
  signature: Buffer,
): boolean {
  const text = message.toString("utf8");
  if (!Buffer.from(text).equals(message)) return verify(digest, message, key, signature);
  return noteVerifier(formatVkey("w", type, raw)).verify(text, signature) !== undefined;
}

withVectors("Wycheproof", () => {
  test("Ed25519", () => {
    const count = compare("ed25519_test.json", ({ publicKey }, message, signature) => {
      const raw = hex((publicKey as { pk: string }).pk);
      const key = publicKeyFromRaw("ed25519", raw);
      const type = signatureType.ed25519;
      return checkNote({ type, raw, key, digest: null }, message, signature);
    });
    expect(count).toBeGreaterThan(140);
  });

  test("ECDSA P-256", () => {
    const file = "ecdsa_secp256r1_sha256_test.json";
    const count = compare(file, ({ publicKeyDer }, message, signature) => {
      const raw = hex(publicKeyDer);
      const key = createPublicKey({ key: raw, format: "der", type: "spki" });
      const type = signatureType.ecdsa;
      return checkNote({ type, raw, key, digest: "sha256" }, message, signature);
    });
    expect(count).toBeGreaterThan(400);
  });

  test("ML-DSA-44", () => {
    const file = "mldsa_44_verify_test.json";
    const count = compare(file, ({ publicKey }, message, signature) => {
      try {
        const key = publicKeyFromRaw("ml-dsa-44", hex(publicKey as string));
        return verify(null, message, key, signature);
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_NONO_AUDIT_INPUT" });
        return false;
      }
    });
    expect(count).toBeGreaterThan(150);
  });
});

withVectors("other people's Sigstore bundles (sigstore-go)", () => {
  const bundles = existsSync(vectors) ? readdirSync(path.join(vectors, "bundles")) : [];

  test.each(bundles)("%s is refused by name, whatever root is trusted", async (name) => {
    const file = path.join(vectors, "bundles", name);
    for (const root of readdirSync(path.join(vectors, "trusted-roots"))) {
      const trustedRoot = readFileSync(path.join(vectors, "trusted-roots", root), "utf8");
      const identity = { subjectAlternativeName: "x", issuer: "y" };
      const evidence = [sigstoreEvidence({ trustedRoot, identity })];
      const report = await verifyLog(file, { evidence });
      expect(report).toMatchObject({ ok: false, verdict: "TAMPERED" });
      await expect(
        evidence[0]?.verify(readFileSync(file, "utf8"), "o\n0\nAAAA\n"),
      ).rejects.toMatchObject({ code: expect.stringMatching(/^ERR_NONO_AUDIT_/) });
    }
  });
});
