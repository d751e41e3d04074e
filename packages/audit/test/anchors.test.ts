import { generateKeyPairSync } from "node:crypto";
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test, vi } from "vitest";
import {
  ed25519Signer,
  HostLedger,
  openAuditLog,
  parseNote,
  verifyLog,
  witnessAnchor,
  type Anchor,
} from "../src/index.ts";
import { runAuditCommand } from "../src/cli.ts";
import { layout } from "../src/layout.ts";
import { sigstoreAnchor, sigstoreEvidence } from "../src/sigstore.ts";
import { checkpointStatement, predicateType } from "../src/statement.ts";
import { connectEvent, origin, temporaryDirectory } from "./helpers/logs.ts";
import { askCosign, askOracle, cosignProgram, oracleDirectory } from "./helpers/oracles.ts";
import { startFulcio, startSigstore, startWitness } from "./helpers/servers.ts";

const host = "nono.local/test";
const hostSigner = ed25519Signer(host, Buffer.alloc(32, 9));
const p256 = generateKeyPairSync("ec", { namedCurve: "P-256" });
const anchorKey = p256.privateKey.export({ format: "pem", type: "pkcs8" }).toString();
const anchorPublic = p256.publicKey.export({ format: "pem", type: "spki" }).toString();

function ledgerAt(dir: string, anchors: readonly Anchor[]): HostLedger {
  return new HostLedger({ dir, origin: host, signer: hostSigner, anchors });
}

async function anchoredSession(ledger: HostLedger, session = origin): Promise<string> {
  const dir = path.join(temporaryDirectory(), "log");
  const log = await openAuditLog({ dir, origin: session, ledger });
  for (let n = 0; n < 5; n += 1) await log.record(connectEvent(n));
  await log.close("done");
  const results = await log.anchored;
  expect(results.map(({ error }) => error)).toEqual(results.map(() => undefined));
  return dir;
}

/** `nono audit anchor` with the witness in a policy file. */
async function runAnchor(
  dir: string,
  { url, vkey }: { url: string; vkey: string },
): Promise<{ code: number; out: string }> {
  const files = temporaryDirectory();
  const [policy, keyFile] = [path.join(files, "policy"), path.join(files, "key")];
  writeFileSync(policy, `witness w1 ${vkey} ${url}\nquorum w1\n`);
  writeFileSync(keyFile, Buffer.alloc(32, 9).toString("hex"), { mode: 0o600 });
  let out = "";
  const argv = ["anchor", dir, "--origin", host, "--key-file", keyFile, "--policy", policy];
  const code = await runAuditCommand(argv, {
    stdout: (text) => (out += text),
    stderr: (text) => (out += text),
  });
  return { code, out };
}

const withServices = describe.skipIf(oracleDirectory() === undefined);

