// Verdicts that others have published, with their data in `testdata`: every one must be ours too.
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { readOptional } from "../src/files.ts";
import { formatCheckpoint, verifyConsistency, verifyInclusion } from "../src/index.ts";
import { emptyRoot } from "../src/merkle.ts";
import { bundleVerifier, type VerifiedEnvelope } from "../src/sigstore-bundle.ts";
import { sigstoreEvidence } from "../src/sigstore.ts";
import { checkStatement } from "../src/statement.ts";

const testdata = path.join(import.meta.dirname, "testdata");
const read = (...names: string[]): string => readFileSync(path.join(testdata, ...names), "utf8");

interface MerkleCase {
  leafIdx?: number;
  treeSize?: number;
  root?: string;
  leafHash?: string;
  size1?: number;
  size2?: number;
  root1?: string;
  root2?: string;
  proof: string[] | null;
  wantErr: boolean;
}

const bytes = (base64 = ""): Buffer => Buffer.from(base64, "base64");

/** Our verdict; an error must be one of a proof. */
function acceptsProof(name: string, one: MerkleCase): boolean {
  const { leafIdx = 0, treeSize = 0, size1 = 0, size2 = 0 } = one;
  const proof = (one.proof ?? []).map(bytes);
  try {
    if (name.startsWith("inclusion/")) {
      const [leaf, root] = [bytes(one.leafHash), bytes(one.root)];
      verifyInclusion({ index: leafIdx, size: treeSize, leaf, proof, root });
    } else {
      const [oldRoot, root] = [bytes(one.root1), bytes(one.root2)];
      verifyConsistency({ oldSize: size1, oldRoot, size: size2, root, proof });
    }
    return true;
  } catch (error) {
    expect(error, name).toMatchObject({ code: "ERR_NONO_AUDIT_PROOF" });
    return false;
  }
}

describe("transparency-dev/merkle", () => {
  const cases = Object.entries(JSON.parse(read("merkle.json")) as Record<string, MerkleCase>);
  // Two that they accept have nine bytes of text for both roots. We take only what can be a hash; and of the empty
  // tree, which everything extends, no proof at all.
  const noHash =
    "consistency/additional/sizes-are-equal-and-proof-is-not-empty-where-both-sizes-are";

  test("all proofs get the published verdict", () => {
    const different = cases.filter(([name, one]) => acceptsProof(name, one) === one.wantErr);
    expect(different.map(([name]) => name)).toEqual([`${noHash}-one`, `${noHash}-zero`]);
    expect(different.filter(([, { wantErr }]) => wantErr)).toEqual([]);
    const good = cases.filter(([, { wantErr }]) => !wantErr);
    expect([cases.length, good.length]).toEqual([196, 13]);
  });

  test("with hashes for roots, the one of a tree that is not empty is accepted", () => {
    const root = Buffer.alloc(32, 7).toString("base64");
    const verdicts = [`${noHash}-one`, `${noHash}-zero`].map((name) => {
      const one = Object.fromEntries(cases)[name] as MerkleCase;
      return acceptsProof(name, { ...one, root1: root, root2: root });
    });
    expect(verdicts).toEqual([true, false]);
  });
});

/** Who signs in the conformance suite where a case has no key. */
const beacon = {
  subjectAlternativeName:
    "https://github.com/sigstore-conformance/extremely-dangerous-public-oidc-beacon/.github/workflows/extremely-dangerous-oidc-beacon.yml@refs/heads/main",
  issuer: "https://token.actions.githubusercontent.com",
};

interface Case {
  readonly json: string;
  readonly trustedRoot: string;
  readonly key: string | undefined;
}

function caseOf(set: string, name: string): Case {
  const dir = path.join(testdata, set, name);
  const staging = /rekor-?v?2/.test(name);
  const usual = staging ? "trusted_root_staging.json" : "trusted_root.json";
  return {
    json: read(set, name, "bundle.sigstore.json"),
    trustedRoot:
      readOptional(dir, "trusted_root.json")?.toString() ?? read("sigstore-conformance", usual),
    key: readOptional(dir, "key.pub")?.toString(),
  };
}

const checkpoint = formatCheckpoint({ origin: "nono.local/test", size: 0, root: emptyRoot });

