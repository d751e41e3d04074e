import { execFile, spawnSync } from "node:child_process";
import { createPrivateKey, generateKeyPairSync } from "node:crypto";
import { chmodSync, readFileSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";
import { HostLedger, keyFileSigner, noteVerifier, openAuditLog, verifyLog } from "../src/index.ts";
import { connectEvent, origin, temporaryDirectory } from "./helpers/logs.ts";
import { patience } from "./helpers/patience.ts";
import { askOracle, oracleDirectory } from "./helpers/oracles.ts";

describe("key files", () => {
  test("of mode 0600, made once, the same for every process that races for it", async () => {
    const keyFile = path.join(temporaryDirectory(), "key");
    const { vkey } = keyFileSigner(keyFile, "nono.local/x");
    expect(statSync(keyFile).mode & 0o777).toBe(0o600);
    expect(keyFileSigner(keyFile, "nono.local/x").vkey).toBe(vkey);
    const script = `import { keyFileSigner } from ${JSON.stringify(path.resolve(import.meta.dirname, "../src/index.ts"))};
      console.log(keyFileSigner(process.argv[1], "nono.local/x").vkey);`;
    const raced = path.join(temporaryDirectory(), "key");
    const processes = Array.from({ length: 4 }, () =>
      promisify(execFile)(process.execPath, ["--input-type=module", "-e", script, raced]),
    );
    expect(new Set((await Promise.all(processes)).map(({ stdout }) => stdout)).size).toBe(1);
  });

  test("that others can read, or that hold no key, are refused", () => {
    const keyFile = path.join(temporaryDirectory(), "key");
    keyFileSigner(keyFile, "nono.local/x");
    chmodSync(keyFile, 0o644);
    expect(() => keyFileSigner(keyFile, "nono.local/x")).toThrow("can be read by others");
    const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-384" });
    const p384 = privateKey.export({ format: "pem", type: "pkcs8" });
    for (const [n, text] of ["", "abc", p384, "-----BEGIN X-----"].entries()) {
      const bad = path.join(temporaryDirectory(), String(n));
      writeFileSync(bad, text, { mode: 0o600 });
      expect(() => keyFileSigner(bad, "nono.local/x")).toThrow("neither 32 bytes in hex nor");
    }
  });

  test("may hold a P-256 key: the ledger it signs is checked by others too", async () => {
    const state = temporaryDirectory();
    const host = "nono.local/test";
    const keyFile = path.join(state, "host.pem");
    const hostSigner = keyFileSigner(keyFile, host, "p256");
    expect(createPrivateKey(readFileSync(keyFile)).asymmetricKeyDetails?.namedCurve).toBe(
      "prime256v1",
    );
    expect(keyFileSigner(keyFile, host).vkey).toBe(hostSigner.vkey);
    const ledger = new HostLedger({
      dir: path.join(state, "ledger"),
      origin: host,
      signer: hostSigner,
    });
    const dir = path.join(state, "log");
    const log = await openAuditLog({ dir, origin, ledger });
    await log.record(connectEvent(1));
    await log.close("done");
    expect(await verifyLog(dir, { ledgerKeys: [hostSigner.vkey] })).toMatchObject({
      verdict: "SIGNED",
      ok: true,
    });
    if (oracleDirectory()) {
      const note = readFileSync(path.join(ledger.dir, "checkpoint"), "utf8");
      expect(askOracle(["note", hostSigner.vkey], note)).toEqual({ ok: true, output: "1\n" });
    }
  });
});

const needed = ["dbus-run-session", "gnome-keyring-daemon", "secret-tool"];
const missing = needed.filter((name) => spawnSync("which", [name]).status !== 0);
if (missing.length > 0) console.log(`SKIPPED: audit keyring test: no ${missing.join(", ")}`);

describe.skipIf(missing.length > 0)("a real keyring (gnome-keyring)", () => {
  test("keeps a key of either kind, and the same signer comes back", () => {
    const home = temporaryDirectory();
    const script = path.join(import.meta.dirname, "helpers/keyring-signer.ts");
    const { stdout, stderr } = spawnSync("dbus-run-session", ["--", process.execPath, script], {
      encoding: "utf8",
      env: { PATH: process.env.PATH, HOME: home, XDG_RUNTIME_DIR: home, LANG: "C.UTF-8" },
      timeout: patience,
    });
    const lines = stdout.split("\n").filter((line) => line.startsWith("{"));
    expect(lines, stderr).toHaveLength(3);
    for (const line of lines.slice(0, 2)) {
      const { first, again, signature } = JSON.parse(line) as Record<string, string>;
      expect(again).toBe(first);
      const bytes = Buffer.from(signature ?? "", "base64");
      expect(noteVerifier(again ?? "").verify("text\n", bytes)).toBeDefined();
    }
    expect(lines[2]).toContain("keyring entry nono/other holds neither");
  });
});