withServices("a real witness (litewitness)", () => {
  test("cosigns the ledger's heads: sessions become WITNESSED, and another history is refused", async () => {
    const witness = await startWitness(host, hostSigner.vkey);
    const anchor = (): Anchor =>
      witnessAnchor({ name: "w1", url: witness.url, keys: [witness.vkey] });
    const ledgerDir = path.join(temporaryDirectory(), "ledger");
    const policy = {
      witnesses: `log ${hostSigner.vkey}\nwitness w1 ${witness.vkey}\nquorum w1\n`,
      require: "WITNESSED" as const,
    };
    const dir = await anchoredSession(ledgerAt(ledgerDir, [anchor()]));
    const report = await verifyLog(dir, policy);
    expect(report).toMatchObject({
      verdict: "WITNESSED",
      ok: true,
      tail: { entries: 0, seconds: 0 },
    });
    expect(await verifyLog(ledgerDir, policy)).toMatchObject({ verdict: "WITNESSED", ok: true });
    expect(
      askOracle(
        ["note", hostSigner.vkey, witness.vkey],
        readFileSync(path.join(ledgerDir, "checkpoint"), "utf8"),
      ),
    ).toMatchObject({ ok: true, output: "2\n" });

    // A second session, by a client that does not know the witness's size: 409, then a consistency proof.
    const backup = path.join(temporaryDirectory(), "backup");
    cpSync(ledgerDir, backup, { recursive: true });
    expect(
      await verifyLog(
        await anchoredSession(ledgerAt(ledgerDir, [anchor()]), `${host}/session/2`),
        policy,
      ),
    ).toMatchObject({ verdict: "WITNESSED" });

    expect(await runAnchor(ledgerDir, witness)).toMatchObject({
      code: 0,
      out: expect.stringContaining("w1: has seen"),
    });

    // The host is restored from a backup: its ledger goes back, the witness does not.
    for (const name of readdirSync(ledgerDir))
      rmSync(path.join(ledgerDir, name), { recursive: true });
    cpSync(backup, ledgerDir, { recursive: true });
    const restored = ledgerAt(ledgerDir, [anchor()]);
    const [result] = await restored.anchor();
    expect(result?.error).toMatchObject({ code: "ERR_NONO_AUDIT_FORK" });
    await expect(restored.append([])).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_FORK" });

    // With the stolen key, another history under the same name: refused as well.
    const rewritten = ledgerAt(path.join(temporaryDirectory(), "ledger"), [anchor()]);
    const erased = { type: "entry.erased", session: "x", entry: 1, fields: 1 } as const;
    await rewritten.append(Array.from({ length: 20 }, () => erased));
    expect((await rewritten.anchor())[0]?.error).toMatchObject({ code: "ERR_NONO_AUDIT_FORK" });
    expect(await runAnchor(ledgerDir, witness)).toMatchObject({ code: 1 });
    witness.stop();
  });

  test("an unreachable witness is a result, not a failure of the log; it is tried again", async () => {
    const ledger = ledgerAt(path.join(temporaryDirectory(), "ledger"), [
      witnessAnchor({ name: "w", url: "http://127.0.0.1:1", keys: [hostSigner.vkey] }),
    ]);
    const log = await openAuditLog({ dir: path.join(temporaryDirectory(), "log"), origin, ledger });
    await log.close("done");
    expect(await log.anchored).toMatchObject([
      { anchor: "w", error: { code: "ERR_NONO_AUDIT_ANCHOR" } },
    ]);
    expect(await ledger.anchor()).toMatchObject([{ error: { code: "ERR_NONO_AUDIT_ANCHOR" } }]);
  });
});

withServices("offline first", () => {
  test("what was recorded without the witness is WITNESSED once a later run reaches it", async () => {
    const witness = await startWitness(host, hostSigner.vkey);
    const policy = {
      witnesses: `log ${hostSigner.vkey}\nwitness w1 ${witness.vkey}\nquorum w1\n`,
      require: "WITNESSED" as const,
    };
    let isOnline = false;
    const online = witnessAnchor({ name: "w1", url: witness.url, keys: [witness.vkey] });
    const flaky: Anchor = {
      name: "w1",
      submit: async (head, consistencyFrom) => {
        if (!isOnline) throw new Error("no network");
        return online.submit(head, consistencyFrom);
      },
    };
    const ledger = ledgerAt(path.join(temporaryDirectory(), "ledger"), [flaky]);
    const session = async (name: string): Promise<string> => {
      const dir = path.join(temporaryDirectory(), "log");
      const log = await openAuditLog({ dir, origin: name, ledger });
      await log.record(connectEvent(1));
      await log.close("done");
      await log.anchored;
      return dir;
    };
    const early = await session(`${host}/session/1`);
    expect(await verifyLog(early, policy)).toMatchObject({ verdict: "SIGNED", ok: false });
    isOnline = true;
    const late = await session(`${host}/session/2`);
    for (const dir of [early, late]) {
      expect(await verifyLog(dir, policy)).toMatchObject({
        verdict: "WITNESSED",
        ok: true,
        tail: { entries: 0 },
      });
    }
    expect(readdirSync(path.join(ledger.dir, layout.due))).toEqual([]);
    witness.stop();
  });
});

