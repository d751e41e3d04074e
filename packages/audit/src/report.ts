// What a verification found, and how far up the ladder it got.
import { printable } from "./printable.ts";
import type { Problem } from "./verify-tree.ts";

/** INTACT: the bytes agree; SIGNED: by a trusted key; TIMED: not later than a time; WITNESSED: by a quorum. */
export type Rung = "INTACT" | "SIGNED" | "TIMED" | "WITNESSED";

/** The rungs, lowest first. */
export const rungs: readonly Rung[] = ["INTACT", "SIGNED", "TIMED", "WITNESSED"];

/** One rung: whether it holds, and why or why not. */
export interface Step {
  readonly ok: boolean;
  readonly detail: string;
}

/** The part of the log that no one outside has seen: it could be rewritten by whoever holds the current key. */
export interface UnanchoredTail {
  readonly entries: number;
  /** Seconds from the last anchored entry to the last entry. */
  readonly seconds: number;
}

/** The result of `verifyLog`. */
export interface Report {
  readonly kind: "log" | "ledger" | "proof" | "bundle";
  readonly origin: string;
  readonly size: number;
  /** Base64 root of the checkpoint. */
  readonly root: string;
  /** The highest rung such that all below hold; TAMPERED when anything contradicts; NOTHING when none holds. */
  readonly verdict: Rung | "TAMPERED" | "NOTHING";
  /** Whether the verdict reaches what the policy requires. */
  readonly ok: boolean;
  readonly required: Rung;
  readonly steps: Readonly<Record<Rung, Step>>;
  /** Contradictions; the first one is the first bad place. */
  readonly problems: readonly Problem[];
  readonly tail: UnanchoredTail;
  /** Whether the log ends with `log.close`. */
  readonly closed: boolean;
  /** Acknowledged entries in the journal that no checkpoint covers yet. */
  readonly unsealed: number;
  /** Bytes of a torn frame at the end of the journal, as a crash leaves it; opening the log cuts and records it. */
  readonly torn: number;
  /** Events that the log itself says it lost. */
  readonly lost: number;
  /** Latest time, in milliseconds, by which a trusted third party has seen the log, and who said so. */
  readonly seenBy: readonly {
    readonly who: string;
    readonly time: number;
    readonly size: number;
  }[];
}

/** The verdict from the steps and problems. */
export function judge(report: Omit<Report, "verdict" | "ok">): Report {
  const problems = report.problems.toSorted((a, b) => (a.seq ?? Infinity) - (b.seq ?? Infinity));
  const held = rungs.findIndex((rung) => !report.steps[rung].ok);
  const top = rungs[(held < 0 ? rungs.length : held) - 1];
  const verdict = report.problems.length > 0 ? "TAMPERED" : (top ?? "NOTHING");
  const ok =
    report.problems.length === 0 &&
    top !== undefined &&
    rungs.indexOf(top) >= rungs.indexOf(report.required);
  return { ...report, problems, verdict, ok };
}

/**
 * 0: the policy is met; 1: tampered; 2: nothing contradicts, but the proof does not reach what is required.
 *
 * @example
 * ```ts
 * const report = await verifyLog(dir, { keys: [vkey] });
 * process.exitCode = exitCode(report);
 * ```
 */
export function exitCode({ verdict, ok }: Report): 0 | 1 | 2 {
  if (ok) return 0;
  return verdict === "TAMPERED" ? 1 : 2;
}

/**
 * The report as people read it. It never claims more than was proven.
 *
 * @example
 * ```ts
 * process.stdout.write(formatReport(await verifyLog(dir, { keys: [vkey] })));
 * ```
 */
export function formatReport(report: Report): string {
  const lines = [`${report.verdict}  ${report.origin}  ${report.size} entries`];
  for (const rung of rungs) {
    const { ok, detail } = report.steps[rung];
    lines.push(`  ${ok ? "✓" : "·"} ${rung.padEnd(9)} ${detail}`);
  }
  for (const problem of report.problems) {
    const place = [problem.file, problem.seq === undefined ? undefined : `entry ${problem.seq}`];
    lines.push(
      `  ✗ ${[...place.filter((part) => part !== undefined), problem.message].join(": ")}`,
    );
  }
  const { entries, seconds } = report.tail;
  lines.push(`  unanchored tail: ${entries} entries, ${seconds} s`);
  if (report.unsealed > 0) lines.push(`  not yet under a checkpoint: ${report.unsealed} entries`);
  if (report.torn > 0)
    lines.push(
      `  the journal ends with a torn frame of ${report.torn} bytes, as a crash leaves it`,
    );
  if (report.lost > 0) lines.push(`  the log says that it lost ${report.lost} events`);
  if (!report.closed && report.kind === "log") lines.push("  session not closed");
  if (!report.ok) lines.push(`  required: ${report.required}`);
  return `${lines.map(printable).join("\n")}\n`;
}
