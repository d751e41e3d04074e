// Raw public and private keys to and from node:crypto, by their fixed DER prefixes (RFC 8410, RFC 9881).
import { Buffer } from "node:buffer";
import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { AuditError } from "./errors.ts";

interface RawKeyFormat {
  readonly seed: Buffer;
  readonly public: Buffer;
  readonly publicSize: number;
}

/** The key algorithms whose raw public keys C2SP verifier keys carry. */
export type RawKeyType = "ed25519" | "ml-dsa-44";

const prefixes: Readonly<Record<RawKeyType, RawKeyFormat>> = {
  ed25519: {
    seed: Buffer.from("302e020100300506032b657004220420", "hex"),
    public: Buffer.from("302a300506032b6570032100", "hex"),
    publicSize: 32,
  },
  "ml-dsa-44": {
    // PKCS #8 with the [0] IMPLICIT seed of RFC 9881 section 6.
    seed: Buffer.from("3034020100300b060960864801650304031104228020", "hex"),
    public: Buffer.from("30820532300b06096086480165030403110382052100", "hex"),
    publicSize: 1312,
  },
};

/** Bytes of an Ed25519 or ML-DSA-44 seed. */
export const seedSize = 32;

/** The private key of a 32-byte seed. */
export function privateKeyFromSeed(type: RawKeyType, seed: Uint8Array): KeyObject {
  if (seed.length !== seedSize) throw badKey(type, `seed of ${seed.length} bytes, not ${seedSize}`);
  const der = Buffer.concat([prefixes[type].seed, seed]);
  try {
    return createPrivateKey({ key: der, format: "der", type: "pkcs8" });
  } catch (cause) {
    throw badKey(type, "key, which this Node cannot use (ML-DSA needs Node 24)", cause);
  } finally {
    der.fill(0);
  }
}

/** The public key object of raw public key bytes. */
export function publicKeyFromRaw(type: RawKeyType, raw: Uint8Array): KeyObject {
  const { public: prefix, publicSize } = prefixes[type];
  if (raw.length !== publicSize)
    throw badKey(type, `public key of ${raw.length} bytes, not ${publicSize}`);
  try {
    return createPublicKey({ key: Buffer.concat([prefix, raw]), format: "der", type: "spki" });
  } catch (cause) {
    throw badKey(type, "public key, which this Node cannot use (ML-DSA needs Node 24)", cause);
  }
}

/** The raw public key bytes of an Ed25519 or ML-DSA-44 key, private or public. */
export function rawPublicKey(type: RawKeyType, key: KeyObject): Buffer {
  const publicKey = key.type === "private" ? createPublicKey(key) : key;
  const { public: prefix, publicSize } = prefixes[type];
  const der = publicKey.export({ format: "der", type: "spki" });
  if (key.asymmetricKeyType !== type || der.length !== prefix.length + publicSize) {
    throw badKey(type, `key expected, got ${key.asymmetricKeyType}`);
  }
  return der.subarray(prefix.length);
}

function badKey(type: RawKeyType, what: string, cause?: unknown): AuditError {
  return new AuditError("ERR_NONO_AUDIT_INPUT", `not a usable ${type} ${what}`, {
    value: type,
    cause,
  });
}
