// Anchors at Sigstore: Rekor v2 and RFC 3161 time stamps, in a bundle that cosign and sigstore-go verify too.
import {
  createPrivateKey,
  createPublicKey,
  sign,
  X509Certificate,
  type KeyObject,
} from "node:crypto";
import { bundleToJSON } from "@sigstore/bundle";
import { PublicKeyDetails, TransparencyLogEntry } from "@sigstore/protobuf-specs";
import { CreateEntryRequest } from "@sigstore/protobuf-specs/rekor/v2";
import {
  CIContextProvider,
  DSSEBundleBuilder,
  FulcioSigner,
  TSAWitness,
  type IdentityProvider,
  type SignatureBundle,
  type Signer,
  type VerificationMaterial,
  type Witness,
} from "@sigstore/sign";
import type { Anchor } from "./anchor.ts";
import { AuditError } from "./errors.ts";
import { sha256 } from "./merkle.ts";
import { parseNote } from "./note.ts";
import { bundleVerifier, deepMessage, type SigstoreEvidenceOptions } from "./sigstore-bundle.ts";
import {
  checkpointStatement,
  checkStatement,
  preAuthenticationEncoding,
  statementType,
} from "./statement.ts";
import type { EvidenceVerifier } from "./verify-trust.ts";

export type { SigstoreEvidenceOptions };

/** Where to anchor, and as whom. Nothing has a default that leaves the host. */
export interface SigstoreAnchorOptions {
  /** Name of the anchor; lower case letters, digits, dots and dashes. */
  name: string;
  /** A private P-256 key; Rekor v2 takes no plain Ed25519. PEM or key object. */
  key?: string | KeyObject;
  /** Instead of a key: a short-lived certificate from this Fulcio, by the identity of the CI job or `identity`. */
  fulcio?: { url: string; identity?: IdentityProvider };
  /** Base URL of a Rekor v2 shard. */
  rekorUrl?: string;
  /** Base URL of an RFC 3161 time-stamp authority. Rekor v2 gives no time of its own. */
  tsaUrl?: string;
  /** Milliseconds for one request; default 30 000, since Rekor v2 answers only when a checkpoint covers the entry. */
  timeout?: number;
}

/**
 * An anchor that keeps a Sigstore bundle (v0.3, DSSE) beside the ledger.
 *
 * @throws AuditError `ERR_NONO_AUDIT_INPUT` when neither a key nor Fulcio, or neither Rekor nor a TSA, is given.
 * @example
 * ```ts
 * const anchor = sigstoreAnchor({ name: "rekor", key: pem, rekorUrl: "https://rekor.example", tsaUrl: "https://tsa.example" });
 * ```
 */
export function sigstoreAnchor(options: SigstoreAnchorOptions): Anchor {
  const { name, timeout = 30_000, rekorUrl, tsaUrl } = options;
  const signer = signerOf(options, timeout);
  const witnesses: Witness[] = [];
  if (rekorUrl !== undefined) witnesses.push(rekorV2Witness(rekorUrl, timeout));
  if (tsaUrl !== undefined) witnesses.push(new TSAWitness({ tsaBaseURL: tsaUrl, timeout }));
  if (witnesses.length === 0)
    throw badOption("a Sigstore anchor needs a Rekor v2 URL or a TSA URL", name);
  const builder = new DSSEBundleBuilder({ signer, witnesses });
  return {
    name,
    async submit(head) {
      const { text } = parseNote(head.note);
      try {
        const bundle = await builder.create({
          data: checkpointStatement(text),
          type: statementType,
        });
        return { kind: "bundle", json: `${JSON.stringify(bundleToJSON(bundle))}\n` };
      } catch (cause) {
        if (cause instanceof AuditError) throw cause;
        throw new AuditError(
          "ERR_NONO_AUDIT_ANCHOR",
          `anchor ${name} failed: ${deepMessage(cause)}`,
          { cause, value: name },
        );
      }
    },
  };
}