describe("an anchor that takes its time", () => {
  test("does not hold the ledger: other sessions go on", async () => {
    const { promise: answer, resolve: release } = Promise.withResolvers<void>();
    const slow: Anchor = {
      name: "slow",
      submit: async () => {
        await answer;
        return { kind: "bundle", json: "{}" };
      },
    };
    const ledger = ledgerAt(path.join(temporaryDirectory(), "ledger"), [slow]);
    await ledger.append([{ type: "entry.erased", session: "s", entry: 1, fields: 1 }]);
    const anchoring = ledger.anchor();
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openAuditLog({ dir, origin, ledger: ledgerAt(ledger.dir, []) });
    await log.close("done");
    release();
    expect(await anchoring).toEqual([{ anchor: "slow", size: 2 }]);
    expect(readdirSync(path.join(ledger.dir, layout.anchors))).toEqual(["2.slow.sigstore.json"]);
  });
});

withServices("a real Rekor v2 and a real time-stamp authority", () => {
  test("bundles make sessions TIMED, for us and for sigstore-go", async () => {
    const { rekorUrl, tsaUrl, trustedRoot } = await startSigstore();
    const ledgerDir = path.join(temporaryDirectory(), "ledger");
    const ledger = ledgerAt(ledgerDir, [
      sigstoreAnchor({ name: "rekor", key: anchorKey, rekorUrl, tsaUrl }),
      sigstoreAnchor({ name: "tsa", key: anchorKey, tsaUrl }),
    ]);
    const before = Date.now();
    const dir = await anchoredSession(ledger);
    const policy = { ledgerKeys: [hostSigner.vkey], require: "TIMED" as const };
    const evidence = [
      sigstoreEvidence({ trustedRoot, key: anchorPublic }),
      sigstoreEvidence({ trustedRoot, key: anchorPublic, tlogThreshold: 0 }),
    ];
    for (const target of [dir, ledgerDir]) {
      const report = await verifyLog(target, { ...policy, evidence });
      expect(report).toMatchObject({
        verdict: "TIMED",
        ok: true,
        tail: { entries: 0 },
        problems: [],
      });
      for (const { time } of report.seenBy) expect(Math.abs(time - before)).toBeLessThan(60_000);
    }
    // Without a reader of bundles they prove nothing; with another key they are refused.
    expect(await verifyLog(dir, policy)).toMatchObject({ verdict: "SIGNED", ok: false });
    const stranger = generateKeyPairSync("ec", { namedCurve: "P-256" })
      .publicKey.export({ format: "pem", type: "spki" })
      .toString();
    expect(
      await verifyLog(dir, {
        ...policy,
        evidence: [sigstoreEvidence({ trustedRoot, key: stranger })],
      }),
    ).toMatchObject({ verdict: "TAMPERED" });

    const files = temporaryDirectory();
    const [root, key, artifact] = ["root.json", "key.pem", "checkpoint"].map((name) =>
      path.join(files, name),
    ) as [string, string, string];
    writeFileSync(root, JSON.stringify(trustedRoot));
    writeFileSync(key, anchorPublic);
    const { text } = parseNote(readFileSync(path.join(ledgerDir, "checkpoint")));
    writeFileSync(artifact, text);
    const bundle =
      readdirSync(path.join(ledgerDir, layout.anchors)).find((name) => name.includes("rekor")) ??
      "";
    const ask = (): { ok: boolean; output: string } =>
      askOracle(["bundle", root, key, artifact, path.join(ledgerDir, layout.anchors, bundle)]);
    expect(ask()).toMatchObject({ ok: true });
    writeFileSync(artifact, text.replace("\n", "x\n"));
    expect(ask().ok).toBe(false);

    // cosign, which knows nothing of us: the statement, the log entry, and the time stamp, all of it offline.
    if (cosignProgram() !== undefined) {
      writeFileSync(artifact, text);
      const bundleFile = path.join(ledgerDir, layout.anchors, bundle);
      const cosign = (file: string, ...trust: string[]): { ok: boolean; output: string } =>
        verifyByCosign(file, artifact, root, trust);
      expect(cosign(bundleFile, "--key", key)).toMatchObject({ ok: true });
      const strangerKey = path.join(files, "stranger.pem");
      writeFileSync(strangerKey, stranger);
      expect(cosign(bundleFile, "--key", strangerKey).ok).toBe(false);
      const json = readFileSync(bundleFile, "utf8");
      const damaged = path.join(files, "damaged.json");
      // cosign reads the root from the log's signed checkpoint, not from the copy of it beside.
      for (const part of signedParts.filter((name) => name !== "rootHash")) {
        writeFileSync(damaged, flipIn(json, part));
        expect(cosign(damaged, "--key", key).ok, part).toBe(false);
      }
      writeFileSync(artifact, text.replace("\n", "x\n"));
      expect(cosign(bundleFile, "--key", key).ok).toBe(false);
    }

    // The bundle alone, from the command line.
    const alone = path.join(ledgerDir, layout.anchors, bundle);
    expect(await verifyLog(alone, { evidence, require: "TIMED" })).toMatchObject({
      kind: "bundle",
      verdict: "TIMED",
      ok: true,
      origin: host,
    });
    expect(await verifyLog(alone)).toMatchObject({ verdict: "INTACT", ok: false });
    const trusted = ["--root", root, "--evidence-key", key];
    const io = { stdout: (): void => undefined, stderr: (): void => undefined };
    expect(await runAuditCommand(["verify", alone, ...trusted, "--require", "timed"], io)).toBe(0);
    expect(
      await runAuditCommand(
        ["verify", dir, ...trusted, "--ledger-key", hostSigner.vkey, "--require", "timed"],
        io,
      ),
    ).toBe(0);
    expect(await runAuditCommand(["verify", root, ...trusted], io)).toBe(1);

    // Every region of the bundle that is covered by a signature, flipped.
    const file = path.join(dir, layout.anchors, bundle);
    const original = readFileSync(file, "utf8");
    for (const part of signedParts) {
      writeFileSync(file, flipIn(original, part));
      const report = await verifyLog(dir, { ...policy, evidence: evidence.slice(0, 1) });
      expect(report, part).toMatchObject({ verdict: "TAMPERED" });
    }
  });
});

