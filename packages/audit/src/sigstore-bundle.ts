// Whether a Sigstore bundle proves who signed a DSSE envelope, and when. What the envelope says is not judged here.
import { createPublicKey } from "node:crypto";
import { bundleFromJSON } from "@sigstore/bundle";
import { TrustedRoot } from "@sigstore/protobuf-specs";
import {
  toSignedEntity,
  toTrustMaterial,
  Verifier,
  type Signer,
  type TrustMaterial,
} from "@sigstore/verify";
import { AuditError } from "./errors.ts";

/** Whom to believe about bundles. */
export interface SigstoreEvidenceOptions {
  /** A Sigstore trusted root: the JSON text of the file, or parsed. */
  trustedRoot: string | object;
  /** The public key (PEM) that must have signed; or */
  key?: string;
  /** the certificate identity that must have; both are compared as they are, not as patterns. */
  identity?: { subjectAlternativeName: string; issuer: string };
  /** Log entries a bundle must have; default 1. Use 0 for bundles that have a time stamp alone. */
  tlogThreshold?: number;
}

/** An envelope whose signature, log entries and time stamps have all been verified. */
export interface VerifiedEnvelope {
  readonly payloadType: string;
  readonly payload: Buffer;
  /** The certificate's identity, or "sigstore bundle" for a bare key. */
  readonly who: string;
  /** Milliseconds since the epoch: the envelope existed then. */
  readonly time: number;
}

/**
 * Makes the verification of bundles by one trusted root and one signer.
 *
 * @throws AuditError `ERR_NONO_AUDIT_INPUT` when the options are not acceptable; what is returned throws
 * `ERR_NONO_AUDIT_SIGNATURE` when a bundle proves nothing.
 */
export function bundleVerifier(
  options: SigstoreEvidenceOptions,
): (json: string) => VerifiedEnvelope {
  const { key, identity, tlogThreshold = 1 } = options;
  if ((key === undefined) === (identity === undefined))
    throw new AuditError(
      "ERR_NONO_AUDIT_INPUT",
      "name either the key or the identity that signs, and not both",
    );
  const verifier = new Verifier(trustMaterial(options.trustedRoot, key), {
    tlogThreshold,
    timestampThreshold: 1,
    ctlogThreshold: identity ? 1 : 0,
  });
  return (json) => {
    try {
      const bundle = bundleFromJSON(JSON.parse(json));
      if (bundle.content.$case !== "dsseEnvelope") throw new Error("not a DSSE bundle");
      const { payload, payloadType } = bundle.content.dsseEnvelope;
      // It also takes every certificate that the root's authorities issued when no identity is asked for: a bundle of
      // anybody in the world must not pass for one of the key.
      const signed = bundle.verificationMaterial.content.$case;
      if (identity && signed === "publicKey") throw new Error("signed by a bare key");
      if (!identity && signed !== "publicKey") throw new Error("signed by a certificate");
      const entity = toSignedEntity(bundle);
      const signer = verifier.verify(entity);
      if (identity) checkIdentity(signer, identity);
      const who = identity?.subjectAlternativeName ?? "sigstore bundle";
      return { payloadType, payload, who, time: timeOf(entity) };
    } catch (cause) {
      // The verifier throws more than its own errors at odd input; whatever it is, the bundle proves nothing.
      throw new AuditError(
        "ERR_NONO_AUDIT_SIGNATURE",
        `the Sigstore bundle does not verify: ${deepMessage(cause)}`,
        { cause },
      );
    }
  };
}

/** By ourselves: the verifier would take the name for a pattern that may match anywhere in the certificate's. */
function checkIdentity(
  { identity: found }: Signer,
  { subjectAlternativeName, issuer }: NonNullable<SigstoreEvidenceOptions["identity"]>,
): void {
  const [name, by] = [found?.subjectAlternativeName, found?.extensions?.issuer];
  if (name !== subjectAlternativeName || by !== issuer)
    throw new Error(`signed by ${name} of ${by}, not by ${subjectAlternativeName} of ${issuer}`);
}

function trustMaterial(trustedRoot: string | object, key: string | undefined): TrustMaterial {
  try {
    const json: unknown = typeof trustedRoot === "string" ? JSON.parse(trustedRoot) : trustedRoot;
    const root = TrustedRoot.fromJSON(json);
    checkIntervals(root);
    const publicKey = key === undefined ? undefined : createPublicKey(key);
    return toTrustMaterial(root, publicKey && (() => ({ publicKey, validFor: () => true })));
  } catch (cause) {
    throw new AuditError(
      "ERR_NONO_AUDIT_INPUT",
      `the trusted root or the key cannot be read: ${deepMessage(cause)}`,
      { cause },
    );
  }
}

/** An interval must have a start; the verifier would take a missing one for the beginning of time. */
function checkIntervals({
  tlogs,
  ctlogs,
  certificateAuthorities,
  timestampAuthorities,
}: TrustedRoot): void {
  const logs = [...tlogs, ...ctlogs].map(({ baseUrl, publicKey }) => ({
    name: baseUrl,
    validFor: publicKey?.validFor,
  }));
  const authorities = [...certificateAuthorities, ...timestampAuthorities].map(
    ({ uri, validFor }) => ({ name: uri, validFor }),
  );
  for (const { name, validFor } of [...logs, ...authorities])
    if (validFor && validFor.start === undefined)
      throw new Error(`the validity of ${name} has no start`);
}

/** The earliest time stamp; all of them were verified. */
function timeOf(entity: ReturnType<typeof toSignedEntity>): number {
  const times = entity.timestamps.flatMap((stamp) =>
    stamp.$case === "timestamp-authority" ? [stamp.timestamp.signingTime.getTime()] : [],
  );
  if (times.length === 0) throw new Error("the bundle has no RFC 3161 time stamp");
  return Math.min(...times);
}

/** The libraries wrap the reason several times over. */
export function deepMessage(error: unknown): string {
  const parts: string[] = [];
  for (let at: unknown = error; at instanceof Error && parts.length < 4; at = at.cause)
    parts.push(at.message);
  return parts.join(": ");
}
