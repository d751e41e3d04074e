// Runs under dbus-run-session: one store in the states that a real Secret Service can be in, one JSON line each.
//   node keyring.ts keyring|keytar|embedded service|no-service
import { execFileSync, spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import path from "node:path";
import process from "node:process";
import {
  type CredentialStore,
  EmbeddedStore,
  GateError,
  fromKeychain,
  fromKeytar,
} from "../../src/index.ts";
import { systemKeychain } from "../../src/sources/keychain.ts";
import { cached } from "./cache.ts";

interface KeytarModule extends CredentialStore {
  setPassword(service: string, account: string, password: string): Promise<void>;
}

interface Subject {
  readonly store: CredentialStore;
  set(account: string, value: string): Promise<void> | void;
}

const subjects: Record<string, () => Subject> = {
  keyring: () => ({
    store: systemKeychain,
    // As a user would: what secret-tool stores is found.
    set: (account, value) => {
      const attributes = ["service", "nono", "username", account];
      execFileSync("secret-tool", ["store", "--label", account, ...attributes], { input: value });
    },
  }),
  keytar: () => {
    const keytar = createRequire(import.meta.url)(cached.keytar) as KeytarModule;
    return {
      store: fromKeytar(keytar),
      set: (account, value) => keytar.setPassword("nono", account, value),
    };
  },
  embedded: () => {
    const file = path.join(process.env["HOME"] ?? "", "store");
    const store = new EmbeddedStore(file, { passphrase: "a passphrase" });
    return { store, set: (account, value) => store.setPassword("nono", account, value) };
  },
};

async function read(state: string, store: CredentialStore, account: string): Promise<void> {
  try {
    const value = await fromKeychain({ account, store }).read();
    console.log(JSON.stringify({ state, value: value.toString() }));
  } catch (error) {
    if (!(error instanceof GateError)) throw error;
    const { code, message, remedy } = error;
    console.log(JSON.stringify({ state, code, message, remedy }));
  }
}

const [kind = "", world = ""] = process.argv.slice(2);
const subject = subjects[kind]?.();
if (!subject) throw new Error(`no store ${kind}`);
const { store } = subject;
if (world === "no-service") await read("no service", store, "TOKEN");
else {
  // Returns when the daemon serves; started by the first client instead, it would be locked. It ends with its bus.
  spawnSync("gnome-keyring-daemon", ["--unlock", "--components=secrets"], { input: "password" });
  await subject.set("TOKEN", "kept-in-the-store");
  await subject.set("UNICODE", 'schlüssel-🔑-with "quotes" and\ttabs');
  await subject.set("LONG", "x".repeat(8_000));
  await read("kept", store, "TOKEN");
  await read("unicode", store, "UNICODE");
  await read("long", store, "LONG");
  await read("missing", store, "OTHER");
  await subject.set("TOKEN", "changed-in-the-store");
  await read("changed", store, "TOKEN");
  if (kind !== "embedded") {
    spawnSync("secret-tool", ["lock"], { timeout: 5_000 });
    await read("locked", store, "TOKEN");
  }
}
// The client library keeps its connection to the bus, and with it the process.
process.exit(0);
