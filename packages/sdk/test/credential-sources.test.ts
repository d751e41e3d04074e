// Where a policy's credentials come from is nothing that commands can read, and nothing that they can run outside.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import path from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { type Policy, Sandbox } from "@nono/sdk";
import type { PolicySource } from "../src/policy/policy.ts";
import { resolvePolicy } from "../src/policy/resolve.ts";
import { useOwnState } from "./support/state.ts";
import { useWorkspace } from "./support/workspace.ts";

useOwnState();
const workspace = useWorkspace();

let outside: string;
beforeEach(() => {
  outside = mkdtempSync("/var/tmp/nono-outside-");
  chmodSync(outside, 0o755);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(outside, { recursive: true, force: true });
});

const place = (name: string): string => path.join(workspace.directory, name);

function put(file: string, mode = 0o755): string {
  mkdirSync(path.dirname(file), { recursive: true });
  writeFileSync(file, "#!/bin/sh\necho token\n", { mode });
  return file;
}

const policyWith = (from: PolicySource, more: Policy = {}): Policy => ({
  write: ["$WORKSPACE"],
  network: { allow: ["a.test"] },
  credentials: [{ name: "TOKEN", proxyTo: "a.test", from }],
  ...more,
});

async function build(policy: Policy): Promise<string> {
  await using sandbox = new Sandbox({ audit: false }).use(policy, {
    workspace: workspace.directory,
  });
  return sandbox.guarantees().then(
    () => "built",
    (error: Error) => error.message,
  );
}

const sourceOf = (command: readonly string[]): unknown =>
  resolvePolicy(policyWith({ command }), { workspace: workspace.directory }).credentials[0]?.from;

describe("a program that says a credential", () => {
  test("is none of the workspace's, which npm and npx put into PATH", () => {
    put(place("node_modules/.bin/say-token"));
    put(path.join(outside, "linked"));
    symlinkSync(path.join(outside, "linked"), place("node_modules/.bin/by-link"));
    vi.stubEnv("PATH", `${place("node_modules/.bin")}:${outside}:/usr/bin:/bin`);
    expect(() => sourceOf(["say-token"])).toThrow("no program say-token outside");
    expect(() => sourceOf(["by-link"])).toThrow("no program by-link outside");
    const own = put(path.join(outside, "say-token"));
    expect(sourceOf(["say-token", "-n"])).toEqual({ command: [own, "-n"] });
  });

  test("is none that commands could change", async () => {
    put(place("say-token"));
    expect(await build(policyWith({ command: ["./say-token"] }))).toContain(
      "say-token is run outside of the sandbox for a credential, and commands could change it",
    );
    symlinkSync(put(path.join(outside, "say-token")), place("link"));
    expect(await build(policyWith({ command: ["./link"] }))).toContain("could change it");
    expect(await build(policyWith({ command: [path.join(outside, "say-token")] }))).toBe("built");
    expect(await build(policyWith({ command: ["./say-token"] }, { deny: ["./say-token"] }))).toBe(
      "built",
    );
  });
});

test("a file that has a credential is none that commands may read", async () => {
  put(place("token"), 0o600);
  expect(await build(policyWith({ file: "./token" }))).toContain(
    "token has the credential TOKEN, and commands may read it",
  );
  expect(await build(policyWith({ file: "./token" }, { deny: ["**/token"] }))).toBe("built");
  expect(await build(policyWith({ file: put(path.join(outside, "token"), 0o600) }))).toBe("built");
  expect(await build(policyWith({ file: path.join(outside, "not-yet") }))).toBe("built");
});

test("a variable that has a credential is none that commands have", async () => {
  vi.stubEnv("REAL_TOKEN", "token");
  const from = { env: "REAL_TOKEN" };
  expect(await build(policyWith(from, { env: { allow: ["REAL_*"] } }))).toContain(
    "The variable REAL_TOKEN has the credential TOKEN",
  );
  expect(await build(policyWith(from))).toBe("built");
  // Under its own name they have the stand-in.
  expect(await build(policyWith({ env: "TOKEN" }, { env: { allow: ["TOKEN"] } }))).toBe("built");
});
