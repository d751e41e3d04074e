// Who signs checkpoints.
import { Buffer } from "node:buffer";
import {
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  sign,
  type KeyObject,
} from "node:crypto";
import { AuditError } from "./errors.ts";
import { privateKeyFromSeed, rawPublicKey, seedSize } from "./keys.ts";
import {
  cosignedTree,
  formatVkey,
  isKeyName,
  signatureType,
  uint64,
  type NoteSignature,
} from "./note.ts";

/**
 * Signs checkpoints. Implement it over a KMS or hardware key; `sign` may be asynchronous.
 *
 * @example
 * ```ts
 * const signer: CheckpointSigner = {
 *   vkey: "example.com/log+b1952a3a+AYdS6jrdZ...",
 *   sign: async (text) => kms.signEd25519(Buffer.from(text)),
 * };
 * ```
 */
export interface CheckpointSigner {
  /** The C2SP verifier key of the signatures; its name should be the origin of the log. */
  readonly vkey: string;
  /** The signature bytes (without the key id) over the checkpoint text. */
  sign(text: string): Uint8Array | Promise<Uint8Array>;
}

/**
 * An Ed25519 signer from a 32-byte seed, or with a fresh key.
 *
 * @throws AuditError `ERR_NONO_AUDIT_INPUT` on a bad name or seed.
 * @example
 * ```ts
 * const signer = ed25519Signer("example.com/host");
 * console.log(signer.vkey);
 * ```
 */
export function ed25519Signer(name: string, seed?: Uint8Array): CheckpointSigner {
  const key = seed
    ? privateKeyFromSeed("ed25519", seed)
    : generateKeyPairSync("ed25519").privateKey;
  return keySigner(name, signatureType.ed25519, rawPublicKey("ed25519", key), (text) =>
    sign(null, Buffer.from(text), key),
  );
}

/**
 * An ECDSA P-256 signer (note signature type 0x02, SHA-256, DER), for hosts whose key is not Ed25519.
 *
 * @example
 * ```ts
 * const key = createPrivateKey(readFileSync("/run/keys/log.pem"));
 * const signer = ecdsaSigner("example.com/host", key);
 * ```
 */
export function ecdsaSigner(name: string, key: KeyObject): CheckpointSigner {
  if (key.asymmetricKeyDetails?.namedCurve !== "prime256v1" || key.type !== "private") {
    throw new AuditError("ERR_NONO_AUDIT_INPUT", "ecdsaSigner needs a private P-256 key", {
      value: key.asymmetricKeyDetails?.namedCurve,
    });
  }
  const spki = createPublicKey(key).export({ format: "der", type: "spki" });
  return keySigner(name, signatureType.ecdsa, spki, (text) =>
    sign("sha256", Buffer.from(text), key),
  );
}

/**
 * A post-quantum signer: ML-DSA-44 in the C2SP cosignature form (0x06), made beside the Ed25519 line.
 * Needs Node 24.
 *
 * @throws AuditError `ERR_NONO_AUDIT_INPUT` where this Node has no ML-DSA.
 * @example
 * ```ts
 * const log = await openAuditLog({ dir, origin, signer: [ed25519Signer(origin), mlDsa44Signer(origin)] });
 * ```
 */
export function mlDsa44Signer(
  name: string,
  seed: Uint8Array = randomBytes(seedSize),
): CheckpointSigner {
  const key = privateKeyFromSeed("ml-dsa-44", seed);
  return keySigner(
    name,
    signatureType.cosignatureMlDsa44,
    rawPublicKey("ml-dsa-44", key),
    (text) => {
      const timestamp = Math.floor(Date.now() / 1000);
      const message = cosignedTree(name, text, timestamp);
      if (!message)
        throw new AuditError("ERR_NONO_AUDIT_FORMAT", "not a checkpoint", { value: text });
      return Buffer.concat([uint64(timestamp), sign(null, message, key)]);
    },
  );
}

function keySigner(
  name: string,
  type: number,
  publicKey: Buffer,
  signText: (text: string) => Buffer,
): CheckpointSigner {
  if (!isKeyName(name)) {
    throw new AuditError("ERR_NONO_AUDIT_INPUT", "a key name has no spaces and no plus sign", {
      value: name,
    });
  }
  return { vkey: formatVkey(name, type, publicKey), sign: signText };
}

/** Signs `text` as the line of `signer`. */
export async function signatureLine(
  signer: CheckpointSigner,
  text: string,
): Promise<NoteSignature> {
  const [name = "", id = ""] = signer.vkey.split("+");
  return { name, keyId: Number.parseInt(id, 16), signature: Buffer.from(await signer.sign(text)) };
}
