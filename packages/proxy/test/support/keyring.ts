// Runs under dbus-run-session: reads entries of a real Secret Service in the states it can be in, one JSON line each.
import { spawnSync } from "node:child_process";
import process from "node:process";
import { GateError, fromKeychain } from "../../src/index.ts";

const emit = (line: Record<string, unknown>): void => console.log(JSON.stringify(line));

async function read(state: string, account: string): Promise<void> {
  try {
    const value = await fromKeychain({ account }).read();
    emit({ state, value: value.toString() });
  } catch (error) {
    if (!(error instanceof GateError)) throw error;
    emit({ state, code: error.code, message: error.message, remedy: error.remedy });
  }
}

if (process.env["NONO_KEYRING"] === "absent") await read("absent", "TOKEN");
else {
  // Returns when the daemon serves; started by the first client instead, it would be locked. It ends with its bus.
  spawnSync("gnome-keyring-daemon", ["--unlock", "--components=secrets"], { input: "password" });
  spawnSync("secret-tool", ["store", "--label", "t", "service", "nono", "username", "TOKEN"], {
    input: "kept-in-the-keychain",
    timeout: 5_000,
  });
  await read("unlocked", "TOKEN");
  await read("missing", "OTHER");
  spawnSync("secret-tool", ["lock"], { timeout: 5_000 });
  await read("locked", "TOKEN");
}
// The client library keeps its connection to the bus, and with it the process.
process.exit(0);
