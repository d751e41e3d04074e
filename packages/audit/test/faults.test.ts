import { spawnSync } from "node:child_process";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { verifyLog } from "../src/index.ts";
import { openTestLog, origin, seed, signer, temporaryDirectory } from "./helpers/logs.ts";

const script = path.join(import.meta.dirname, "helpers/failing-writer.ts");

interface Outcome {
  acknowledged: number;
  notDurable: number;
  refusals: string[];
  closing: string;
  verdict: string;
  inLog: number;
  lost: number;
}

function outcome(command: string, args: string[]): Outcome {
  const { stdout, stderr } = spawnSync(command, args, { encoding: "utf8", timeout: 60_000 });
  const line = stdout.trim().split("\n").at(-1) ?? "";
  expect(line, stderr).toMatch(/^\{/);
  return JSON.parse(line) as Outcome;
}

/** Runs the writer on a file system of one megabyte, in a mount namespace of its own. */
function onFullDisk(onFailure: string): Outcome {
  const dir = temporaryDirectory();
  const namespaces =
    process.getuid?.() === 0 ? ["--mount"] : ["--user", "--map-root-user", "--mount"];
  const run = `mount -t tmpfs -o size=1m tmpfs "$0" && exec "$@"`;
  return outcome("unshare", [
    ...namespaces,
    "sh",
    "-c",
    run,
    dir,
    process.execPath,
    script,
    path.join(dir, "log"),
    origin,
    seed.toString("hex"),
    onFailure,
  ]);
}

const canUnshare =
  spawnSync("unshare", [
    ...(process.getuid?.() === 0 ? [] : ["--user", "--map-root-user"]),
    "--mount",
    "true",
  ]).status === 0;
const haveStrace =
  spawnSync("strace", ["-V"]).status === 0 ||
  (process.getuid?.() === 0 &&
    spawnSync("apt-get", ["install", "-y", "-q", "strace"], { timeout: 120_000 }).status === 0);
if (!canUnshare) console.log("SKIPPED: audit ENOSPC tests: mount namespaces are not available");
if (!haveStrace) console.log("SKIPPED: audit EIO tests: strace is not available");

describe.skipIf(!canUnshare)("a full disk", () => {
  test(
    "refuses every further event, loses no acknowledged one, and what is there still verifies",
    { timeout: 60_000 },
    () => {
      const { acknowledged, refusals, closing, verdict, inLog } = onFullDisk("deny");
      expect(acknowledged).toBeGreaterThan(100);
      expect(refusals).toEqual(Array.from({ length: 3 }, () => "ERR_NONO_AUDIT_WRITE"));
      expect(closing).toBe("ERR_NONO_AUDIT_WRITE");
      // The refused group may have left a torn frame; nothing else may be wrong.
      expect(verdict).toBe("SIGNED");
      expect(inLog).toBeGreaterThanOrEqual(acknowledged + 1);
    },
  );

  test("with onFailure degrade the loss is counted instead", { timeout: 60_000 }, () => {
    const { acknowledged, notDurable, refusals, lost } = onFullDisk("degrade");
    expect(acknowledged).toBeGreaterThan(100);
    expect(refusals).toEqual([]);
    expect(notDurable).toBe(3);
    expect(lost).toBe(3);
  });
});

describe.skipIf(!haveStrace)("an I/O error at fdatasync", () => {
  test.each([4, 9, 40])(
    "number %i ends the log for good; reopened, it has every acknowledged entry",
    { timeout: 60_000 },
    async (when) => {
      const dir = path.join(temporaryDirectory(), "log");
      const inject = [
        "-f",
        "-qq",
        "-e",
        "signal=none",
        "-e",
        "trace=fdatasync",
        "-e",
        `inject=fdatasync:error=EIO:when=${when}`,
        "-o",
        "/dev/null",
      ];
      const result = outcome("strace", [
        ...inject,
        process.execPath,
        script,
        dir,
        origin,
        seed.toString("hex"),
      ]);
      expect(new Set(result.refusals)).toEqual(new Set(["ERR_NONO_AUDIT_WRITE"]));
      const log = await openTestLog(dir);
      await log.close("after the error");
      expect(await verifyLog(dir, { keys: [signer.vkey] })).toMatchObject({
        verdict: "SIGNED",
        ok: true,
      });
      expect(log.size).toBeGreaterThanOrEqual(result.acknowledged + 2);
    },
  );
});
