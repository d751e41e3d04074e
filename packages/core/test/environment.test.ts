import process from "node:process";
import { afterAll, beforeAll, expect, test } from "vitest";
import { sandboxIn, Workspace } from "./workspace.ts";

beforeAll(() => {
  process.env["NONO_TEST_TOKEN"] = "secret";
  process.env["NONO_TEST_LANG"] = "de";
  process.env["NONO_OTHER"] = "other";
});
afterAll(() => {
  for (const name of ["NONO_TEST_TOKEN", "NONO_TEST_LANG", "NONO_OTHER"]) delete process.env[name];
});

async function environment(
  capabilities: Parameters<typeof sandboxIn>[1],
  env?: Record<string, string>,
): Promise<Record<string, string>> {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace, capabilities);
  const { stdout } = await sandbox.run(["env"], { ...(env && { env }) });
  const lines = stdout.trimEnd().split("\n");
  return Object.fromEntries(lines.map((line) => line.split("=", 2) as [string, string]));
}

test("of the owner's environment only harmless names get in by themselves", async () => {
  const harmless = /^(PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TERM|COLORTERM|TZ)$/;
  for (const name of Object.keys(await environment({}))) expect(name).toMatch(harmless);
});

test("allow passes names and prefixes on", async () => {
  const seen = await environment({ env: { allow: ["NONO_OTHER", "NONO_TEST_L*"] } });
  expect(seen).toMatchObject({ NONO_OTHER: "other", NONO_TEST_LANG: "de" });
  expect(seen).not.toHaveProperty("NONO_TEST_TOKEN");
});

test("set wins over allow, and the command's own over both", async () => {
  const env = { allow: ["NONO_TEST_*"], set: { NONO_TEST_LANG: "fr", NONO_SET: "1" } };
  expect(await environment({ env })).toMatchObject({ NONO_TEST_LANG: "fr", NONO_SET: "1" });
  const seen = await environment({ env }, { NONO_TEST_LANG: "it" });
  expect(seen).toMatchObject({ NONO_TEST_LANG: "it", NONO_TEST_TOKEN: "secret" });
});

test("the command's memory never held the rest of the environment", async () => {
  using workspace = new Workspace();
  await using sandbox = await sandboxIn(workspace, { read: ["/proc"] });
  const { stdout } = await sandbox.run(["cat", "/proc/self/environ"]);
  expect(stdout).not.toContain("secret");
});
