// Runs under dbus-run-session: a signer whose key is in a real Secret Service, reached by secret-tool.
import { spawnSync } from "node:child_process";
import { keyringSigner, type Keyring } from "../../src/index.ts";

spawnSync("gnome-keyring-daemon", ["--unlock", "--components=secrets"], { input: "password" });

const attributes = (service: string, account: string): string[] => [
  "service",
  service,
  "username",
  account,
];

const secretService: Keyring = {
  getPassword: async (service, account) => {
    const lookup = ["lookup", ...attributes(service, account)];
    const { status, stdout } = spawnSync("secret-tool", lookup, { encoding: "utf8" });
    return status === 0 ? stdout : null;
  },
  setPassword: async (service, account, password) => {
    const store = ["store", "--label", account, ...attributes(service, account)];
    const { status, stderr } = spawnSync("secret-tool", store, { input: password });
    if (status !== 0) throw new Error(stderr.toString());
  },
};

for (const type of ["ed25519", "p256"] as const) {
  const entry = { account: type };
  const first = await keyringSigner(secretService, entry, "nono.local/x", type);
  const again = await keyringSigner(secretService, entry, "nono.local/x", type);
  const signature = Buffer.from(await again.sign("text\n")).toString("base64");
  console.log(JSON.stringify({ type, first: first.vkey, again: again.vkey, signature }));
}
await secretService.setPassword("nono", "other", "not a key");
await keyringSigner(secretService, { account: "other" }, "nono.local/x").catch((error: Error) =>
  console.log(JSON.stringify({ refused: error.message })),
);
