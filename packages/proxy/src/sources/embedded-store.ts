import { createCipheriv, createDecipheriv, randomBytes, scrypt } from "node:crypto";
import { open, readFile, rename, stat } from "node:fs/promises";
import { sourceError } from "../credentials/source.ts";
import type { CredentialStore } from "./keychain.ts";

/** How the store's key is obtained. */
export type StoreKey =
  | { readonly passphrase: string }
  /** A file of at least 32 random bytes, readable by its owner only. */
  | { readonly keyFile: string };

/** The file: JSON, so that it can be looked at; everything secret is in `sealed`. */
interface SealedFile {
  readonly format: "nono-store-1";
  readonly salt: string;
  readonly nonce: string;
  readonly tag: string;
  readonly sealed: string;
}

// OWASP's recommendation for scrypt: N = 2^17, r = 8, p = 1 (128 MiB).
const cost = { N: 2 ** 17, r: 8, p: 1, maxmem: 256 * 1024 * 1024 };

/**
 * Secrets in one file for machines without a keychain: AES-256-GCM, key by scrypt, mode 0600. It is used only where
 * it is named, never instead of a keychain that failed.
 *
 * @example
 * const store = new EmbeddedStore("/var/lib/agent/secrets", { keyFile: "/run/keys/agent" });
 * await store.setPassword("nono", "GITHUB_TOKEN", token);
 */
export class EmbeddedStore implements CredentialStore {
  readonly #path: string;
  readonly #key: StoreKey;

  constructor(path: string, key: StoreKey) {
    this.#path = path;
    this.#key = key;
  }

  /** @throws GateError `ERR_NONO_CREDENTIAL_LOCKED` for a wrong key, `_STORE` for a file that is no store */
  async getPassword(service: string, account: string): Promise<string | null> {
    return (await this.#load())[entryName(service, account)] ?? null;
  }

  /** Stores a secret; the file is replaced as a whole. */
  async setPassword(service: string, account: string, password: string): Promise<void> {
    await this.#save({ ...(await this.#load()), [entryName(service, account)]: password });
  }

  /** Deletes an entry; false: there was none. */
  async deletePassword(service: string, account: string): Promise<boolean> {
    const entries = await this.#load();
    const name = entryName(service, account);
    const found = name in entries;
    delete entries[name];
    if (found) await this.#save(entries);
    return found;
  }

  async #load(): Promise<Record<string, string>> {
    let text: string;
    try {
      await requirePrivate(this.#path);
      text = await readFile(this.#path, "utf8");
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === "ENOENT") return {};
      throw error;
    }
    const file = parseSealed(text, this.#path);
    const key = await this.#derive(Buffer.from(file.salt, "base64"));
    const decipher = createDecipheriv("aes-256-gcm", key, Buffer.from(file.nonce, "base64"));
    decipher.setAAD(Buffer.from(file.format));
    decipher.setAuthTag(Buffer.from(file.tag, "base64"));
    try {
      const plain = Buffer.concat([
        decipher.update(Buffer.from(file.sealed, "base64")),
        decipher.final(),
      ]);
      return JSON.parse(plain.toString("utf8")) as Record<string, string>;
    } catch {
      throw sourceError(
        "ERR_NONO_CREDENTIAL_LOCKED",
        `The store ${this.#path} does not open with this key, or has been changed.`,
        "Check the passphrase or the key file.",
      );
    } finally {
      key.fill(0);
    }
  }

  async #save(entries: Record<string, string>): Promise<void> {
    const salt = randomBytes(16);
    const nonce = randomBytes(12);
    const key = await this.#derive(salt);
    const cipher = createCipheriv("aes-256-gcm", key, nonce);
    cipher.setAAD(Buffer.from("nono-store-1"));
    const sealed = Buffer.concat([cipher.update(JSON.stringify(entries), "utf8"), cipher.final()]);
    key.fill(0);
    const file: SealedFile = {
      format: "nono-store-1",
      salt: salt.toString("base64"),
      nonce: nonce.toString("base64"),
      tag: cipher.getAuthTag().toString("base64"),
      sealed: sealed.toString("base64"),
    };
    const temporary = `${this.#path}.${randomBytes(4).toString("hex")}`;
    const handle = await open(temporary, "wx", 0o600);
    try {
      await handle.writeFile(`${JSON.stringify(file)}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, this.#path);
  }

  async #derive(salt: Buffer): Promise<Buffer> {
    const secret = await this.#secret();
    return new Promise((resolve, reject) => {
      scrypt(secret, salt, 32, cost, (error, key) => {
        secret.fill(0);
        if (error) reject(error);
        else resolve(key);
      });
    });
  }

  async #secret(): Promise<Buffer> {
    if ("passphrase" in this.#key) return Buffer.from(this.#key.passphrase.normalize("NFKC"));
    await requirePrivate(this.#key.keyFile);
    const bytes = await readFile(this.#key.keyFile);
    if (bytes.length >= 32) return bytes;
    throw sourceError(
      "ERR_NONO_CREDENTIAL_INVALID",
      `The key file ${this.#key.keyFile} is shorter than 32 bytes.`,
      "Make one: head -c 32 /dev/urandom > FILE; chmod 600 FILE",
    );
  }
}

function entryName(service: string, account: string): string {
  return JSON.stringify([service, account]);
}

async function requirePrivate(path: string): Promise<void> {
  const { mode } = await stat(path);
  if ((mode & 0o077) === 0) return;
  throw sourceError(
    "ERR_NONO_CREDENTIAL_INVALID",
    `${path} can be read by others (mode ${(mode & 0o777).toString(8)}).`,
    `chmod 600 ${path}`,
  );
}

function parseSealed(text: string, path: string): SealedFile {
  try {
    const file = JSON.parse(text) as Partial<SealedFile>;
    if (file.format === "nono-store-1") return file as SealedFile;
  } catch {
    // Not JSON: the same answer.
  }
  throw sourceError(
    "ERR_NONO_CREDENTIAL_STORE",
    `${path} is not a nono store.`,
    "Name the file that EmbeddedStore wrote.",
  );
}
