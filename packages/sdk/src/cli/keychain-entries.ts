// The entries of nono in this machine's keychain: the Secret Service on Linux, Keychain on macOS.

/** Pinned: the library's own default falls back without a word to the kernel's keyring. */
const store = { linux: { store: "secret-service" } } as const;

/** Stores a value under a name; replaces what is there. */
export async function setEntry(service: string, name: string, value: string): Promise<void> {
  await reaching(async ({ AsyncEntry }) => new AsyncEntry(service, name, store).setPassword(value));
}

/** Deletes an entry; false: there was none. */
export async function removeEntry(service: string, name: string): Promise<boolean> {
  return reaching(async ({ AsyncEntry }) => new AsyncEntry(service, name, store).deletePassword());
}

/** The names of a service's entries; their values are not kept. */
export async function listEntries(service: string): Promise<string[]> {
  return reaching(async ({ AsyncEntry, findCredentialsAsync }) => {
    // findCredentials has no choice of store; looking up one entry first fails where there is no Secret
    // Service.
    await new AsyncEntry(service, "nono-doctor", store).getPassword();
    const found = await findCredentialsAsync(service);
    return found.map(({ account }) => account).sort();
  });
}

/** Uses the keychain; that it can't be reached is an error like any other, with the gate's code for it. */
async function reaching<T>(
  use: (library: typeof import("@napi-rs/keyring")) => Promise<T>,
): Promise<T> {
  try {
    return await use(await import("@napi-rs/keyring"));
  } catch (cause) {
    const { GateError } = await import("@nono/proxy");
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new GateError("ERR_NONO_CREDENTIAL_STORE", `The keychain can't be used: ${reason}`, {
      remedy:
        "It needs a session bus with a Secret Service that is unlocked, such as a desktop has. " +
        "Without one, a policy takes credentials from env, file or command.",
      cause,
    });
  }
}
