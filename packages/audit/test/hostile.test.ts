// A directory, a proof or a name that somebody else has made: what reads it ends, and says what is wrong.
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, rmSync, symlinkSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { expect, test } from "vitest";
import { runAuditCommand } from "../src/cli.ts";
import { ed25519Signer, formatNote, formatProof, HostLedger, verifyLog } from "../src/index.ts";
import { formatCheckpoint } from "../src/checkpoint.ts";
import { leafHash } from "../src/merkle.ts";
import { parseNote } from "../src/note.ts";
import { closedLog, openTestLog, seed, signer, temporaryDirectory } from "./helpers/logs.ts";

const policy = { keys: [signer.vkey] };

const replacements: Readonly<Record<string, (file: string) => void>> = {
  "a pipe": (file) => spawnSync("mkfifo", [file]),
  "a device": (file) => symlinkSync("/dev/zero", file),
  "a directory": (file) => mkdirSync(file),
  "a file full of holes": (file) => {
    writeFileSync(file, "");
    truncateSync(file, 2 ** 41);
  },
};

test.each(Object.entries(replacements))("%s in place of any file", async (_what, replace) => {
  const dir = await closedLog(20);
  const names = readdirSync(dir, { recursive: true, encoding: "utf8" });
  const evidence = names.filter((name) => /^checkpoint$|\.p\/|\/(head|heads\/\d+)$/.test(name));
  expect(evidence.length).toBeGreaterThan(4);
  for (const name of evidence) {
    const file = path.join(dir, name);
    const aside = spawnSync("mv", [file, `${dir}.aside`]);
    expect(aside.status).toBe(0);
    replace(file);
    const report = await verifyLog(dir, policy);
    expect(report.verdict, name).toBe("TAMPERED");
    expect(JSON.stringify(report.problems)).toMatch(/no regular file|has \d+ bytes/);
    rmSync(file, { recursive: true });
    spawnSync("mv", [`${dir}.aside`, file]);
  }
  expect((await verifyLog(dir, policy)).verdict).toBe("SIGNED");
});

test("a proof of an entry at a time that is none proves nothing, and breaks nothing", async () => {
  const members = '"seq":0,"session":"s","type":"log.open","v":1';
  const records = [
    `{"decision":"allow","object":{},"phase":"event","time":9000000000000000,${members}}`,
    '{"seq":0,"session":"s","time":"soon","type":"session.open","v":1}',
    '{"seq":0,"session":7,"time":1,"type":"session.open","v":1}',
    "7",
  ];
  for (const record of records) {
    const extra = Buffer.from(record);
    const text = formatCheckpoint({ origin: "evil.test", size: 1, root: leafHash(extra) });
    const evil = ed25519Signer("evil.test", seed);
    const [, id = ""] = evil.vkey.split("+");
    const signature = Buffer.from(await evil.sign(text));
    const signatures = [{ name: "evil.test", keyId: Number.parseInt(id, 16), signature }];
    const checkpoint = formatNote({ text, signatures });
    expect(parseNote(checkpoint).signatures).toHaveLength(1);
    const file = path.join(temporaryDirectory(), "0.tlog-proof");
    writeFileSync(file, formatProof({ index: 0, extra, hashes: [], checkpoint }));
    const report = await verifyLog(file, { keys: [evil.vkey] });
    expect(report.ok, record).toBe(false);
    expect(report.problems[0]?.code).toBe("ERR_NONO_AUDIT_FORMAT");
  }
});

test("what a terminal would obey is in no output", async () => {
  const session = "nono.local/\u{202e}gnp.exe";
  const key = ed25519Signer(session, seed);
  const dir = path.join(temporaryDirectory(), "log");
  const log = await openTestLog(dir, { origin: session, signer: key });
  await log.record({
    type: "file.open",
    phase: "event",
    decision: "deny",
    object: { path: "/\u{9b}2J\u{202e}" },
  });
  await log.close("done");
  const ledgerDir = temporaryDirectory();
  const own = ed25519Signer("nono.local/h", seed);
  const ledger = new HostLedger({ dir: ledgerDir, origin: "nono.local/h", signer: own });
  await ledger.append([{ type: "entry.erased", session, entry: 1, fields: 1 }]);
  const trust = ["--key", key.vkey, "--require", "INTACT"];
  for (const argv of [
    ["verify", dir, ...trust],
    ["verify", dir, "--json", ...trust],
    ["show", dir],
    ["show", dir, "--json"],
    ["export", dir],
    ["export", dir, "--format", "ocsf"],
    ["doctor", ledgerDir],
    ["doctor", ledgerDir, "--json"],
    ["verify", `${dir}\u{202e}`, "--json"],
  ]) {
    let out = "";
    const stdout = (text: string): void => void (out += text);
    await runAuditCommand(argv, { stdout, stderr: stdout });
    expect(out, argv.join(" ")).toContain(String.raw`\u202e`);
    expect(out.replaceAll("\n", "")).not.toMatch(/[\p{Cc}\p{Cf}]/u);
  }
});
