// C2SP signed notes: text, a blank line, and lines of signatures by named keys.
import { Buffer } from "node:buffer";
import { createPublicKey, verify, type KeyObject } from "node:crypto";
import { decodeBase64 } from "./base64.ts";
import { AuditError } from "./errors.ts";
import { publicKeyFromRaw } from "./keys.ts";
import { sha256 } from "./merkle.ts";

/** Signature types of C2SP signed-note and tlog-cosignature. */
export const signatureType = {
  ed25519: 0x01,
  ecdsa: 0x02,
  cosignatureEd25519: 0x04,
  cosignatureMlDsa44: 0x06,
} as const;

/** One signature line: who, and the bytes after the four of the key id. */
export interface NoteSignature {
  readonly name: string;
  readonly keyId: number;
  readonly signature: Buffer;
}

/** A parsed note. `text` includes its final newline. */
export interface SignedNote {
  readonly text: string;
  readonly signatures: readonly NoteSignature[];
}

/** What a good signature says beyond "I signed this": the time of a cosignature, in seconds since the epoch. */
export interface Verified {
  readonly timestamp?: number;
}

/**
 * A public key that checks note signatures.
 *
 * @example
 * ```ts
 * const verifier: NoteVerifier = noteVerifier(vkey);
 * const { text, signatures } = parseNote(checkpoint);
 * const isGood = signatures.some(({ signature }) => verifier.verify(text, signature) !== undefined);
 * ```
 */
export interface NoteVerifier {
  readonly name: string;
  readonly keyId: number;
  readonly type: number;
  /** The C2SP verifier key string: `name+hex id+base64(type, key)`. */
  readonly vkey: string;
  /** Undefined when the signature is not good. */
  verify(text: string, signature: Uint8Array): Verified | undefined;
}

const maxSignatures = 100;

/**
 * Parses a signed note.
 *
 * @throws AuditError `ERR_NONO_AUDIT_FORMAT`
 * @example
 * ```ts
 * const { text, signatures } = parseNote(readFileSync("checkpoint", "utf8"));
 * console.log(text, signatures.map(({ name }) => name));
 * ```
 */
export function parseNote(note: Uint8Array | string): SignedNote {
  const source = typeof note === "string" ? note : decodeUtf8(note);
  for (let i = 0; i < source.length; i += 1) {
    const unit = source.charCodeAt(i);
    if ((unit < 0x20 && unit !== 0x0a) || unit === 0xfffd)
      throw badNote("has a control or replacement character");
  }
  const blank = source.lastIndexOf("\n\n");
  if (blank < 0) throw badNote("has no blank line before its signatures");
  const text = source.slice(0, blank + 1);
  const block = source.slice(blank + 2);
  if (block === "" || !block.endsWith("\n")) throw badNote("does not end with a signature line");
  const signatures = block.slice(0, -1).split("\n").map(parseSignatureLine);
  if (signatures.length > maxSignatures) throw badNote(`has more than ${maxSignatures} signatures`);
  return { text, signatures };
}

/** Parses one "em dash, name, base64" line without its newline. */
export function parseSignatureLine(line: string): NoteSignature {
  const [dash, name = "", encoded = "", ...rest] = line.split(" ");
  const bytes = decodeBase64(encoded);
  if (dash !== "—" || !isKeyName(name) || !bytes || bytes.length < 5 || rest.length > 0) {
    throw badNote("has a malformed signature line", line);
  }
  return { name, keyId: bytes.readUInt32BE(0), signature: bytes.subarray(4) };
}

/**
 * The signature line, with its newline.
 *
 * @example
 * ```ts
 * const note = parseNote(checkpoint);
 * const lines = note.signatures.map(formatSignatureLine);
 * ```
 */
export function formatSignatureLine({ name, keyId, signature }: NoteSignature): string {
  const id = Buffer.alloc(4);
  id.writeUInt32BE(keyId);
  return `— ${name} ${Buffer.concat([id, signature]).toString("base64")}\n`;
}

/**
 * The whole note.
 *
 * @example
 * ```ts
 * const note = parseNote(checkpoint);
 * const onlyOurs = note.signatures.filter(({ name }) => name === "example.com/log");
 * writeFileSync("checkpoint", formatNote({ text: note.text, signatures: onlyOurs }));
 * ```
 */
export function formatNote({ text, signatures }: SignedNote): string {
  return `${text}\n${signatures.map(formatSignatureLine).join("")}`;
}

/** A good signature and the key that made it. */
export interface GoodSignature extends Verified {
  readonly verifier: NoteVerifier;
}

/**
 * The good signatures by known keys. Lines of unknown keys are ignored, as the specification asks.
 *
 * @throws AuditError `ERR_NONO_AUDIT_SIGNATURE` when a line of a known key is not good.
 * @example
 * ```ts
 * const good = verifySignatures(parseNote(checkpoint), [noteVerifier(vkey)]);
 * if (good.length === 0) throw new Error("nobody we know has signed this");
 * ```
 */
export function verifySignatures(
  note: SignedNote,
  verifiers: Iterable<NoteVerifier>,
): GoodSignature[] {
  const known = new Map<string, NoteVerifier>();
  for (const verifier of verifiers) known.set(`${verifier.name}+${verifier.keyId}`, verifier);
  const good = new Map<string, GoodSignature>();
  for (const { name, keyId, signature } of note.signatures) {
    const key = `${name}+${keyId}`;
    const verifier = known.get(key);
    if (!verifier || good.has(key)) continue;
    const verified = verifier.verify(note.text, signature);
    if (!verified) {
      throw new AuditError(
        "ERR_NONO_AUDIT_SIGNATURE",
        `the signature of ${verifier.vkey} is not good`,
        {
          value: verifier.vkey,
        },
      );
    }
    good.set(key, { verifier, ...verified });
  }
  return [...good.values()];
}

