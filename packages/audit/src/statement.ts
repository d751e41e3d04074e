// What a Sigstore anchor signs: an in-toto statement about one checkpoint, in a DSSE envelope.
import { Buffer } from "node:buffer";
import { parseCheckpoint } from "./checkpoint.ts";
import { AuditError } from "./errors.ts";
import { sha256 } from "./merkle.ts";

/** DSSE payload type of in-toto statements. */
export const statementType = "application/vnd.in-toto+json";

/** Type of what is stated about a checkpoint. */
export const predicateType = "https://nono.local/attestation/audit-checkpoint/v1";

/** The statement about a checkpoint text. */
export function checkpointStatement(text: string): Buffer {
  const { origin, size, root } = parseCheckpoint(text);
  const statement = {
    _type: "https://in-toto.io/Statement/v1",
    subject: [{ name: origin, digest: { sha256: sha256(Buffer.from(text)).toString("hex") } }],
    predicateType,
    predicate: { origin, size, root: root.toString("base64"), checkpoint: text },
  };
  return Buffer.from(JSON.stringify(statement));
}

/** @throws AuditError `ERR_NONO_AUDIT_SIGNATURE` when a signed statement is not about this checkpoint. */
export function checkStatement(payloadType: string, payload: Buffer, text: string): void {
  if (payloadType === statementType && payload.equals(checkpointStatement(text))) return;
  throw new AuditError(
    "ERR_NONO_AUDIT_SIGNATURE",
    "the bundle is about something else than this checkpoint",
    { value: payloadType },
  );
}

/** DSSE pre-authentication encoding: what the signature is over. */
export function preAuthenticationEncoding(type: string, body: Buffer): Buffer {
  return Buffer.concat([
    Buffer.from(`DSSEv1 ${Buffer.byteLength(type)} ${type} ${body.length} `),
    body,
  ]);
}
