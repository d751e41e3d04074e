import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { afterAll, describe, expect, test } from "vitest";
import { cached } from "./support/cache.ts";

// One contract for every store: @napi-rs/keyring and the real node-keytar against a gnome-keyring that this test
// starts on a bus of its own, and the embedded store.

const directory = mkdtempSync(path.join(tmpdir(), "nono-keychain-"));
afterAll(() => rmSync(directory, { recursive: true }));

interface State {
  readonly state: string;
  readonly value?: string;
  readonly code?: string;
  readonly message?: string;
  readonly remedy?: string;
}

/** A session bus that starts nothing by itself. */
function busWithoutServices(home: string): string {
  const file = path.join(home, "bus.conf");
  writeFileSync(
    file,
    `<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN" "busconfig.dtd">
<busconfig><type>session</type><listen>unix:tmpdir=${home}</listen>
<policy context="default"><allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`,
  );
  return file;
}

const script = path.join(import.meta.dirname, "support", "keyring.ts");

/** What a store says in a world: with a Secret Service, with a bus that has none, or without a bus. */
function ask(kind: string, world: "service" | "no-service" | "no-bus"): Map<string, State> {
  const home = mkdtempSync(path.join(directory, "home-"));
  const run = [process.execPath, script, kind, world === "service" ? world : "no-service"];
  const bus = world === "no-service" ? [`--config-file=${busWithoutServices(home)}`] : [];
  const [command = "", ...args] =
    world === "no-bus" ? run : ["dbus-run-session", ...bus, "--", ...run];
  const { stdout, stderr } = spawnSync(command, args, {
    encoding: "utf8",
    timeout: 110_000,
    env: {
      PATH: process.env["PATH"],
      HOME: home,
      XDG_DATA_HOME: home,
      XDG_RUNTIME_DIR: home,
      ...(world === "no-bus" ? { DBUS_SESSION_BUS_ADDRESS: "unix:path=/nonexistent" } : {}),
    },
  });
  const lines = stdout.split("\n").filter((line) => line.startsWith("{"));
  if (lines.length === 0) throw new Error(stderr || "the store said nothing");
  return new Map(lines.map((line) => JSON.parse(line) as State).map((each) => [each.state, each]));
}

const tools = ["dbus-run-session", "gnome-keyring-daemon", "secret-tool"];
const missing = tools.filter((tool) => spawnSync("sh", ["-c", `command -v ${tool}`]).status !== 0);
if (missing.length > 0) console.log(`SKIPPED: a real Secret Service: no ${missing.join(", ")}`);
const noKeytar = !existsSync(cached.keytar);
if (noKeytar) console.log("SKIPPED: the store contract with node-keytar: it is not built");

const stores = [
  { kind: "keyring", skipped: missing.length > 0 },
  { kind: "keytar", skipped: missing.length > 0 || noKeytar },
  { kind: "embedded", skipped: missing.length > 0 },
];

describe.each(stores.filter(({ skipped }) => !skipped))("store $kind", ({ kind }) => {
  test("gives what it keeps, and tells missing from locked", () => {
    const states = ask(kind, "service");
    expect(states.get("kept")).toEqual({ state: "kept", value: "kept-in-the-store" });
    expect(states.get("unicode")?.value).toBe('schlüssel-🔑-with "quotes" and\ttabs');
    expect(states.get("long")?.value?.replaceAll("x", "")).toBe("");
    expect(states.get("long")?.value).toHaveLength(8_000);
    expect(states.get("changed")?.value).toBe("changed-in-the-store");
    expect(states.get("missing")).toMatchObject({ code: "ERR_NONO_CREDENTIAL_MISSING" });
    expect(states.get("missing")?.remedy).toBeTruthy();
    if (kind === "embedded") return;
    const locked = states.get("locked");
    // node-keytar gives null for a locked entry, so all that can be said is that it may be locked.
    const code = kind === "keytar" ? "ERR_NONO_CREDENTIAL_MISSING" : "ERR_NONO_CREDENTIAL_LOCKED";
    expect(locked).toMatchObject({ code, message: expect.stringContaining("locked") as string });
    expect(locked?.remedy).toBeTruthy();
    expect(JSON.stringify([...states.values()].filter(({ code: failed }) => failed))).not.toContain(
      "in-the-store",
    );
  }, 120_000);

  const worlds = kind === "embedded" ? [] : (["no-service", "no-bus"] as const);
  test.each(worlds)(
    "in a world with %s it fails with a remedy, and never uses another keyring",
    (world) => {
      const state = ask(kind, world).get("no service");
      expect(state).toMatchObject({ code: "ERR_NONO_CREDENTIAL_STORE" });
      expect(state?.remedy).toMatch(/EmbeddedStore/);
    },
    120_000,
  );
});
