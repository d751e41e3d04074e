export { AuditError, type AuditErrorCode } from "./errors.ts";
export type * from "./event.ts";
export { decodeEntry, type Entry } from "./entry.ts";
export { openAuditLog, type AuditLog, type AuditLogOptions, type AuditSink } from "./log.ts";
export type { Receipt } from "./tile-log.ts";
export type { Recovery } from "./log-state.ts";
export { redactSensitive, type HiddenFields, type RedactRule } from "./redact.ts";
export { ecdsaSigner, ed25519Signer, mlDsa44Signer, type CheckpointSigner } from "./signer.ts";
export {
  cosignedText,
  formatNote,
  formatSignatureLine,
  formatVkey,
  noteVerifier,
  parseNote,
  signatureType,
  verifySignatures,
  type GoodSignature,
  type NoteSignature,
  type NoteVerifier,
  type SignedNote,
  type Verified,
} from "./note.ts";
export { formatCheckpoint, parseCheckpoint, type Checkpoint, type TreeHead } from "./checkpoint.ts";
export { leafHash, nodeHash, verifyConsistency, verifyInclusion } from "./merkle.ts";
export { checkProof, formatProof, parseProof, type TlogProof } from "./tlog-proof.ts";
export { parsePolicy, quorumMet, type TrustPolicy } from "./policy.ts";
export { LogReader } from "./reader.ts";
export {
  exitCode,
  formatReport,
  type Report,
  type Rung,
  type Step,
  type UnanchoredTail,
} from "./report.ts";
export { verifyLog } from "./verify.ts";
export type { EvidenceVerifier, VerifyPolicy } from "./verify-trust.ts";
export {
  HostLedger,
  readLedger,
  type LedgerEntry,
  type LedgerOptions,
  type LedgerRecord,
} from "./ledger.ts";
export type { Anchor, AnchorHead, AnchorResult, Evidence } from "./anchor.ts";
export type { EpochOptions } from "./ledgered-session.ts";
export {
  keyFileSigner,
  keyringSigner,
  type Keyring,
  type KeyringEntry,
  type StoredKeyType,
} from "./key-file.ts";
export type { Problem } from "./verify-tree.ts";
export { disclosuresOf, eraseDisclosures, type Disclosed } from "./erase.ts";
export { witnessAnchor, type WitnessOptions } from "./witness.ts";
