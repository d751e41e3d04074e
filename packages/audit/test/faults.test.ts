import { spawnSync } from "node:child_process";
import { readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import path from "node:path";
import { describe, expect, test } from "vitest";
import { verifyLog, type CheckpointSigner } from "../src/index.ts";
import {
  connectEvent,
  openTestLog,
  origin,
  seed,
  signer,
  temporaryDirectory,
} from "./helpers/logs.ts";
import { patience } from "./helpers/patience.ts";

const script = path.join(import.meta.dirname, "helpers/failing-writer.ts");
const isRoot = process.getuid?.() === 0;

interface Outcome {
  acknowledged: number;
  notDurable: number;
  refusals: string[];
  closing: string;
  verdict: string;
  inLog: number;
  lost: number;
}

/** Runs the command; one outcome for each line that the writer printed. */
function outcomes(command: string, args: string[]): Outcome[] {
  const { stdout, stderr } = spawnSync(command, args, { encoding: "utf8", timeout: patience });
  const lines = stdout.split("\n").filter((line) => line.startsWith("{"));
  expect(lines.length, stderr).toBeGreaterThan(0);
  return lines.map((line) => JSON.parse(line) as Outcome);
}

const namespaces = isRoot ? ["--mount"] : ["--user", "--map-root-user", "--mount"];

/**
 * Runs shell `steps` in a mount namespace of its own, so that nothing stays mounted. In them `$dir` is an empty
 * directory and `write MODE [INTERVAL]` the writer, with its log in `$dir/disk/log`.
 */
function onDisk(steps: string): Outcome[] {
  const prelude = `set -e; dir=$0; node=$1; script=$2; mkdir "$dir/disk"
    write() { "$node" "$script" "$dir/disk/log" ${origin} ${seed.toString("hex")} "$@"; }`;
  const shell = `${prelude}\n${steps}`;
  const dir = temporaryDirectory();
  return outcomes("unshare", [...namespaces, "sh", "-c", shell, dir, process.execPath, script]);
}

const canUnshare = spawnSync("unshare", [...namespaces, "true"]).status === 0;
const probe = `d=$(mktemp -d); trap 'rm -rf "$d"' EXIT; truncate -s 8M "$d/image" && mkfs.ext4 -q "$d/image" && mkdir "$d/m" && mount -o loop "$d/image" "$d/m"`;
const canLoop =
  isRoot && canUnshare && spawnSync("unshare", ["--mount", "sh", "-c", probe]).status === 0;
const haveStrace =
  spawnSync("strace", ["-V"]).status === 0 ||
  (isRoot &&
    spawnSync("apt-get", ["install", "-y", "-q", "strace"], { timeout: 120_000 }).status === 0);
if (!canUnshare) console.log("SKIPPED: audit ENOSPC tests: mount namespaces are not available");
if (isRoot && !canLoop)
  console.log("SKIPPED: audit ENOSPC and EIO tests on ext4: mkfs.ext4 or loop devices are missing");
if (!haveStrace) console.log("SKIPPED: audit EIO tests by call: strace is not available");

/** Everything that was acknowledged is there, after the disk had refused for good. */
function expectFailedClosed({ acknowledged, refusals, closing, verdict, inLog }: Outcome): void {
  expect(acknowledged).toBeGreaterThan(10);
  expect(refusals).toEqual(Array.from({ length: 3 }, () => "ERR_NONO_AUDIT_WRITE"));
  expect(closing).toBe("ERR_NONO_AUDIT_WRITE");
  // The refused group may have left a torn frame; nothing else may be wrong.
  expect(verdict).toBe("SIGNED");
  expect(inLog).toBeGreaterThanOrEqual(acknowledged + 1);
}

describe.skipIf(!canUnshare)("a full disk", () => {
  const tmpfs = `mount -t tmpfs -o size=1m tmpfs "$dir/disk"`;

  test("refuses every further event, loses no acknowledged one, and what is there still verifies", () => {
    const [outcome] = onDisk(`${tmpfs}; write deny`);
    expectFailedClosed(outcome as Outcome);
  });

  test("with onFailure degrade the loss is counted instead", () => {
    const [outcome] = onDisk(`${tmpfs}; write degrade`);
    const { acknowledged, notDurable, refusals, lost } = outcome as Outcome;
    expect(acknowledged).toBeGreaterThan(10);
    expect(refusals).toEqual([]);
    expect(notDurable).toBe(3);
    expect(lost).toBe(3);
  });
});

describe.skipIf(!canLoop)("ext4", () => {
  test("that is full: the same, and the same after a remount", () => {
    const [written, remounted] = onDisk(`mkdir "$dir/behind"; mount -t tmpfs tmpfs "$dir/behind"
      image=$dir/behind/image; truncate -s 8M "$image"; mkfs.ext4 -q -b 4096 "$image"
      mount -o loop "$image" "$dir/disk"; write deny
      umount "$dir/disk"; mount -o loop "$image" "$dir/disk"; write verify`);
    expectFailedClosed(written as Outcome);
    expect(remounted?.verdict).toBe("SIGNED");
    expect(remounted?.inLog).toBeGreaterThanOrEqual((written?.acknowledged ?? Infinity) + 1);
  });

  test.each([20, 3_600_000])(
    "whose device fails (checkpoints every %i ms): no acknowledged entry is lost",
    (interval) => {
      // The device is larger than what is behind it: its writes fail, as those of a dying disk do. Only writes of
      // data: all that mkfs lays out is there. Blocks as large as a page, because with smaller ones ext4 (Linux
      // 6.18) gives up a synced block together with the failed one beside it.
      const [written, remounted] =
        onDisk(`mkdir "$dir/behind"; mount -t tmpfs -o size=64m tmpfs "$dir/behind"
        image=$dir/behind/image; truncate -s 30M "$image"
        mkfs.ext4 -q -b 4096 -E nodiscard,lazy_itable_init=0,lazy_journal_init=0 "$image"
        used=$(du -k "$image" | cut -f1); mount -t tmpfs -o "remount,size=$((used + 4096))k" tmpfs "$dir/behind"
        mount -o loop "$image" "$dir/disk"; write deny ${interval}
        umount "$dir/disk"; mount -t tmpfs -o remount,size=64m tmpfs "$dir/behind"
        mount -o loop "$image" "$dir/disk"; write verify`);
      expect(written?.acknowledged).toBeGreaterThan(10);
      expect(new Set(written?.refusals)).toEqual(new Set(["ERR_NONO_AUDIT_WRITE"]));
      expect(written?.closing).toBe("ERR_NONO_AUDIT_WRITE");
      expect(remounted?.verdict).toBe("SIGNED");
      expect(remounted?.inLog).toBeGreaterThanOrEqual((written?.acknowledged ?? Infinity) + 1);
    },
  );
});

describe.skipIf(!haveStrace)("an I/O error", () => {
  // Each file by name, so that Node's own calls of the same kind go on. strace counts the calls of each thread by
  // itself, so it differs which of them fails; it may be one while the log is opened.
  test.each<[string, string, string, number]>([
    ["in the journal", "write", ".nono/journal/1", 4],
    ["in the journal, later", "write", ".nono/journal/1", 40],
    ["in a tile", "write", "tile/0/000", 1],
    ["in a bundle", "write", "tile/entries/001", 1],
    ["in the head", "write", ".nono/head.new", 2],
    ["in the checkpoint", "write", "checkpoint.new", 2],
    ["at the fsync of a directory", "fsync", "tile/entries", 2],
  ])(
    "%s ends the log for good; reopened, it has every acknowledged entry",
    async (_what, call, file, when) => {
      const dir = path.join(temporaryDirectory(), "log");
      // The journal keeps its segment until there is a checkpoint; the other files are of checkpoints.
      const interval = file.startsWith(".nono/journal") ? 3_600_000 : 100;
      const inject = `trace=${call} -e inject=${call}:error=EIO:when=${when}`.split(" ");
      // --seccomp-bpf: the other calls go on without a stop.
      const quiet = "-f --seccomp-bpf -qq -e signal=none -o /dev/null".split(" ");
      const log = [dir, origin, seed.toString("hex"), "deny", String(interval)];
      const [result] = outcomes(
        "strace",
        [...quiet, "-P", path.join(dir, file), "-e", ...inject].concat(
          process.execPath,
          script,
          log,
        ),
      );
      expect(new Set(result?.refusals)).toEqual(new Set(["ERR_NONO_AUDIT_WRITE"]));
      const reopened = await openTestLog(dir);
      await reopened.close("after the error");
      expect(await verifyLog(dir, { keys: [signer.vkey] })).toMatchObject({
        verdict: "SIGNED",
        ok: true,
      });
      expect(reopened.size).toBeGreaterThanOrEqual((result?.acknowledged ?? Infinity) + 2);
    },
  );
});

describe.skipIf(!haveStrace)("intent before action", () => {
  test("exec, connect, HTTP and credential use: the journal is on disk before the action is released", () => {
    const dir = path.join(temporaryDirectory(), "log");
    const trace = path.join(temporaryDirectory(), "trace");
    const released = path.join(temporaryDirectory(), "released");
    const acting = path.join(import.meta.dirname, "helpers/acting-writer.ts");
    const calls = "trace=openat,write,pwrite64,fdatasync,mkdir";
    const strace = [
      "-f",
      "--seccomp-bpf",
      "-qq",
      "-y",
      "-s",
      "400",
      "-e",
      "signal=none",
      "-e",
      calls,
      "-o",
      trace,
    ];
    const { stderr } = spawnSync(
      "strace",
      strace.concat(process.execPath, acting, dir, origin, released),
      { encoding: "utf8", timeout: patience },
    );
    const lines = readFileSync(trace, "utf8").split("\n");
    for (const type of ["process.exec", "net.connect", "http.request", "credential.inject"]) {
      const start = lines.findIndex(
        (line) => line.includes("/.nono/journal/") && line.includes(`\\"type\\":\\"${type}\\"`),
      );
      // The thread's call ends in the same line, or in a later one that resumes it.
      const [thread = ""] = lines[start]?.split(" ") ?? [];
      const end = lines[start]?.includes("<unfinished ...>")
        ? lines.findIndex((line, n) => n > start && line.startsWith(`${thread} `))
        : start;
      const action = lines.findIndex((line) => line.includes(`mkdir("${released}/${type}"`));
      expect(start, stderr).toBeGreaterThan(0);
      expect(lines[end]).toMatch(/= \d+$/);
      expect(action, type).toBeGreaterThan(end);
    }
    // What makes the write itself the sync.
    const opened = lines.filter((line) => /openat\(.*\/\.nono\/journal\/\d+"/.test(line));
    expect(opened.length).toBeGreaterThan(0);
    for (const line of opened.filter((call) => call.includes("O_CREAT")))
      expect(line).toContain("O_DSYNC");
  });
});

test("a directory that can't be made is refused, and not tried for ever", () => {
  const index = path.join(import.meta.dirname, "../src/index.ts");
  const program = `import { ed25519Signer, openAuditLog } from ${JSON.stringify(index)};
    const signer = ed25519Signer("a.test");
    await openAuditLog({ dir: "/proc/none/log", origin: "a.test", signer }).catch((error) => console.log(error.code));`;
  const options = { encoding: "utf8", timeout: patience, killSignal: "SIGKILL" } as const;
  const ran = spawnSync(process.execPath, ["--input-type=module", "-e", program], options);
  expect(ran.stdout).toBe("ERR_NONO_AUDIT_WRITE\n");
});

describe("a directory that goes away", () => {
  test("a checkpoint that was queued behind a failed one does not sign without its tiles", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    for (let n = 0; n < 300; n += 1) log.recordAndForget(connectEvent(n));
    const before = readFileSync(path.join(dir, "checkpoint"), "utf8");
    // A file where a directory of tiles should be: the bundles cannot be written.
    renameSync(path.join(dir, "tile/entries"), path.join(dir, "tile/away"));
    writeFileSync(path.join(dir, "tile/entries"), "");
    const first = log.checkpoint();
    await log.flush();
    log.recordAndForget(connectEvent(301));
    const second = log.checkpoint();
    await expect(first).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_WRITE" });
    rmSync(path.join(dir, "tile/entries"));
    renameSync(path.join(dir, "tile/away"), path.join(dir, "tile/entries"));
    await expect(second).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_WRITE" });
    await expect(log.close("done")).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_WRITE" });
    expect(readFileSync(path.join(dir, "checkpoint"), "utf8")).toBe(before);
    const reopened = await openTestLog(dir);
    await reopened.close("after the failure");
    expect(reopened.size).toBeGreaterThan(303);
    expect(await verifyLog(dir, { keys: [signer.vkey] })).toMatchObject({ ok: true });
  });

  test("a partial tile under a checkpoint is never written again", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    const log = await openTestLog(dir);
    for (let n = 0; n < 300; n += 1) log.recordAndForget(connectEvent(n));
    await log.checkpoint();
    const tile = path.join(dir, "tile/1/000.p/1");
    const { ino, mtimeNs } = statSync(tile, { bigint: true });
    log.recordAndForget(connectEvent(301));
    await log.checkpoint();
    expect(statSync(tile, { bigint: true })).toMatchObject({ ino, mtimeNs });
    await log.close("done");
  });
});

describe("a signer that does not answer", () => {
  test("entries stay durable, and the next checkpoint signs them", async () => {
    const dir = path.join(temporaryDirectory(), "log");
    let isDown = false;
    const kms: CheckpointSigner = {
      vkey: signer.vkey,
      sign: async (text) => {
        if (isDown) throw new Error("the service is down");
        return signer.sign(text);
      },
    };
    const log = await openTestLog(dir, { signer: kms, checkpointInterval: 10 });
    isDown = true;
    expect(await log.record(connectEvent(1))).toEqual({ seq: 1, durable: true });
    await expect(log.checkpoint()).rejects.toMatchObject({ code: "ERR_NONO_AUDIT_SIGNER" });
    expect(await log.record(connectEvent(2))).toEqual({ seq: 2, durable: true });
    expect(log.failure).toBeUndefined();
    isDown = false;
    await expect.poll(() => readFileSync(path.join(dir, "checkpoint"), "utf8")).toContain("\n3\n");
    await log.close("done");
    expect(await verifyLog(dir, { keys: [signer.vkey] })).toMatchObject({ ok: true, size: 4 });
  });
});
