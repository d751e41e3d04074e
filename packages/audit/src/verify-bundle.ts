// A Sigstore bundle by itself: that a ledger head was signed by a trusted identity, and existed at a time.
import { Buffer } from "node:buffer";
import { parseCheckpoint } from "./checkpoint.ts";
import { AuditError } from "./errors.ts";
import { judge, type Report, type Step } from "./report.ts";
import { problemOf, type Problem } from "./verify-tree.ts";
import type { Trust } from "./verify-trust.ts";

/** Verifies the text of a `.sigstore.json` file that an anchor left. */
export async function verifyBundle(json: string, trust: Trust): Promise<Report> {
  const problems: Problem[] = [];
  let text = "";
  let seen: { who: string; time: number } | undefined;
  try {
    text = statedCheckpoint(json);
    for (const verifier of trust.evidence) seen ??= await verifier.verify(json, text);
  } catch (error) {
    problems.push(problemOf(error, {}));
  }
  const head = text === "" ? undefined : parseCheckpoint(text);
  const unread: Step = {
    ok: false,
    detail: "no trusted root and key were given to read bundles with",
  };
  const stated = `a statement about a checkpoint of ${head?.size ?? 0} entries`;
  return judge({
    kind: "bundle",
    origin: head?.origin ?? "unknown",
    size: head?.size ?? 0,
    root: head?.root.toString("base64") ?? "",
    required: trust.required,
    steps: {
      INTACT: { ok: problems.length === 0, detail: stated },
      SIGNED: seen ? { ok: true, detail: `by ${seen.who}` } : unread,
      TIMED: seen
        ? { ok: true, detail: `not later than ${new Date(seen.time).toISOString()}` }
        : unread,
      WITNESSED: { ok: false, detail: "a bundle has no witnesses" },
    },
    problems,
    tail: { entries: 0, seconds: 0 },
    closed: true,
    unsealed: 0,
    torn: 0,
    lost: 0,
    seenBy: seen ? [{ ...seen, size: head?.size ?? 0 }] : [],
  });
}

/** The checkpoint text in the statement of a bundle, not yet verified. */
function statedCheckpoint(json: string): string {
  try {
    const { dsseEnvelope } = JSON.parse(json) as { dsseEnvelope: { payload: string } };
    const statement = JSON.parse(Buffer.from(dsseEnvelope.payload, "base64").toString("utf8")) as {
      predicate: { checkpoint: string };
    };
    const { checkpoint } = statement.predicate;
    parseCheckpoint(checkpoint);
    return checkpoint;
  } catch (cause) {
    throw new AuditError("ERR_NONO_AUDIT_FORMAT", "not a Sigstore bundle about a checkpoint", {
      cause,
    });
  }
}
