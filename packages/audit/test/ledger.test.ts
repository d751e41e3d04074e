import { cpSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import {
  ed25519Signer,
  HostLedger,
  openAuditLog,
  readLedger,
  verifyLog,
  type AuditLog,
  type AuditLogOptions,
} from "../src/index.ts";
import { EpochKeys, scheduleRoot } from "../src/epochs.ts";
import { layout } from "../src/layout.ts";
import { connectEvent, origin, temporaryDirectory } from "./helpers/logs.ts";
import { askOracle, oracleDirectory } from "./helpers/oracles.ts";

const host = "nono.local/test";
const hostSigner = ed25519Signer(host, Buffer.alloc(32, 9));
const trusted = { ledgerKeys: [hostSigner.vkey] };

function newLedger(): HostLedger {
  return new HostLedger({
    dir: path.join(temporaryDirectory(), "ledger"),
    origin: host,
    signer: hostSigner,
  });
}

function openSession(
  ledger: HostLedger,
  dir: string,
  options: Partial<AuditLogOptions> = {},
): Promise<AuditLog> {
  return openAuditLog({ dir, origin, ledger, checkpointInterval: 3_600_000, ...options });
}

/** A log that went through several epochs of 40 ms and a change of schedule. */
async function logOfManyEpochs(ledger: HostLedger): Promise<string> {
  const dir = path.join(temporaryDirectory(), "log");
  const log = await openSession(ledger, dir, { epochs: { seconds: 0.04, count: 2 } });
  await expect.poll(() => readdirSync(path.join(dir, layout.heads)).length).toBeGreaterThan(3);
  for (let n = 0; n < 10; n += 1) await log.record(connectEvent(n));
  await log.close("done");
  return dir;
}

describe("host ledger and epoch keys", () => {
  test("a session log is trusted through the ledger's key alone", async () => {
    const ledger = newLedger();
    const dir = await logOfManyEpochs(ledger);
    const report = await verifyLog(dir, trusted);
    expect(report).toMatchObject({ verdict: "SIGNED", ok: true, problems: [] });
    expect(report.steps.SIGNED.detail).toMatch(/key of epoch ([3-9]|\d\d)/);
    expect(await verifyLog(dir)).toMatchObject({ verdict: "INTACT", ok: false });
    const stranger = { ledgerKeys: [ed25519Signer(host).vkey] };
    expect((await verifyLog(dir, stranger)).ok).toBe(false);
  });

  test("the ledger is itself a log that fsck accepts, and lists every session", async () => {
    const ledger = newLedger();
    await logOfManyEpochs(ledger);
    expect(await verifyLog(ledger.dir, trusted)).toMatchObject({
      kind: "ledger",
      verdict: "SIGNED",
      ok: true,
    });
    const types = [...readLedger(ledger.dir)].map(({ type }) => type);
    expect(types.slice(0, 2)).toEqual(["ledger.open", "session.open"]);
    expect(types.at(-1)).toBe("session.close");
    expect(types).toContain("session.keys");
    if (oracleDirectory())
      expect(askOracle(["fsck", ledger.dir, host, hostSigner.vkey])).toMatchObject({ ok: true });
  });

  test.each<[string, (dir: string) => void]>([
    [
      "the sealed head of a past epoch is dropped",
      (dir) =>
        rmSync(
          path.join(
            dir,
            layout.heads,
            readdirSync(path.join(dir, layout.heads)).toSorted(
              (a, b) => Number(a) - Number(b),
            )[1] ?? "",
          ),
        ),
    ],
    [
      "the key of an epoch is exchanged",
      (dir) => {
        const file = path.join(dir, layout.epochs);
        const lines = readFileSync(file, "utf8").split("\n");
        lines[1] = ed25519Signer(origin).vkey;
        writeFileSync(file, lines.join("\n"));
      },
    ],
    [
      "a ledger proof is altered",
      (dir) => {
        const file = path.join(dir, layout.ledger, "1.tlog-proof");
        writeFileSync(file, readFileSync(file, "utf8").replace(/^extra e/m, "extra f"));
      },
    ],
  ])("%s: TAMPERED", async (_what, mutate) => {
    const dir = await logOfManyEpochs(newLedger());
    mutate(dir);
    expect(await verifyLog(dir, trusted)).toMatchObject({ verdict: "TAMPERED", ok: false });
  });

  test("a restored backup is refused: the ledger remembers the larger head", async () => {
    const ledger = newLedger();
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openSession(ledger, dir, { epochs: { seconds: 3600 } });
    await log.checkpoint();
    // What a crash here would leave, put back later into the same directory.
    const backup = path.join(temporaryDirectory(), "backup");
    cpSync(dir, backup, { recursive: true });
    await log.record(connectEvent(1));
    await log.close("done");
    for (const name of readdirSync(dir)) rmSync(path.join(dir, name), { recursive: true });
    rmSync(path.join(backup, layout.lock));
    cpSync(backup, dir, { recursive: true });
    await expect(openSession(ledger, dir)).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_FORK" });
  });

  test("a log whose process died goes on with new keys that the ledger commits to", async () => {
    const ledger = newLedger();
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openSession(ledger, dir);
    await log.record(connectEvent(1));
    await log.checkpoint();
    // The dead process's lock names this live one, so move it as a crash would have left it: stale.
    renameSync(path.join(dir, layout.lock), path.join(dir, ".nono/lock.stale"));
    const again = await openSession(ledger, dir);
    await again.close("recovered");
    const report = await verifyLog(dir, trusted);
    expect(report).toMatchObject({ verdict: "SIGNED", ok: true, closed: true });
    expect(report.steps.SIGNED.detail).toContain("epoch 16");
  });

  test("several sessions share one ledger at the same time", async () => {
    const ledger = newLedger();
    const logs = await Promise.all(
      Array.from({ length: 5 }, (_, n) =>
        openAuditLog({
          dir: path.join(temporaryDirectory(), "log"),
          origin: `${host}/session/${n}`,
          ledger,
        }),
      ),
    );
    await Promise.all(logs.map((log) => log.close("done")));
    expect([...readLedger(ledger.dir)].filter(({ type }) => type === "session.close")).toHaveLength(
      5,
    );
    for (const { dir } of logs) expect(await verifyLog(dir, trusted)).toMatchObject({ ok: true });
  });

  test("appends of one process take turns in the order of their calls", async () => {
    const ledger = newLedger();
    const same = Array.from(
      { length: 20 },
      () => new HostLedger({ dir: ledger.dir, origin: host, signer: hostSigner }),
    );
    const places = await Promise.all(
      same.map((one, n) =>
        one.append([{ type: "entry.erased", session: "s", entry: n, fields: 1 }]),
      ),
    );
    expect(places.map(([place]) => place?.seq)).toEqual(same.map((_, n) => n + 1));
  });

  test("an append that fails does not stop the next one", async () => {
    const ledger = newLedger();
    let isDown = true;
    const signer = {
      vkey: hostSigner.vkey,
      sign: async (text: string) => {
        if (isDown) throw new Error("the service is down");
        return hostSigner.sign(text);
      },
    };
    const record = { type: "entry.erased", session: "s", entry: 1, fields: 1 } as const;
    const failing = new HostLedger({ dir: ledger.dir, origin: host, signer });
    const refused = expect(failing.append([record])).rejects.toMatchObject({
      code: "ERR_NONO_AUDIT_SIGNER",
    });
    const next = ledger.append([record]);
    await refused;
    expect(await next).toHaveLength(1);
    isDown = false;
    expect(await failing.append([record])).toHaveLength(1);
  });

  test("a later seed does not lead to an earlier key", () => {
    const keys = new EpochKeys(origin, 8, 0, Buffer.alloc(32, 1));
    const { vkeys } = keys;
    expect(keys.schedule.root).toBe(scheduleRoot(vkeys));
    const used: string[] = [];
    for (let epoch = 0; epoch < 8; epoch += 1) {
      used.push(keys.signer.vkey);
      if (epoch < 7) keys.advance();
    }
    expect(used).toEqual(vkeys);
    expect(keys.isLast).toBe(true);
    keys.advance();
    expect(keys.schedule.first).toBe(8);
    expect(vkeys).not.toContain(keys.signer.vkey);
  });
});