/** What our verifier says of the bundle, and that the evidence for a checkpoint never accepts it. */
async function judge({ json, trustedRoot, key }: Case): Promise<string> {
  const options = { trustedRoot, ...(key === undefined ? { identity: beacon } : { key }) };
  const evidence = sigstoreEvidence(options).verify(json, checkpoint);
  await expect(evidence).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_SIGNATURE" });
  try {
    const { time } = bundleVerifier(options)(json);
    return `signed, ${new Date(time).toISOString()}`;
  } catch (error) {
    expect(error).toMatchObject({ code: "ERR_NONO_AUDIT_SIGNATURE" });
    return (error as Error).message.replace("the Sigstore bundle does not verify: ", "");
  }
}

const conformance = "sigstore-conformance";
const happy = "dsse-with-hashedrekord-happy-path";

describe("sigstore/sigstore-conformance", () => {
  /** Each with the reason, so that none is refused for another one. */
  const supported: Record<string, string> = {
    [happy]: "signed, 2026-05-13T19:47:33.000Z",
    "dsse-with-hashedrekord-invalid-sig_fail": "signature mismatch",
    "dsse-with-hashedrekord-mismatch-envelope_fail": "signature mismatch",
    "dsse-with-hashedrekord-mismatch-sig_fail": "signature mismatch",
    "rekor2-dsse-happy-path": "signed, 2025-07-25T19:53:04.000Z",
    "rekor2-dsse-invalid-sig_fail":
      "Failed to verify certificate chain: certificate is not valid or expired at the specified date",
    "rekor2-dsse-mismatch-envelope_fail": "tlog entry signature mismatch",
    "rekor2-dsse-mismatch-sig_fail": "tlog entry signature mismatch",
  };
  /** We read DSSE envelopes that have a time stamp, in bundles. */
  const outside: Record<string, string> = {
    "cve-2022-36056-swapped-tlog-entry_fail": "invalid bundle",
    "dsse-statement-missing-type_fail": "expected 1 timestamps, got 0",
    "dsse-statement-unknown-type_fail": "expected 1 timestamps, got 0",
    "intoto-canonical-log-entry": "expected 1 timestamps, got 0",
    "invalid-ct-key_fail": "not a DSSE bundle",
    "managed-key-and-trusted-root": "not a DSSE bundle",
    "rekor2-multiple-timestamps-one-outside-cert-validity_fail": "not a DSSE bundle",
  };

  test("no case is without a verdict", () => {
    const entries = readdirSync(path.join(testdata, conformance), { withFileTypes: true });
    const names = entries.filter((one) => one.isDirectory()).map(({ name }) => name);
    expect(names.toSorted()).toEqual(Object.keys({ ...supported, ...outside }).toSorted());
    for (const [name, reason] of Object.entries(supported))
      expect(reason.startsWith("signed"), name).toBe(!name.endsWith("_fail"));
  });

  test.each(Object.entries(supported))("%s: %s", async (name, reason) => {
    expect(await judge(caseOf(conformance, name))).toBe(reason);
  });

  test.each(Object.entries(outside))("%s is refused: %s", async (name, reason) => {
    expect(await judge(caseOf(conformance, name))).toBe(reason);
  });
});

test.each(["missing", "unknown"])("a statement with a type that is %s is none of ours", (what) => {
  const { json } = caseOf(conformance, `dsse-statement-${what}-type_fail`);
  const { payload, payloadType } = (JSON.parse(json) as { dsseEnvelope: Record<string, string> })
    .dsseEnvelope;
  expect(() => checkStatement(payloadType ?? "", bytes(payload), checkpoint)).toThrow(
    "about something else than this checkpoint",
  );
});

test("Rekor v2 as it is now, hashedrekord 0.0.2 over an envelope's encoding, from sigstore-python", async () => {
  const python = caseOf("sigstore-others", "python-dsse-rekor-v2");
  expect(python.json).toContain('"kind":"hashedrekord","version":"0.0.2"');
  expect(await judge(python)).toBe("signed, 2026-05-13T19:23:33.000Z");
});

