// Verification of a million entries, and proofs out of them, against hashing the same bytes once.
import { hash, randomInt } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import path from "node:path";
import process from "node:process";
import {
  checkProof,
  ed25519Signer,
  formatProof,
  LogReader,
  openAuditLog,
  parseProof,
  verifyLog,
} from "../src/index.ts";

const scratch = process.env["BENCH_DIR"] ?? "/var/tmp";
const count = 1_000_000;

/** Writes a log of a million entries; prints memory on the way. */
async function writeLog(dir: string, entries: number): Promise<{ vkey: string; note: string }> {
  const origin = "nono.local/bench/session/1";
  const signer = ed25519Signer(origin);
  const log = await openAuditLog({ dir, origin, signer });
  const batch = 4096;
  while (log.size < entries - 1) {
    const size = Math.min(batch, entries - 1 - log.size);
    await Promise.all(
      Array.from({ length: size }, (_, n) =>
        log.record({
          type: "net.connect",
          phase: "intent",
          decision: "allow",
          actor: { pid: 4242, exe: "/usr/bin/python3", uid: 1000 },
          rule: { id: "net:api.example.com:443" },
          object: { host: "api.example.com", port: n + 1, transport: "tcp" },
        }),
      ),
    );
  }
  const { note } = await log.close("done");
  return { vkey: signer.vkey, note };
}

/** Time and resident memory while a log grows to `entries`. */
export async function soakMemory(entries: number): Promise<void> {
  const dir = mkdtempSync(path.join(scratch, "nono-soak-"));
  const samples: number[] = [];
  const timer = setInterval(() => samples.push(process.memoryUsage.rss() / 2 ** 20), 1000);
  const start = performance.now();
  await writeLog(path.join(dir, "log"), entries);
  clearInterval(timer);
  const seconds = (performance.now() - start) / 1000;
  const half = samples.length >> 1;
  const [first, second] = [samples.slice(half >> 1, half), samples.slice(half)].map((part) =>
    Math.max(...part),
  );
  console.log(
    `${entries} entries in ${seconds.toFixed(0)} s (${Math.round(entries / seconds)}/s); resident at most ${first?.toFixed(0)} MiB in the second quarter, ${second?.toFixed(0)} MiB in the second half`,
  );
  rmSync(dir, { recursive: true });
}

/** Prints verification and proof times. */
export async function benchVerify(): Promise<void> {
  const dir = path.join(mkdtempSync(path.join(scratch, "nono-bench-")), "log");
  const { vkey, note } = await writeLog(dir, count);
  const reader = new LogReader(dir, count);
  const rounds: { verify: number; hashing: number }[] = [];
  for (let round = 0; round < 3; round += 1) {
    let start = performance.now();
    const { verdict, size } = await verifyLog(dir, { keys: [vkey] });
    const verify = performance.now() - start;
    if (verdict !== "SIGNED" || size !== count)
      throw new Error(`the log does not verify: ${verdict}, ${size}`);
    start = performance.now();
    for (const { entry } of reader.entries()) hash("sha256", entry, "buffer");
    rounds.push({ verify, hashing: performance.now() - start });
  }
  const best = rounds.toSorted((a, b) => a.verify - b.verify)[1] ?? { verify: 0, hashing: 1 };
  console.log(
    `verify ${count} entries: ${(best.verify / 1000).toFixed(2)} s; ${(best.verify / best.hashing).toFixed(2)} of reading and hashing each entry once`,
  );
  const times = Array.from({ length: 1000 }, () => {
    const seq = randomInt(count);
    const start = performance.now();
    const proof = formatProof({
      index: seq,
      extra: reader.entry(seq),
      hashes: reader.inclusionProof(seq),
      checkpoint: note,
    });
    const made = performance.now() - start;
    checkProof(parseProof(proof));
    return made;
  }).toSorted((a, b) => a - b);
  console.log(
    `inclusion proof from files: p50 ${times[500]?.toFixed(2)} ms, p95 ${times[950]?.toFixed(2)} ms`,
  );
  rmSync(path.dirname(dir), { recursive: true });
}
