import type { AsyncEntry } from "@napi-rs/keyring";
import { GateError } from "../errors.ts";
import { type CredentialSource, sourceError } from "../credentials/source.ts";

/**
 * Anything that can look a secret up by service and account.
 *
 * @example
 * const secrets = new Map([["GITHUB_TOKEN", token]]);
 * const store: CredentialStore = { getPassword: async (_service, account) => secrets.get(account) };
 * fromKeychain({ account: "GITHUB_TOKEN", store });
 */
export interface CredentialStore {
  /** The secret; null or undefined: there is none. */
  getPassword(service: string, account: string): Promise<string | null | undefined>;
}

/** The service under which nono's own secrets are kept. */
export const defaultService = "nono";

/**
 * A secret of the operating system's keychain: the Secret Service on Linux, Keychain on macOS.
 *
 * @example
 * // secret-tool store --label "GitHub" service nono username GITHUB_TOKEN
 * fromKeychain({ account: "GITHUB_TOKEN" })
 */
export function fromKeychain(options: {
  account: string;
  /** Default: `nono`. */
  service?: string;
  /** Default: the operating system's keychain. */
  store?: CredentialStore;
}): CredentialSource {
  const { account, service = defaultService, store = systemKeychain } = options;
  const description = `keychain entry ${service}/${account}`;
  return {
    description,
    read: async () => {
      let value: string | null | undefined;
      try {
        value = await store.getPassword(service, account);
      } catch (error) {
        throw keychainError(error, description);
      }
      if (value === null || value === undefined || value === "") {
        throw sourceError(
          "ERR_NONO_CREDENTIAL_MISSING",
          `There is no ${description}, or the keychain is locked.`,
          `Store it: secret-tool store --label ${account} service ${service} username ${account}`,
        );
      }
      return Buffer.from(value);
    },
  };
}

/**
 * A store over node-keytar's module object, for applications that use it. It keeps its entries under other
 * attributes than the default store (`account` for `username`), so each sees only its own.
 *
 * @example
 * import * as keytar from "@napi-rs/keyring/keytar"; // the same functions as keytar's
 * fromKeychain({ account: "GITHUB_TOKEN", store: fromKeytar(keytar) });
 */
export function fromKeytar(keytar: CredentialStore): CredentialStore {
  return { getPassword: (service, account) => keytar.getPassword(service, account) };
}

const entries = new Map<string, AsyncEntry>();

/**
 * Pinned to the Secret Service on Linux: the library's own default falls back without a word to the kernel's
 * keyring, where secrets end with the session. Entries are kept, since making one costs ten times a look-up.
 *
 * @example
 * const known = (await systemKeychain.getPassword(defaultService, "GITHUB_TOKEN")) !== null;
 */
export const systemKeychain: CredentialStore = {
  getPassword: async (service, account) => {
    const key = JSON.stringify([service, account]);
    let entry = entries.get(key);
    if (!entry) {
      const { AsyncEntry: Entry } = await import("@napi-rs/keyring");
      entry = new Entry(service, account, { linux: { store: "secret-service" } });
      entries.set(key, entry);
    }
    try {
      return await entry.getPassword();
    } catch (error) {
      // The entry holds a connection; the next try makes a new one.
      entries.delete(key);
      throw error;
    }
  },
};

/** The library gives every failure one code, so the texts decide; a test pins them. */
function keychainError(error: unknown, description: string): GateError {
  const text = error instanceof Error ? error.message : String(error);
  if (/no matching entry|no entry/i.test(text)) {
    return sourceError(
      "ERR_NONO_CREDENTIAL_MISSING",
      `There is no ${description}.`,
      "Store it with secret-tool, or name another source.",
      error,
    );
  }
  if (/\b(is)?locked\b|prompt was dismissed/i.test(text)) {
    return sourceError(
      "ERR_NONO_CREDENTIAL_LOCKED",
      `The keychain is locked, so ${description} cannot be read.`,
      "Unlock it (log in to the desktop, or gnome-keyring-daemon --unlock) and try again.",
      error,
    );
  }
  if (/org\.freedesktop\.secrets|ServiceUnknown|not provided/i.test(text)) {
    return sourceError(
      "ERR_NONO_CREDENTIAL_STORE",
      `No Secret Service runs on this session's bus, so ${description} cannot be read.`,
      "Start gnome-keyring or KWallet, or give fromKeychain an EmbeddedStore.",
      error,
    );
  }
  return sourceError(
    "ERR_NONO_CREDENTIAL_STORE",
    `The keychain cannot be reached, so ${description} cannot be read.`,
    "Is there a session bus (DBUS_SESSION_BUS_ADDRESS)? On servers use fromEnv, fromFile or an EmbeddedStore.",
    error,
  );
}