function signerOf({ name, key, fulcio }: SigstoreAnchorOptions, timeout: number): Signer {
  if ((key === undefined) === (fulcio === undefined))
    throw badOption("a Sigstore anchor needs either a key or Fulcio", name);
  if (fulcio) {
    const identityProvider = fulcio.identity ?? new CIContextProvider("sigstore");
    return new FulcioSigner({ fulcioBaseURL: fulcio.url, identityProvider, timeout });
  }
  const privateKey = typeof key === "string" ? createPrivateKey(key) : key;
  if (privateKey?.asymmetricKeyDetails?.namedCurve !== "prime256v1")
    throw badOption("the anchor key must be P-256", name);
  const publicKey = createPublicKey(privateKey).export({ format: "pem", type: "spki" }).toString();
  // No hint: it would become the DSSE key id, and cosign refuses every key id but the one it computes itself.
  return {
    sign: async (data) => ({
      signature: sign("sha256", data, privateKey),
      key: { $case: "publicKey", publicKey },
    }),
  };
}

/**
 * Rekor v2 logs one kind of entry since rekor-tiles 2.3: hashedrekord 0.0.2. A DSSE envelope is logged as the digest
 * of its pre-authentication encoding. (`RekorWitness` of @sigstore/sign 5.1 still sends the removed DSSE kind.)
 */
function rekorV2Witness(baseUrl: string, timeout: number): Witness {
  return {
    async testify(content: SignatureBundle, publicKey: string): Promise<VerificationMaterial> {
      const body = JSON.stringify(CreateEntryRequest.toJSON(entryRequest(content, publicKey)));
      const response = await fetch(`${baseUrl.replace(/\/$/, "")}/api/v2/log/entries`, {
        method: "POST",
        headers: { "content-type": "application/json", accept: "application/json" },
        body,
        redirect: "error",
        signal: AbortSignal.timeout(timeout),
      });
      const text = await response.text();
      if (!response.ok) {
        throw new AuditError(
          "ERR_NONO_AUDIT_ANCHOR",
          `Rekor answered ${response.status} ${text.slice(0, 300)}`,
          { value: response.status },
        );
      }
      return { tlogEntries: [TransparencyLogEntry.fromJSON(JSON.parse(text)) as never] };
    },
  };
}

function entryRequest(content: SignatureBundle, pem: string): CreateEntryRequest {
  const envelope = content.$case === "dsseEnvelope" ? content.dsseEnvelope : undefined;
  const signature = envelope?.signatures[0];
  if (!envelope || !signature) throw badOption("only DSSE envelopes are anchored", content.$case);
  const encoded = preAuthenticationEncoding(envelope.payloadType, envelope.payload);
  const verifier = pem.includes("BEGIN CERTIFICATE")
    ? {
        $case: "x509Certificate" as const,
        x509Certificate: { rawBytes: new X509Certificate(pem).raw },
      }
    : {
        $case: "publicKey" as const,
        publicKey: { rawBytes: createPublicKey(pem).export({ format: "der", type: "spki" }) },
      };
  return {
    spec: {
      $case: "hashedRekordRequestV002",
      hashedRekordRequestV002: {
        digest: sha256(encoded),
        signature: {
          content: signature.sig,
          verifier: { verifier, keyDetails: PublicKeyDetails.PKIX_ECDSA_P256_SHA_256 },
        },
      },
    },
  };
}

/**
 * Reads Sigstore bundles offline, for `verifyLog`.
 *
 * @throws AuditError `ERR_NONO_AUDIT_INPUT` when not exactly one of key and identity is given, or the trusted root
 * is malformed.
 * @example
 * ```ts
 * const evidence = sigstoreEvidence({
 *   trustedRoot,
 *   identity: { subjectAlternativeName: "ci@example.com", issuer: "https://issuer.example" },
 * });
 * const report = await verifyLog(dir, { ledgerKeys: [vkey], evidence: [evidence], require: "TIMED" });
 * ```
 */
export function sigstoreEvidence(options: SigstoreEvidenceOptions): EvidenceVerifier {
  const verify = bundleVerifier(options);
  return {
    async verify(json, checkpointText) {
      const { payloadType, payload, who, time } = verify(json);
      checkStatement(payloadType, payload, checkpointText);
      return { who, time };
    },
  };
}

function badOption(message: string, value: unknown): AuditError {
  return new AuditError("ERR_NONO_AUDIT_INPUT", message, { value });
}
