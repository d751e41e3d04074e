import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import process from "node:process";
import { afterAll, describe, expect, test } from "vitest";
import {
  EmbeddedStore,
  fromCommand,
  fromEnv,
  fromFile,
  fromKeychain,
  fromOnePassword,
  fromVault,
} from "../src/index.ts";

const directory = mkdtempSync(path.join(tmpdir(), "nono-sources-"));
const at = (name: string): string => path.join(directory, name);
afterAll(() => rmSync(directory, { recursive: true }));

test("environment, file and command give the value without its line end", async () => {
  process.env["NONO_TEST_SECRET"] = "from-environment";
  writeFileSync(at("secret"), "from-file\n", { mode: 0o600 });
  expect(String(await fromEnv("NONO_TEST_SECRET").read())).toBe("from-environment");
  expect(String(await fromFile(at("secret")).read())).toBe("from-file");
  expect(String(await fromCommand(["echo", "from-command"]).read())).toBe("from-command");
});

const sayer = (where = "", says = ""): void =>
  writeFileSync(path.join(where, "say-secret"), `#!/bin/sh\necho ${says}; pwd\n`, { mode: 0o755 });

test("a command is the one that was there when the source was made", async () => {
  const [early, late] = ["early", "late"].map((name) => mkdtempSync(at(name)));
  sayer(late, "own");
  const before = process.env["PATH"];
  try {
    process.env["PATH"] = `${early}:relative:${late}:${before}`;
    const source = fromCommand(["say-secret"], { cwd: "/" });
    const nothing = fromCommand(["no-such-program"]);
    // An agent at work, in a directory that npx has put into PATH.
    sayer(early, "planted");
    writeFileSync(path.join(early ?? "", "no-such-program"), "#!/bin/sh\necho planted\n", {
      mode: 0o755,
    });
    expect(String(await source.read())).toBe("own\n/");
    await expect(nothing.read()).rejects.toMatchObject({ code: "ERR_NONO_CREDENTIAL_MISSING" });
  } finally {
    process.env["PATH"] = before;
  }
});

test("a file that others may read is refused, and says how to mend it", async () => {
  writeFileSync(at("open"), "value", { mode: 0o644 });
  await expect(fromFile(at("open")).read()).rejects.toMatchObject({
    code: "ERR_NONO_CREDENTIAL_INVALID",
    remedy: `chmod 600 ${at("open")}`,
  });
});

test("a missing value names its source; a failing command's output is in no error", async () => {
  await expect(fromEnv("NONO_TEST_NOTHING").read()).rejects.toMatchObject({
    code: "ERR_NONO_CREDENTIAL_MISSING",
  });
  const failing = fromCommand(["sh", "-c", "echo leaked-secret; echo leaked-secret >&2; exit 3"]);
  const error: unknown = await failing.read().catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: "ERR_NONO_CREDENTIAL_MISSING" });
  expect(JSON.stringify(error) + String((error as Error).stack)).not.toContain("leaked-secret");
});

test("1Password and Vault are asked through their own commands", async () => {
  for (const tool of ["op", "vault"]) {
    writeFileSync(at(tool), `#!/bin/sh\necho "${tool} $*"\n`);
    chmodSync(at(tool), 0o755);
  }
  const before = process.env["PATH"];
  process.env["PATH"] = `${directory}:${before}`;
  try {
    const secret = await fromOnePassword("op://agents/github/token").read();
    expect(String(secret)).toBe("op read --no-newline op://agents/github/token");
    const field = await fromVault("vault:kv/agents#token").read();
    expect(String(field)).toBe("vault kv get -field=token kv/agents");
  } finally {
    process.env["PATH"] = before;
  }
});

const store = (passphrase: string): EmbeddedStore => new EmbeddedStore(at("store"), { passphrase });

describe("the embedded store", () => {
  test("keeps secrets sealed in a private file", async () => {
    await store("correct horse").setPassword("nono", "TOKEN", "kept-in-the-file");
    expect(statSync(at("store")).mode & 0o777).toBe(0o600);
    expect(readFileSync(at("store"), "utf8")).not.toContain("kept");
    const source = fromKeychain({ account: "TOKEN", store: store("correct horse") });
    expect(String(await source.read())).toBe("kept-in-the-file");
    expect(await store("correct horse").deletePassword("nono", "OTHER")).toBe(false);
  });

  test("does not open with another passphrase, nor when a bit of it has changed", async () => {
    await expect(store("wrong").getPassword("nono", "TOKEN")).rejects.toMatchObject({
      code: "ERR_NONO_CREDENTIAL_LOCKED",
    });
    const file = JSON.parse(readFileSync(at("store"), "utf8")) as { sealed: string };
    const sealed = Buffer.from(file.sealed, "base64");
    sealed[0] = (sealed[0] ?? 0) ^ 1;
    writeFileSync(at("store"), JSON.stringify({ ...file, sealed: sealed.toString("base64") }));
    await expect(store("correct horse").getPassword("nono", "TOKEN")).rejects.toMatchObject({
      code: "ERR_NONO_CREDENTIAL_LOCKED",
    });
  });

  test("opens with a key file that only its owner may read", async () => {
    writeFileSync(at("key"), Buffer.alloc(32, 7), { mode: 0o600 });
    const keyed = new EmbeddedStore(at("keyed"), { keyFile: at("key") });
    await keyed.setPassword("nono", "TOKEN", "value-of-the-key-file");
    expect(await keyed.getPassword("nono", "TOKEN")).toBe("value-of-the-key-file");
    chmodSync(at("key"), 0o644);
    await expect(keyed.getPassword("nono", "TOKEN")).rejects.toMatchObject({
      code: "ERR_NONO_CREDENTIAL_INVALID",
    });
  });
});
