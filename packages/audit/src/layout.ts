// Where the private parts of a log directory are; the rest is C2SP tlog-tiles.
import path from "node:path";

/** Names inside a log directory, relative to it. */
export const layout = {
  checkpoint: "checkpoint",
  /** The last head we signed or were about to sign: durable before its checkpoint leaves the process. */
  head: ".nono/head",
  heads: ".nono/heads",
  journal: ".nono/journal",
  lock: ".nono/lock",
  identity: ".nono/identity",
  disclosures: ".nono/disclosures",
  anchors: ".nono/anchors",
  /** Verifier keys of the epoch schedule, one a line. */
  epochs: ".nono/epochs",
  /** Proofs of what the host ledger says about this log, one `<record>.tlog-proof` each. */
  ledger: ".nono/ledger",
  /** Sessions whose proofs are renewed once a head of the ledger is anchored. */
  due: ".nono/due",
  /** Set once an anchor has seen a larger or different tree: nothing is signed any more. */
  forked: ".nono/forked",
} as const;

/** An archived checkpoint. */
export function headPath(size: number): string {
  return path.posix.join(layout.heads, String(size));
}

/** The disclosures of the entries of bundle `index`. */
export function disclosuresPath(index: number): string {
  return path.posix.join(layout.disclosures, String(index));
}