/** The key id: the first four bytes of SHA-256(name, newline, type, key); for ECDSA of the SPKI alone. */
export function noteKeyId(name: string, type: number, key: Uint8Array): number {
  const material =
    type === signatureType.ecdsa
      ? key
      : Buffer.concat([Buffer.from(`${name}\n`), Buffer.of(type), key]);
  return sha256(material).readUInt32BE(0);
}

/**
 * The verifier key string of a public key.
 *
 * @example
 * ```ts
 * const { publicKey } = generateKeyPairSync("ed25519");
 * const raw = publicKey.export({ format: "der", type: "spki" }).subarray(-32);
 * const vkey = formatVkey("example.com/log", signatureType.ed25519, raw);
 * ```
 */
export function formatVkey(name: string, type: number, key: Uint8Array): string {
  const id = noteKeyId(name, type, key).toString(16).padStart(8, "0");
  return `${name}+${id}+${Buffer.concat([Buffer.of(type), key]).toString("base64")}`;
}

/**
 * Reads a C2SP verifier key.
 *
 * @throws AuditError `ERR_NONO_AUDIT_FORMAT`
 * @example
 * ```ts
 * const verifier = noteVerifier("example.com/log+b1952a3a+AYdS6jrdZ...");
 * ```
 */
export function noteVerifier(vkey: string): NoteVerifier {
  const [name = "", id = "", ...encoded] = vkey.split("+");
  const bytes = decodeBase64(encoded.join("+"));
  if (!isKeyName(name) || !/^[0-9a-f]{8}$/.test(id) || !bytes || bytes.length < 2)
    throw badVkey(vkey);
  const type = bytes.readUInt8(0);
  const key = bytes.subarray(1);
  const keyId = Number.parseInt(id, 16);
  if (noteKeyId(name, type, key) !== keyId) throw badVkey(vkey);
  return { name, keyId, type, vkey, verify: verifierOfType(type, name, key, vkey) };
}

function verifierOfType(
  type: number,
  name: string,
  key: Buffer,
  vkey: string,
): NoteVerifier["verify"] {
  switch (type) {
    case signatureType.ed25519:
      return plainVerifier(publicKeyFromRaw("ed25519", key), null);
    case signatureType.ecdsa:
      return plainVerifier(createPublicKey({ key, format: "der", type: "spki" }), "sha256");
    case signatureType.cosignatureEd25519:
      return cosignatureVerifier(publicKeyFromRaw("ed25519", key), cosignedText);
    case signatureType.cosignatureMlDsa44:
      return cosignatureVerifier(publicKeyFromRaw("ml-dsa-44", key), (text, time) =>
        cosignedTree(name, text, time),
      );
    default:
      throw badVkey(vkey);
  }
}

function plainVerifier(key: KeyObject, digest: string | null): NoteVerifier["verify"] {
  return (text, signature) => (verify(digest, Buffer.from(text), key, signature) ? {} : undefined);
}

/** Seconds: of what is later there is no date. */
const latest = 8.64e12;

function cosignatureVerifier(
  key: KeyObject,
  message: (text: string, timestamp: number) => Buffer | undefined,
): NoteVerifier["verify"] {
  return (text, timestamped) => {
    if (timestamped.length <= 8) return undefined;
    const bytes = Buffer.from(timestamped);
    const timestamp = Number(bytes.readBigUInt64BE(0));
    const signed = timestamp <= latest ? message(text, timestamp) : undefined;
    return signed && verify(null, signed, key, bytes.subarray(8)) ? { timestamp } : undefined;
  };
}

/**
 * What an Ed25519 cosignature (0x04) covers.
 *
 * @example
 * ```ts
 * const { text } = parseNote(checkpoint);
 * const signature = sign(null, cosignedText(text, Math.floor(Date.now() / 1000)), privateKey);
 * ```
 */
export function cosignedText(text: string, timestamp: number): Buffer {
  return Buffer.from(`cosignature/v1\ntime ${timestamp}\n${text}`);
}

/** What an ML-DSA-44 cosignature (0x06) covers: tree and names, no extension lines. */
export function cosignedTree(
  cosigner: string,
  text: string,
  timestamp: number,
): Buffer | undefined {
  const [origin = "", size = "", root = ""] = text.split("\n");
  const hash = decodeBase64(root);
  if (!/^(0|[1-9]\d*)$/.test(size) || hash?.length !== 32) return undefined;
  return Buffer.concat([
    Buffer.from("subtree/v1\n\0"),
    shortString(cosigner),
    uint64(timestamp),
    shortString(origin),
    uint64(0),
    uint64(Number(size)),
    hash,
  ]);
}

function shortString(text: string): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.length === 0 || bytes.length > 255)
    throw badNote("names a cosigner or origin of 0 or over 255 bytes", text);
  return Buffer.concat([Buffer.of(bytes.length), bytes]);
}

/** Big-endian 64-bit integer. */
export function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(value));
  return bytes;
}

/** Key names have no Unicode space and no plus, and are not empty. */
export function isKeyName(name: string): boolean {
  return name !== "" && name.isWellFormed() && !/[\s+\p{Cc}]/u.test(name);
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new AuditError("ERR_NONO_AUDIT_FORMAT", "the signed note is not UTF-8", { cause });
  }
}

function badNote(what: string, value?: unknown): AuditError {
  return new AuditError("ERR_NONO_AUDIT_FORMAT", `the signed note ${what}`, { value });
}

function badVkey(vkey: string): AuditError {
  return new AuditError(
    "ERR_NONO_AUDIT_FORMAT",
    "not a verifier key this version knows (name+hex id+base64(type, key), types 1, 2, 4, 6)",
    { value: vkey },
  );
}
