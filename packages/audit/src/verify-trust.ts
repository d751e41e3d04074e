// Whom a verification trusts, and what those have said about a head.
import path from "node:path";
import { listDirectory } from "./files.ts";
import { layout } from "./layout.ts";
import { noteVerifier, verifySignatures, type GoodSignature, type NoteVerifier } from "./note.ts";
import { parsePolicy, quorumMet, type TrustPolicy } from "./policy.ts";
import type { Rung, Step } from "./report.ts";
import type { SignedHead } from "./verify-files.ts";
import { problemOf, readOrReport, type Problem } from "./verify-tree.ts";

/**
 * Reads documents of anchors that the core does not know, such as Sigstore bundles.
 *
 * @example
 * ```ts
 * const report = await verifyLog(dir, { keys, evidence: [sigstoreEvidence({ trustedRoot, key })] });
 * ```
 */
export interface EvidenceVerifier {
  /**
   * Checks that `json` proves the checkpoint text to have existed at a time (milliseconds since the epoch).
   *
   * @throws AuditError `ERR_NONO_AUDIT_SIGNATURE` when it does not.
   */
  verify(
    json: string,
    checkpointText: string,
  ): Promise<{ readonly who: string; readonly time: number }>;
}

/** Whom to trust, and how much is enough. */
export interface VerifyPolicy {
  /** Verifier keys (C2SP vkeys) that sign the log's checkpoints. */
  readonly keys?: readonly string[];
  /** Verifier keys of the host ledger, which vouches for the epoch keys of its session logs. */
  readonly ledgerKeys?: readonly string[];
  /** A C2SP tlog-policy: witnesses and quorum (and more log keys), as text or parsed. */
  readonly witnesses?: string | TrustPolicy;
  /** Readers of anchor documents; without one they are not looked at. */
  readonly evidence?: readonly EvidenceVerifier[];
  /** The rung that must be reached; default SIGNED. */
  readonly require?: Rung;
}

/** A policy, parsed. */
export interface Trust {
  readonly keys: readonly NoteVerifier[];
  readonly ledgerKeys: readonly NoteVerifier[];
  readonly witnesses: TrustPolicy | undefined;
  readonly evidence: readonly EvidenceVerifier[];
  readonly required: Rung;
}

/** Parses a policy. @throws AuditError `ERR_NONO_AUDIT_FORMAT` */
export function readTrust(policy: VerifyPolicy): Trust {
  const witnesses =
    typeof policy.witnesses === "string" ? parsePolicy(policy.witnesses) : policy.witnesses;
  const ledgerKeys = (policy.ledgerKeys ?? []).map(noteVerifier);
  return {
    keys: [...(policy.keys ?? []).map(noteVerifier), ...(witnesses?.logs ?? [])],
    ledgerKeys: [...ledgerKeys, ...(witnesses?.logs ?? [])],
    witnesses,
    evidence: policy.evidence ?? [],
    required: policy.require ?? "SIGNED",
  };
}

/** A head that someone outside has seen. */
export interface Seen {
  readonly who: string;
  /** Milliseconds since the epoch. */
  readonly time: number;
  readonly size: number;
  readonly quorum: boolean;
}

/** What the bundles in `.nono/anchors` say about the head of `size`, whose checkpoint text is `text`. */
export async function seenByEvidence(
  dir: string,
  size: number,
  text: string,
  trust: Trust,
  problems: Problem[],
): Promise<Omit<Seen, "size">[]> {
  const names = listDirectory(dir, layout.anchors).filter((name) => name.startsWith(`${size}.`));
  const seen: Omit<Seen, "size">[] = [];
  for (const name of trust.evidence.length === 0 ? [] : names) {
    const file = path.posix.join(layout.anchors, name);
    const json = (readOrReport(dir, file, (problem) => problems.push(problem)) ?? "").toString(
      "utf8",
    );
    const failures: unknown[] = [];
    for (const verifier of trust.evidence) {
      try {
        seen.push({ ...(await verifier.verify(json, text)), quorum: false });
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length === trust.evidence.length) problems.push(problemOf(failures[0], { file }));
  }
  return seen;
}

/** Whether one of `keys` signed the head. */
export function checkSigned(
  head: SignedHead,
  keys: readonly NoteVerifier[],
  problems: Problem[],
): Step {
  try {
    const good = verifySignatures(head.note, keys);
    if (good.length > 0)
      return {
        ok: true,
        detail: `by ${good.map(({ verifier }) => keyLabel(verifier)).join(", ")}`,
      };
  } catch (error) {
    problems.push(problemOf(error, { file: head.file }));
  }
  const detail = keys.length === 0 ? "no trusted key was given" : "by none of the trusted keys";
  return { ok: false, detail };
}

function keyLabel({ name, keyId }: NoteVerifier): string {
  return `${name}+${keyId.toString(16).padStart(8, "0")}`;
}

/** Who outside has seen this head: cosignatures of the policy's witnesses. */
export function seenBy(head: SignedHead, trust: Trust, problems: Problem[]): Seen[] {
  const { witnesses } = trust;
  if (!witnesses) return [];
  const verifiers = [...witnesses.witnesses.values()].map(({ verifier }) => verifier);
  let good: GoodSignature[];
  try {
    good = verifySignatures(head.note, verifiers);
  } catch (error) {
    problems.push(problemOf(error, { file: head.file }));
    return [];
  }
  const names = new Set(
    [...witnesses.witnesses]
      .filter(([, { verifier }]) => good.some((one) => one.verifier === verifier))
      .map(([name]) => name),
  );
  const quorum = names.size > 0 && quorumMet(witnesses, names);
  return good.map(({ verifier, timestamp = 0 }) => ({
    who: keyLabel(verifier),
    time: timestamp * 1000,
    size: head.size,
    quorum,
  }));
}

/** TIMED and WITNESSED hold for as much of the log as was seen; the tail says how much was not. */
export function anchorSteps(
  seen: readonly Seen[],
  size: number,
): Record<"TIMED" | "WITNESSED", Step> {
  const timed = seen
    .filter(({ time }) => time > 0)
    .toSorted((a, b) => b.size - a.size || a.time - b.time)[0];
  const witnessed = seen.filter(({ quorum }) => quorum).toSorted((a, b) => b.size - a.size)[0];
  return {
    TIMED: timed
      ? {
          ok: true,
          detail: `${timed.size} of ${size} entries not later than ${new Date(timed.time).toISOString()} (${timed.who})`,
        }
      : { ok: false, detail: "no trusted time" },
    WITNESSED: witnessed
      ? { ok: true, detail: `${witnessed.size} of ${size} entries by the quorum of the policy` }
      : { ok: false, detail: "no quorum of witnesses" },
  };
}
