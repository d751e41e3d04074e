// The entries of nono in this machine's keychain: the Secret Service on Linux, Keychain on macOS.

/** Pinned: the library's own default falls back without a word to the kernel's keyring. */
const store = { linux: { store: "secret-service" } } as const;

/** Stores a value under a name; replaces what is there. */
export async function setEntry(service: string, name: string, value: string): Promise<void> {
  const { AsyncEntry } = await import("@napi-rs/keyring");
  await new AsyncEntry(service, name, store).setPassword(value);
}

/** Deletes an entry; false: there was none. */
export async function removeEntry(service: string, name: string): Promise<boolean> {
  const { AsyncEntry } = await import("@napi-rs/keyring");
  return new AsyncEntry(service, name, store).deletePassword();
}

/** The names of a service's entries; their values are not kept. */
export async function listEntries(service: string): Promise<string[]> {
  const { AsyncEntry, findCredentialsAsync } = await import("@napi-rs/keyring");
  // findCredentials has no choice of store; looking up one entry first fails where there is no Secret
  // Service.
  await new AsyncEntry(service, "nono-doctor", store).getPassword();
  const found = await findCredentialsAsync(service);
  return found.map(({ account }) => account).sort();
}
