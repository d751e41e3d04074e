import { generateKeyPairSync } from "node:crypto";
import { describe, expect, test } from "vitest";
import {
  ecdsaSigner,
  ed25519Signer,
  formatNote,
  mlDsa44Signer,
  noteVerifier,
  parseCheckpoint,
  parseNote,
  parsePolicy,
  quorumMet,
  verifySignatures,
} from "../src/index.ts";
import { noteKeyId, formatVkey } from "../src/note.ts";
import { signatureLine } from "../src/signer.ts";

const text = "example.com/log\n5\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=\n";

describe("signed notes", () => {
  test("the example of the Go note package verifies", () => {
    // golang.org/x/mod/sumdb/note, package example: published verifier key and signed text.
    const vkey = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    const note = parseNote(
      "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n\n" +
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n",
    );
    expect(verifySignatures(note, [noteVerifier(vkey)])).toHaveLength(1);
    const altered = { ...note, text: note.text.replace("answer", "question") };
    expect(() => verifySignatures(altered, [noteVerifier(vkey)])).toThrow("is not good");
  });

  test("Ed25519, P-256 and ML-DSA-44 lines side by side", async () => {
    const p256 = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey;
    const signers = [
      ed25519Signer("example.com/log"),
      ecdsaSigner("example.com/log", p256),
      mlDsa44Signer("example.com/pq"),
    ];
    const signatures = await Promise.all(signers.map((signer) => signatureLine(signer, text)));
    const note = parseNote(formatNote({ text, signatures }));
    const verifiers = signers.map(({ vkey }) => noteVerifier(vkey));
    const good = verifySignatures(note, verifiers);
    expect(good.map(({ verifier }) => verifier.vkey)).toEqual(signers.map(({ vkey }) => vkey));
    expect(good[2]?.timestamp).toBeGreaterThan(1_700_000_000);
    for (const [i] of signers.entries()) {
      const damaged = signatures.map((one, j) => {
        const signature = Buffer.from(one.signature);
        if (i === j) signature[signature.length - 1] = (signature.at(-1) as number) ^ 1;
        return { ...one, signature };
      });
      expect(() => verifySignatures({ text, signatures: damaged }, verifiers)).toThrow(
        "is not good",
      );
    }
  });

  test("unknown keys are ignored, also one with a known name", async () => {
    const signatures = [await signatureLine(ed25519Signer("example.com/log"), text)];
    expect(
      verifySignatures({ text, signatures }, [noteVerifier(ed25519Signer("example.com/log").vkey)]),
    ).toEqual([]);
  });

  test.each([
    ["no blank line", "text\n— a AAAAAAA=\n"],
    ["no final newline", "text\n\n— a AAAAAAAA"],
    ["a hyphen for the dash", "text\n\n- a AAAAAAAA\n"],
    ["base64 with loose bits", "text\n\n— a AAAAAAB=\n"],
    ["a control character", "te\u0007xt\n\n— a AAAAAAAA\n"],
    ["too short a signature", "text\n\n— a AAAAAA==\n"],
    ["a plus in the name", "text\n\n— a+b AAAAAAAA\n"],
    ["bytes that are not UTF-8", Buffer.from([0x61, 0xff, 0x0a, 0x0a])],
  ])("refuses %s", (_what, note) => expect(() => parseNote(note)).toThrow(/signed note/));

  test("refuses verifier keys whose id does not belong to them", () => {
    const { vkey } = ed25519Signer("example.com/log");
    const other = vkey.replace(/\+[0-9a-f]{8}\+/, "+00000000+");
    for (const bad of [
      other,
      "a",
      "a+b+c",
      vkey.slice(0, -2),
      formatVkey("n", 9, Buffer.alloc(32)),
    ]) {
      expect(() => noteVerifier(bad)).toThrow("not a");
    }
    expect(noteKeyId("n", 1, Buffer.alloc(32))).not.toBe(noteKeyId("n", 4, Buffer.alloc(32)));
  });

  test.each(["a\n05\nx\n", "a\n1\nAAAA\n", `${text}extension\n`, text.trimEnd(), `\n${text}`])(
    "refuses the checkpoint %j",
    (bad) => expect(() => parseCheckpoint(bad)).toThrow("not a checkpoint"),
  );
});

/** A verifier key for the cosignatures of a fresh Ed25519 key. */
function key(name: string): string {
  const raw = Buffer.from(
    ed25519Signer(name).vkey.split("+").slice(2).join("+"),
    "base64",
  ).subarray(1);
  return formatVkey(name, 4, raw);
}

describe("trust policies", () => {
  const policy = parsePolicy(`# two of three, and y
log ${ed25519Signer("example.com/log").vkey} https://log.example
witness x1 ${key("x1")}
witness x2\t${key("x2")} https://x2.example
witness x3 ${key("x3")}
witness y ${key("y")}
group X 2 x1 x2 x3
group both all X y
quorum both
`);

  test.each([
    [["x1", "x2", "y"], true],
    [["x1", "y"], false],
    [["x1", "x2", "x3"], false],
    [[], false],
  ])("witnesses %j make the quorum: %s", (names, met) => {
    expect(quorumMet(policy, new Set(names))).toBe(met);
  });

  test("reads keys and URLs", () => {
    expect(policy.logs).toHaveLength(1);
    expect(policy.witnesses.get("x2")?.url).toBe("https://x2.example");
  });

  test.each([
    ["", "no quorum"],
    ["quorum x\n", "before it is defined"],
    ["quorum none\nquorum none\n", "second quorum"],
    [`witness a ${ed25519Signer("a").vkey}\nquorum a\n`, "not for cosignatures"],
    [`witness a ${key("a")}\ngroup g 2 a\nquorum g\n`, "threshold outside"],
    [`witness a ${key("a")}\ngroup g any a\ngroup h any a\nquorum g\n`, "a second time"],
    ["frobnicate x\n", "line 1"],
  ])("refuses %j", (bad, message) => expect(() => parsePolicy(bad)).toThrow(message));
});
