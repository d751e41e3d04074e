import { readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { runAuditCommand, type HostRecords } from "../src/cli.ts";
import {
  HostLedger,
  keyFileSigner,
  openAuditLog,
  verifyLog,
  type Entry,
  type Report,
} from "../src/index.ts";
import {
  closedLog,
  connectEvent,
  openTestLog,
  origin,
  signer,
  temporaryDirectory,
} from "./helpers/logs.ts";

interface Answer {
  code: number;
  out: string;
  err: string;
}

const run = (...argv: string[]): Promise<Answer> => runWith(argv);

async function runWith(argv: readonly string[], records?: HostRecords): Promise<Answer> {
  let out = "";
  let err = "";
  const code = await runAuditCommand(argv, {
    stdout: (text) => (out += text),
    stderr: (text) => (err += text),
    ...(records && { records }),
  });
  return { code, out, err };
}

describe("without a directory", () => {
  test("the last run is meant, as the ledger has it", async () => {
    const host = temporaryDirectory();
    const records = {
      ledger: path.join(host, "ledger"),
      sessions: path.join(host, "sessions"),
      vkey: async () => signer.vkey,
    };
    const inHost = (...argv: string[]): Promise<Answer> => runWith(argv, records);
    expect(await inHost("show")).toMatchObject({ code: 3, err: expect.stringMatching(/no run/) });
    const signer = keyFileSigner(path.join(host, "key"), "nono.local/h");
    const ledger = new HostLedger({ dir: records.ledger, origin: "nono.local/h", signer });
    const logs: string[] = [];
    // More than a bundle of the ledger lies between the last opening and its end.
    for (const [name, erasures] of [
      ["zzz", 0],
      ["aaa", 300],
    ] as const) {
      const log = await openAuditLog({
        dir: path.join(records.sessions, name),
        origin: `nono.local/h/session/${name}`,
        ledger,
      });
      await log.record(connectEvent(1));
      await log.close("done");
      const session = log.origin;
      const erased = { type: "entry.erased", session, entry: 0, fields: 1 } as const;
      if (erasures > 0) await ledger.append(Array.from({ length: erasures }, () => erased));
      logs.push(log.dir);
    }
    const last = logs[1] as string;
    // Whom to trust is for the user to say; what the host's own key is can be told.
    const mine = ["--ledger-key", signer.vkey];
    expect(await inHost("verify")).toMatchObject({
      code: 2,
      err: expect.stringContaining(mine.join(" ")),
    });
    expect(await inHost("verify", ...mine)).toMatchObject({ code: 0, err: "" });
    expect(await inHost("doctor", ...mine)).toMatchObject({
      code: 0,
      out: expect.stringContaining(`elsewhere: ${signer.vkey}\n`),
    });
    // A look at one's own records needs no other key; one that was named is the only one that counts.
    expect(await inHost("doctor")).toMatchObject({
      code: 0,
      out: expect.stringMatching(/^SIGNED/),
    });
    expect(await inHost("doctor", "--require", "witnessed")).toMatchObject({ code: 2 });
    const stranger = keyFileSigner(path.join(host, "stranger"), "nono.local/h").vkey;
    expect(await inHost("doctor", "--ledger-key", stranger)).toMatchObject({ code: 2 });
    expect(JSON.parse((await inHost("doctor", "--json")).out)).toMatchObject({ vkey: signer.vkey });
    for (const command of ["show", "tail", "export"]) {
      const answer = await inHost(command);
      expect(answer).toEqual(await run(command, last));
      expect(answer.out).not.toBe("");
    }
    expect(await inHost("prove", "1")).toEqual(await run("prove", last, "1"));
    expect((await inHost("doctor")).out).toContain("session/aaa");
    rmSync(last, { recursive: true });
    expect(await inHost("show")).toMatchObject({
      code: 1,
      err: expect.stringContaining("session/aaa, is missing"),
    });
    expect(await inHost("doctor")).toMatchObject({
      code: 1,
      out: expect.stringContaining("MISSING"),
    });
    rmSync(records.ledger, { recursive: true });
    expect(await inHost("doctor")).toMatchObject({
      code: 1,
      err: expect.stringContaining("the ledger is missing"),
    });
    rmSync(records.sessions, { recursive: true });
    expect(await inHost("doctor")).toMatchObject({ code: 0, out: "no run is on record\n" });
  });

  test("one must be named where the host's records are not known", async () => {
    for (const command of ["show", "tail", "verify", "export", "doctor"])
      expect(await run(command)).toMatchObject({
        code: 3,
        err: expect.stringMatching(/^nono audit: name the/),
      });
  });
});

describe("nono audit", () => {
  test("every command has --json, and says there what went wrong", async () => {
    const dir = await closedLog(12);
    const report = JSON.parse((await run("verify", dir, "--json")).out) as Report;
    expect(report).toMatchObject({ verdict: "INTACT", size: 12 });
    const shown = (await run("show", dir, "--json", "--decision", "deny")).out
      .trimEnd()
      .split("\n");
    expect(shown.map((line) => (JSON.parse(line) as Entry).decision)).toEqual(
      Array.from({ length: 4 }, () => "deny"),
    );
    expect(JSON.parse((await run("tail", dir, "--json", "-n", "1")).out)).toMatchObject({
      type: "log.close",
    });
    const { proof } = JSON.parse((await run("prove", dir, "3", "--json")).out) as { proof: string };
    expect(proof).toBe((await run("prove", dir, "3")).out);
    expect(JSON.parse((await run("export", dir, "--json", "--to", "1")).out)).toMatchObject({
      seq: 0,
    });
    for (const [argv, code, exit] of [
      [["show", dir, "--json", "--from", "x"], "ERR_NONO_AUDIT_USAGE", 3],
      [["prove", dir, "12", "--json"], "ERR_NONO_AUDIT_INPUT", 3],
      [["verify", `${dir}/nowhere`, "--json"], "ERR_NONO_AUDIT_INPUT", 3],
    ] as const) {
      const { code: status, out, err } = await run(...argv);
      expect([status, JSON.parse(out)]).toMatchObject([exit, { error: { code } }]);
      expect(err).toMatch(/^nono audit: /);
    }
    rmSync(path.join(dir, "tile/entries"), { recursive: true });
    expect(await run("prove", dir, "3", "--json")).toMatchObject({ code: 1 });
  });

  test("names that an agent chose cannot drive the terminal", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    const path_ = "/tmp/\u001b[2J\u009b31m\u202egnp.exe\u200b\u2028\u{e0041}\n";
    await log.record({
      type: "file.open",
      phase: "event",
      decision: "deny",
      count: 3,
      layer: "landlock",
      rule: { id: "fs:default" },
      actor: { pid: 7, exe: "/bin/cat" },
      object: { path: path_, access: "read" },
      outcome: { errno: "EACCES" },
    });
    await log.close("done");
    const { out } = await run("show", dir, "--from", "1", "--to", "2");
    expect(out).toMatch(/deny {2}file\.open event {2}3 times access="read" path="\/tmp\/\\u001b/);
    expect(out).toContain(
      'by="/bin/cat" pid=7 rule="fs:default" layer="landlock" errno="EACCES"\n',
    );
    expect(out.trimEnd()).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}]/u);
    const json = (await run("show", dir, "--from", "1", "--to", "2", "--json")).out.trimEnd();
    expect(json).not.toMatch(/[\p{Cc}\p{Cf}\p{Zl}]/u);
    expect(JSON.parse(json)).toMatchObject({ object: { path: path_ } });
  });

  test("a log that is still open is shown to its last durable entry", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    await log.record(connectEvent(1));
    const { out } = await run("show", dir);
    expect(out.split("\n")[1]).toMatch(/^1 .*not yet under a checkpoint\)$/);
    expect((await run("tail", dir, "-n", "1")).out).toContain("port=2");
    const names = ["--ledger", dir, "--origin", "x", "--key-file", path.join(dir, "key")];
    expect(await run("redact", dir, "0", ...names)).toMatchObject({
      code: 2,
      err: expect.stringContaining("ERR_NONO_AUDIT_LOCKED"),
    });
    await log.close("done");
  });

  test("verify: 0 when the policy is met, 2 when the proof does not reach it, 1 when tampered, 3 for usage", async () => {
    const dir = await closedLog(20);
    const good = await run("verify", dir, "--key", signer.vkey);
    expect(good.code).toBe(0);
    expect(good.out).toContain("SIGNED  ");
    expect(good.out).toContain("unanchored tail: 20 entries");
    expect((await run("verify", dir)).code).toBe(2);
    expect((await run("verify", dir, "--key", signer.vkey, "--require", "witnessed")).code).toBe(2);
    const file = path.join(dir, "tile/entries/000.p/20");
    writeFileSync(file, readFileSync(file, "latin1").replace('"seq":7', '"seq":8'), "latin1");
    const bad = await run("verify", dir, "--key", signer.vkey, "--json");
    expect(bad.code).toBe(1);
    expect((JSON.parse(bad.out) as Report).problems[0]).toMatchObject({ seq: 7 });
    for (const usage of [
      ["verify"],
      ["frobnicate"],
      ["verify", "/nowhere/at/all"],
      ["verify", dir, "--key", "x"],
      ["show", dir, "--from", "x"],
    ]) {
      expect(await run(...usage), usage.join(" ")).toMatchObject({ code: 3 });
    }
  });

  test("an unclosed log says so", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    await log.record(connectEvent(1));
    const { out } = await run("verify", dir, "--key", signer.vkey);
    expect(out).toContain("session not closed");
    expect(out).toContain("not yet under a checkpoint: 1 entries");
    await log.close("done");
  });

  test("show, tail, prove", async () => {
    const dir = await closedLog(300);
    expect((await run("show", dir, "--from", "250", "--to", "260")).out.split("\n")).toHaveLength(
      11,
    );
    expect((await run("show", dir, "--type", "log.close", "--json")).out).toContain(
      '"reason":"done"',
    );
    expect((await run("tail", dir, "-n", "3")).out.split("\n")).toHaveLength(4);
    const proof = await run("prove", dir, "17");
    const file = path.join(temporaryDirectory(), "17.tlog-proof");
    writeFileSync(file, proof.out);
    expect(await run("verify", file, "--key", signer.vkey)).toMatchObject({ code: 0 });
    expect(await run("prove", dir, "300")).toMatchObject({ code: 3 });
  });

  test("tail -f follows until it is stopped", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    const stop = new AbortController();
    let out = "";
    const following = runAuditCommand(["tail", "-f", dir], {
      stdout: (text) => (out += text),
      stderr: () => undefined,
      signal: stop.signal,
    });
    await log.record(connectEvent(41));
    await log.checkpoint();
    await expect.poll(() => out).toContain("port=42");
    stop.abort();
    expect(await following).toBe(0);
    await log.close("done");
  });

  test("redact erases the value, keeps every proof, and is on record; doctor misses deleted sessions", async () => {
    const state = temporaryDirectory();
    const host = "nono.local/test";
    const keyFile = path.join(state, "ledger.key");
    const ledgerDir = path.join(state, "ledger");
    const ledger = new HostLedger({
      dir: ledgerDir,
      origin: host,
      signer: keyFileSigner(keyFile, host),
    });
    const dir = path.join(state, "sessions", path.basename(origin));
    const log = await openAuditLog({ dir, origin, ledger });
    await log.record({
      type: "process.exec",
      phase: "event",
      decision: "allow",
      object: { path: "/usr/bin/curl", argv: ["curl", "-H", "token: s3cret"] },
    });
    await log.close("done");
    expect((await run("show", dir, "--reveal")).out).toContain("s3cret");
    expect((await run("show", dir)).out).not.toContain("s3cret");
    const names = ["--ledger", ledgerDir, "--origin", host, "--key-file", keyFile];
    expect(await run("redact", dir, "1", ...names)).toMatchObject({
      code: 0,
      out: "erased 1 values of entry 1; its proofs stay valid\n",
    });
    expect((await run("show", dir, "--reveal")).out).not.toContain("s3cret");
    expect(await verifyLog(dir, { ledgerKeys: [ledger.vkey] })).toMatchObject({
      verdict: "SIGNED",
      ok: true,
    });
    const doctor = await run(
      "doctor",
      ledgerDir,
      "--ledger-key",
      ledger.vkey,
      "--sessions",
      path.dirname(dir),
      "--json",
    );
    expect(doctor).toMatchObject({ code: 0 });
    expect(JSON.parse(doctor.out)).toMatchObject({
      sessions: [{ session: origin, closed: true, size: 3, present: true }],
    });
    expect(
      await run("doctor", ledgerDir, "--ledger-key", ledger.vkey, "--sessions", state),
    ).toMatchObject({ code: 1 });
  });

  test.each(["jsonl", "ocsf", "cloudevents", "otlp"])(
    "export --format %s: one JSON line an entry",
    async (format) => {
      const dir = await closedLog(10);
      const { code, out } = await run("export", dir, "--format", format);
      expect(code).toBe(0);
      expect(
        out
          .trimEnd()
          .split("\n")
          .map((line) => typeof JSON.parse(line)),
      ).toEqual(Array.from({ length: 10 }, () => "object"));
    },
  );

  test("anchor without an anchor, and export without a format it knows, are usage errors", async () => {
    const dir = await closedLog(3);
    const keyFile = path.join(temporaryDirectory(), "key");
    expect(await run("anchor", dir, "--origin", origin, "--key-file", keyFile)).toMatchObject({
      code: 3,
    });
    expect(await run("export", dir, "--format", "xml")).toMatchObject({ code: 3 });
    for (const half of [
      ["--root", "/nowhere"],
      ["--evidence-key", "/nowhere"],
      ["--root", "/nowhere", "--evidence-identity", "x"],
      ["--root", "/nowhere", "--evidence-key", "x", "--evidence-identity", "x"],
    ])
      expect(await run("verify", dir, ...half)).toMatchObject({
        code: 3,
        err: expect.stringContaining("bundles need --root FILE"),
      });
  });

  test("an open log erases too", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    await log.record({
      type: "tool.call",
      phase: "event",
      decision: "allow",
      object: { name: "sh", arguments: "s3cret" },
    });
    expect(await log.erase(1)).toBe(1);
    expect(await log.erase(1)).toBe(0);
    await log.close("done");
    expect(await verifyLog(dir, { keys: [signer.vkey] })).toMatchObject({ ok: true, size: 4 });
  });
});
