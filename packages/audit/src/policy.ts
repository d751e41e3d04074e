// C2SP tlog-policy: which logs, which witnesses, and how many of them must have cosigned.
import { AuditError } from "./errors.ts";
import { noteVerifier, signatureType, type NoteVerifier } from "./note.ts";

interface Group {
  readonly threshold: number;
  readonly members: readonly string[];
}

/** A parsed policy. */
export interface TrustPolicy {
  /** Keys whose signature makes a checkpoint the log's own. */
  readonly logs: readonly NoteVerifier[];
  /** Witnesses by their name in the policy, with the URL of their submission prefix if given. */
  readonly witnesses: ReadonlyMap<
    string,
    { readonly verifier: NoteVerifier; readonly url?: string }
  >;
  readonly groups: ReadonlyMap<string, Group>;
  readonly quorum: string;
}

/**
 * Reads a tlog-policy file.
 *
 * @throws AuditError `ERR_NONO_AUDIT_FORMAT` naming the line.
 * @example
 * ```ts
 * const policy = parsePolicy("log example.com/log+...\nwitness w1 w.example+...\nquorum w1\n");
 * ```
 */
export function parsePolicy(text: string): TrustPolicy {
  const logs: NoteVerifier[] = [];
  const witnesses = new Map<string, { verifier: NoteVerifier; url?: string }>();
  const groups = new Map<string, Group>();
  const keys = new Set<string>();
  const grouped = new Set<string>();
  let quorum: string | undefined;
  for (const [number, raw] of text.split("\n").entries()) {
    const line = raw.replaceAll(/^[ \t]+|[ \t]+$/g, "");
    if (line === "" || line.startsWith("#")) continue;
    const fail = (what: string): never => {
      throw new AuditError("ERR_NONO_AUDIT_FORMAT", `line ${number + 1} of the policy ${what}`, {
        value: raw,
      });
    };
    const [keyword = "", ...words] = line.split(/[ \t]+/);
    const defined = (name: string): boolean => witnesses.has(name) || groups.has(name);
    const newKey = (vkey: string): NoteVerifier => {
      const material = vkey.slice(vkey.lastIndexOf("+") + 2);
      if (keys.has(material)) fail("repeats a key");
      keys.add(material);
      return noteVerifier(vkey);
    };
    if (keyword === "log" && (words.length === 1 || words.length === 2)) {
      logs.push(newKey(words[0] as string));
    } else if (keyword === "witness" && (words.length === 2 || words.length === 3)) {
      const [name = "", vkey = "", url] = words;
      if (defined(name) || name === "none") fail("names a witness twice");
      const verifier = newKey(vkey);
      if (!isCosigner(verifier))
        fail("gives a witness a key that is not for cosignatures (type 4 or 6)");
      witnesses.set(name, { verifier, ...(url !== undefined && { url }) });
    } else if (keyword === "group" && words.length >= 3) {
      const [name = "", k = "", ...members] = words;
      if (defined(name) || name === "none") fail("names a group twice");
      const threshold =
        k === "any" ? 1 : k === "all" ? members.length : Number(/^[1-9]\d*$/.exec(k)?.[0]);
      if (!(threshold >= 1 && threshold <= members.length))
        fail("has a threshold outside its group");
      for (const member of members) {
        if (!defined(member)) fail(`uses ${member} before it is defined`);
        if (grouped.has(member)) fail(`lists ${member} a second time`);
        grouped.add(member);
      }
      groups.set(name, { threshold, members });
    } else if (keyword === "quorum" && words.length === 1) {
      const [name = ""] = words;
      if (quorum !== undefined) fail("is a second quorum");
      if (name !== "none" && !defined(name)) fail(`uses ${name} before it is defined`);
      quorum = name;
    } else {
      fail("is none of log, witness, group, quorum");
    }
  }
  if (quorum === undefined)
    throw new AuditError("ERR_NONO_AUDIT_FORMAT", "the policy has no quorum line");
  return { logs, witnesses, groups, quorum };
}

function isCosigner({ type }: NoteVerifier): boolean {
  return type === signatureType.cosignatureEd25519 || type === signatureType.cosignatureMlDsa44;
}

/**
 * Whether the witnesses in `cosigned` (names of the policy) make its quorum.
 *
 * @example
 * ```ts
 * const policy = parsePolicy(readFileSync("witness.policy", "utf8"));
 * const isEnough = quorumMet(policy, new Set(["w1", "w3"]));
 * ```
 */
export function quorumMet({ quorum, groups }: TrustPolicy, cosigned: ReadonlySet<string>): boolean {
  const met = (name: string): boolean => {
    const group = groups.get(name);
    if (!group) return cosigned.has(name);
    return group.members.filter(met).length >= group.threshold;
  };
  return quorum === "none" || met(quorum);
}