/** Members of a bundle whose every byte is under some signature or hash. */
const signedParts = ["canonicalizedBody", "payload", "signedTimestamp", "rootHash", "sig"];

/** The bundle with one character of a member changed. */
function flipIn(json: string, part: string): string {
  const at = json.indexOf(`"${part}":"`) + part.length + 30;
  return json.slice(0, at) + (json[at] === "A" ? "B" : "A") + json.slice(at + 1);
}

/** The real cosign, with nothing but files. */
function verifyByCosign(
  bundle: string,
  artifact: string,
  root: string,
  trust: readonly string[],
): { ok: boolean; output: string } {
  const what = ["verify-blob-attestation", "--new-bundle-format", "--bundle", bundle];
  const how = ["--trusted-root", root, "--use-signed-timestamps", "--type", predicateType];
  return askCosign([...what, ...how, ...trust, artifact]);
}

function base64Json(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}

withServices("without a key of our own", () => {
  test("a Fulcio certificate, real Rekor v2 and TSA: the identity is what is verified", async () => {
    const [{ rekorUrl, tsaUrl, trustedRoot }, { url, ...authorities }] = await Promise.all([
      startSigstore(),
      startFulcio(),
    ]);
    const token = `${base64Json({ alg: "none" })}.${base64Json({ sub: "ci@example.com", iss: "https://issuer.test", aud: "sigstore" })}.${base64Json({})}`;
    const identity = { getToken: (): Promise<string> => Promise.resolve(token) };
    const ledger = ledgerAt(path.join(temporaryDirectory(), "ledger"), [
      sigstoreAnchor({ name: "keyless", fulcio: { url, identity }, rekorUrl, tsaUrl }),
    ]);
    const dir = await anchoredSession(ledger);
    const reader = (subjectAlternativeName: string): ReturnType<typeof sigstoreEvidence> =>
      sigstoreEvidence({
        trustedRoot: { ...trustedRoot, ...authorities },
        identity: { subjectAlternativeName, issuer: "https://issuer.test" },
      });
    if (cosignProgram() !== undefined) {
      const files = temporaryDirectory();
      const [root, artifact] = [path.join(files, "root.json"), path.join(files, "checkpoint")];
      writeFileSync(root, JSON.stringify({ ...trustedRoot, ...authorities }));
      writeFileSync(artifact, parseNote(readFileSync(path.join(ledger.dir, "checkpoint"))).text);
      const [name = ""] = readdirSync(path.join(ledger.dir, layout.anchors));
      const cosign = (email: string): boolean =>
        verifyByCosign(path.join(ledger.dir, layout.anchors, name), artifact, root, [
          `--certificate-identity=${email}`,
          "--certificate-oidc-issuer=https://issuer.test",
        ]).ok;
      expect(cosign("ci@example.com")).toBe(true);
      expect(cosign("other@example.com")).toBe(false);
    }
    const policy = { ledgerKeys: [hostSigner.vkey], require: "TIMED" as const };
    expect(await verifyLog(dir, { ...policy, evidence: [reader("ci@example.com")] })).toMatchObject(
      { verdict: "TIMED", ok: true },
    );
    expect(
      await verifyLog(dir, { ...policy, evidence: [reader("other@example.com")] }),
    ).toMatchObject({ verdict: "TAMPERED" });
    const root = path.join(temporaryDirectory(), "root.json");
    writeFileSync(root, JSON.stringify({ ...trustedRoot, ...authorities }));
    const trust = ["--ledger-key", hostSigner.vkey, "--require", "TIMED", "--root", root];
    trust.push("--evidence-issuer", "https://issuer.test", "--evidence-identity");
    const io = { stdout: (): void => undefined, stderr: (): void => undefined };
    const byCommand = (email: string): Promise<number> =>
      runAuditCommand(["verify", dir, ...trust, email], io);
    expect(await byCommand("ci@example.com")).toBe(0);
    expect(await byCommand("other@example.com")).toBe(1);

    // The whole of it by command, with the token where a CI job has it.
    const key = path.join(temporaryDirectory(), "key");
    writeFileSync(key, Buffer.alloc(32, 9).toString("hex"), { mode: 0o600 });
    const services = ["--fulcio", url, "--rekor", rekorUrl, "--tsa", tsaUrl];
    const anchor = ["anchor", ledger.dir, "--origin", host, "--key-file", key, ...services];
    vi.stubEnv("SIGSTORE_ID_TOKEN", token);
    expect(await runAuditCommand(anchor, io)).toBe(0);
    vi.unstubAllEnvs();
    const names = readdirSync(path.join(ledger.dir, layout.anchors));
    const made = names.find((name) => name.includes(".rekor.")) ?? "";
    const alone = path.join(ledger.dir, layout.anchors, made);
    const argv = ["verify", alone, ...trust.slice(2), "ci@example.com"];
    expect(await runAuditCommand(argv, io)).toBe(0);
    expect(await runAuditCommand([...anchor, "--anchor-key", key], io)).toBe(3);
  });
});

describe("Sigstore options", () => {
  test.each([
    [{ name: "x", key: anchorKey }, "needs a Rekor v2 URL or a TSA URL"],
    [{ name: "x", rekorUrl: "http://127.0.0.1:1" }, "either a key or Fulcio"],
    [
      { name: "x", key: generateKeyPairSync("ed25519").privateKey, tsaUrl: "http://127.0.0.1:1" },
      "must be P-256",
    ],
  ])("refuses %j", (options, message) => expect(() => sigstoreAnchor(options)).toThrow(message));

  test("odd bundles are refused, never thrown raw", async () => {
    const evidence = sigstoreEvidence({
      trustedRoot: { mediaType: "application/vnd.dev.sigstore.trustedroot+json;version=0.1" },
      key: anchorPublic,
    });
    const text = "o\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
    for (const json of [
      "",
      "{}",
      "null",
      "[]",
      '{"mediaType":5}',
      JSON.stringify({ dsseEnvelope: { payload: checkpointStatement(text).toString("base64") } }),
    ]) {
      await expect(evidence.verify(json, text)).rejects.toMatchObject({
        code: "ERR_NONO_AUDIT_SIGNATURE",
      });
    }
  });
});
