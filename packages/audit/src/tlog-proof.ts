// C2SP tlog-proof: one text file that proves, offline, that an entry is in a signed tree.
import { Buffer } from "node:buffer";
import { decodeBase64 } from "./base64.ts";
import { parseCheckpoint, type TreeHead } from "./checkpoint.ts";
import { AuditError } from "./errors.ts";
import { hashSize, leafHash, verifyInclusion } from "./merkle.ts";
import { parseNote, type SignedNote } from "./note.ts";

/** The parts of a `.tlog-proof`. `extra` holds the entry itself, which the proof authenticates. */
export interface TlogProof {
  readonly index: number;
  readonly extra?: Buffer;
  readonly hashes: readonly Buffer[];
  /** The signed note of the checkpoint. */
  readonly checkpoint: string;
}

const header = "c2sp.org/tlog-proof@v1";

/**
 * The text of a proof.
 *
 * @example
 * ```ts
 * const proof = parseProof(await log.prove(17));
 * // Without the entry: whoever checks it must have that from elsewhere.
 * const { index, hashes, checkpoint } = proof;
 * writeFileSync("17.tlog-proof", formatProof({ index, hashes, checkpoint }));
 * ```
 */
export function formatProof({ index, extra, hashes, checkpoint }: TlogProof): string {
  const lines = [header];
  if (extra) lines.push(`extra ${extra.toString("base64")}`);
  lines.push(`index ${index}`, ...hashes.map((hash) => hash.toString("base64")), "");
  return `${lines.join("\n")}\n${checkpoint}`;
}

/**
 * Reads a proof.
 *
 * @throws AuditError `ERR_NONO_AUDIT_FORMAT`
 * @example
 * ```ts
 * const { index, extra } = parseProof(readFileSync("17.tlog-proof", "utf8"));
 * if (extra) console.log(decodeEntry(extra, index).object);
 * ```
 */
export function parseProof(text: string): TlogProof {
  const blank = text.indexOf("\n\n");
  const lines = text.slice(0, blank).split("\n");
  if (blank < 0 || lines.shift() !== header) throw badProof("does not start with its header");
  const extra = lines[0]?.startsWith("extra ") ? decodeBase64(lines.shift()?.slice(6) ?? "") : null;
  const index = /^index (0|[1-9]\d*)$/.exec(lines.shift() ?? "")?.[1];
  const hashes = lines.map(decodeBase64);
  if (extra === undefined || index === undefined || !Number.isSafeInteger(Number(index)))
    throw badProof("has no index");
  if (!hashes.every((hash) => hash?.length === hashSize)) throw badProof("has a malformed hash");
  return {
    index: Number(index),
    ...(extra && { extra }),
    hashes: hashes as Buffer[],
    checkpoint: text.slice(blank + 2),
  };
}

/**
 * Checks that the proof leads from `entry` (default: its `extra`) to its checkpoint; the signatures are the caller's to check.
 *
 * @throws AuditError `ERR_NONO_AUDIT_PROOF` or `ERR_NONO_AUDIT_FORMAT`
 * @example
 * ```ts
 * const { head, note } = checkProof(parseProof(readFileSync("17.tlog-proof", "utf8")));
 * const good = verifySignatures(note, [noteVerifier(vkey)]);
 * console.log(`in a tree of ${head.size} entries, signed by ${good.length} known keys`);
 * ```
 */
export function checkProof(
  proof: TlogProof,
  entry: Uint8Array | undefined = proof.extra,
): { head: TreeHead; note: SignedNote } {
  if (!entry) throw badProof("does not carry its entry; name the entry to check");
  const note = parseNote(proof.checkpoint);
  const head = parseCheckpoint(note.text);
  verifyInclusion({
    index: proof.index,
    size: head.size,
    leaf: leafHash(entry),
    proof: proof.hashes,
    root: head.root,
  });
  return { head, note };
}

function badProof(what: string): AuditError {
  return new AuditError("ERR_NONO_AUDIT_FORMAT", `the tlog-proof ${what}`);
}
