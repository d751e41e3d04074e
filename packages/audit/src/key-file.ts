// Keys at rest: a private file, or the keyring of the operating system.
import { Buffer } from "node:buffer";
import { createPrivateKey, generateKeyPairSync, randomBytes } from "node:crypto";
import {
  closeSync,
  fstatSync,
  fsyncSync,
  linkSync,
  openSync,
  readFileSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { AuditError, errnoOf } from "./errors.ts";
import { seedSize } from "./keys.ts";
import { ecdsaSigner, ed25519Signer, type CheckpointSigner } from "./signer.ts";

/** What kind of key is made on first use. Witnesses demand Ed25519; P-256 is what Rekor v2 and many KMS take. */
export type StoredKeyType = "ed25519" | "p256";

/**
 * A signer whose key is in a file of mode 0600, made on first use: an Ed25519 seed in hex, or a P-256 key in PEM
 * (PKCS #8). A file that is there keeps its kind.
 *
 * @throws AuditError `ERR_NONO_AUDIT_INPUT` when the file is readable by others or holds no such key.
 * @example
 * ```ts
 * const signer = keyFileSigner("/var/lib/nono/ledger.key", "nono.local/host-7");
 * ```
 */
export function keyFileSigner(
  file: string,
  name: string,
  type: StoredKeyType = "ed25519",
): CheckpointSigner {
  return signerOf(readKey(file) ?? createKey(file, type), name, `key file ${file}`);
}

/**
 * The part of keytar's interface that is needed; `@napi-rs/keyring/keytar` and keytar itself have it.
 *
 * @example
 * ```ts
 * const entries = new Map<string, string>();
 * const inMemory: Keyring = {
 *   getPassword: async (service, account) => entries.get(`${service}/${account}`) ?? null,
 *   setPassword: async (service, account, secret) => void entries.set(`${service}/${account}`, secret),
 * };
 * ```
 */
export interface Keyring {
  /** The entry; null: there is none. */
  getPassword(service: string, account: string): Promise<string | null>;
  /** Stores an entry, or replaces it. */
  setPassword(service: string, account: string, password: string): Promise<void>;
}

/** Where a key is in the keyring. */
export interface KeyringEntry {
  /** Default `"nono"`. */
  service?: string;
  account: string;
}

/**
 * A signer whose key is in the operating system's keyring, made on first use.
 *
 * @throws AuditError `ERR_NONO_AUDIT_INPUT` when the entry holds no key; whatever the keyring throws.
 * @example
 * ```ts
 * import * as keyring from "@napi-rs/keyring/keytar";
 * const signer = await keyringSigner(keyring, { account: "ledger" }, "nono.local/host-7");
 * ```
 */
export async function keyringSigner(
  keyring: Keyring,
  { service = "nono", account }: KeyringEntry,
  name: string,
  type: StoredKeyType = "ed25519",
): Promise<CheckpointSigner> {
  if ((await keyring.getPassword(service, account)) === null)
    await keyring.setPassword(service, account, newKey(type));
  // What is there now is the key, also where another process was faster.
  const kept = await keyring.getPassword(service, account);
  return signerOf(kept ?? "", name, `keyring entry ${service}/${account}`);
}

function signerOf(text: string, name: string, where: string): CheckpointSigner {
  try {
    if (text.startsWith("-----BEGIN")) return ecdsaSigner(name, createPrivateKey(text));
    const seed = Buffer.from(text.trim(), "hex");
    if (seed.length === seedSize) return ed25519Signer(name, seed);
  } catch (cause) {
    throw badKey(where, cause);
  }
  throw badKey(where);
}

function badKey(where: string, cause?: unknown): AuditError {
  return new AuditError(
    "ERR_NONO_AUDIT_INPUT",
    `${where} holds neither ${seedSize} bytes in hex nor a P-256 key in PEM`,
    { cause },
  );
}

function newKey(type: StoredKeyType): string {
  if (type === "ed25519") return `${randomBytes(seedSize).toString("hex")}\n`;
  const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  return privateKey.export({ format: "pem", type: "pkcs8" }).toString();
}

function readKey(file: string): string | undefined {
  let fd: number;
  try {
    fd = openSync(file, "r");
  } catch (error) {
    if (errnoOf(error) === "ENOENT") return undefined;
    throw error;
  }
  try {
    const { mode } = fstatSync(fd);
    if ((mode & 0o077) === 0) return readFileSync(fd, "latin1");
    throw new AuditError(
      "ERR_NONO_AUDIT_INPUT",
      `key file ${file} can be read by others; chmod 600 it, or make a new key`,
      { value: `0${(mode & 0o777).toString(8)}` },
    );
  } finally {
    closeSync(fd);
  }
}

/** Makes the file whole or not at all; when another process was first, its key is the one. */
function createKey(file: string, type: StoredKeyType): string {
  const key = newKey(type);
  const aside = `${file}.${randomBytes(6).toString("hex")}`;
  const fd = openSync(aside, "wx", 0o600);
  try {
    writeSync(fd, key);
    fsyncSync(fd);
    linkSync(aside, file);
    return key;
  } catch (error) {
    const theirs = errnoOf(error) === "EEXIST" ? readKey(file) : undefined;
    if (theirs !== undefined) return theirs;
    throw error;
  } finally {
    closeSync(fd);
    unlinkSync(aside);
  }
}