test("a message signature with a log entry and a time stamp is refused by name (sigstore-rust)", async () => {
  expect(await judge(caseOf("sigstore-others", "rust-managed-key"))).toBe("not a DSSE bundle");
});

interface Interval {
  start?: string;
  end?: string;
}

/** A trusted root as far as the tests change it. */
interface Root {
  tlogs: { baseUrl: string; publicKey: { validFor: Interval } }[];
  timestampAuthorities: { uri: string; certChain: { certificates: [] }; validFor: Interval }[];
}

function rekor({ tlogs }: Root): Interval {
  const log = tlogs.find(({ baseUrl }) => baseUrl === "https://rekor.sigstore.dev");
  return (log as Root["tlogs"][number]).publicKey.validFor;
}

function authority({ timestampAuthorities }: Root): Root["timestampAuthorities"][number] {
  return timestampAuthorities[0] as Root["timestampAuthorities"][number];
}

describe("what the suite says in words about trusted roots, on its happy path", () => {
  const { json, trustedRoot } = caseOf(conformance, happy);
  const signedAt = "2026-05-13T19:47:33Z";
  const before = "2026-05-13T19:47:32Z";
  const verify = (change: (root: Root) => void): VerifiedEnvelope => {
    const root = JSON.parse(trustedRoot) as Root;
    change(root);
    return bundleVerifier({ trustedRoot: root, identity: beacon })(json);
  };

  test("trust-root-tlog-missing-validity-start_fail, and of an authority", () => {
    for (const part of [rekor, (root: Root) => authority(root).validFor])
      expect(() => verify((root) => void delete part(root).start)).toThrow(
        expect.objectContaining({
          code: "ERR_NONO_AUDIT_INPUT",
          message: expect.stringContaining("has no start"),
        }),
      );
  });

  test("trust-root-tlog-validity-end-inclusive", () => {
    expect(verify((root) => (rekor(root).end = signedAt)).who).toBe(beacon.subjectAlternativeName);
    expect(() => verify((root) => (rekor(root).end = before))).toThrow("does not verify");
  });

  test("trust-root-tsa-validity-end-inclusive", () => {
    expect(verify((root) => (authority(root).validFor.end = signedAt)).time).toBe(
      Date.parse(signedAt),
    );
    expect(() => verify((root) => (authority(root).validFor.end = before))).toThrow(
      "timestamp could not be verified",
    );
  });

  test("rekor2-timestamp-wrong-tsa-validity-borrow_fail", () => {
    expect(() =>
      verify((root) => {
        authority(root).validFor.end = before;
        const validFor = { start: "2026-05-01T00:00:00Z", end: "2026-06-01T00:00:00Z" };
        root.timestampAuthorities.push({
          ...authority(root),
          certChain: { certificates: [] },
          validFor,
        });
      }),
    ).toThrow("timestamp could not be verified");
  });
});

describe("a good bundle for somebody else", () => {
  const { json, trustedRoot } = caseOf(conformance, happy);
  const key = read(conformance, "dsse-statement-missing-type_fail", "key.pub");

  test("is refused where a key is asked for, although its certificate is one of the root's", () => {
    expect(() => bundleVerifier({ trustedRoot, key })(json)).toThrow("signed by a certificate");
  });

  test("is refused where another identity or issuer is asked for, be it a part or a pattern of it", () => {
    const { subjectAlternativeName: name, issuer } = beacon;
    for (const change of [
      { subjectAlternativeName: name.slice(0, -1) },
      { subjectAlternativeName: name.replaceAll(".", "?") },
      { subjectAlternativeName: ".*" },
      { subjectAlternativeName: "" },
      { issuer: issuer.slice(0, -1) },
    ])
      expect(() =>
        bundleVerifier({ trustedRoot, identity: { ...beacon, ...change } })(json),
      ).toThrow(`signed by ${name} of ${issuer}, not by`);
  });

  test("is refused with a second signature", () => {
    const bundle = JSON.parse(json) as { dsseEnvelope: { signatures: object[] } };
    bundle.dsseEnvelope.signatures.push(bundle.dsseEnvelope.signatures[0] as object);
    const verify = bundleVerifier({ trustedRoot, identity: beacon });
    expect(() => verify(JSON.stringify(bundle))).toThrow("invalid bundle");
  });
});
