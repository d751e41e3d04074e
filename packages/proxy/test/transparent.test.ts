import { spawnSync } from "node:child_process";
import path from "node:path";
import process from "node:process";
import { beforeAll, describe, expect, test } from "vitest";

interface Result {
  readonly name: string;
  readonly status?: number;
  readonly output?: string;
  readonly skipped?: string;
}

const support = path.join(import.meta.dirname, "support");
const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log("SKIPPED: transparent clients: making network namespaces needs root");

const fetchers = [
  "curl",
  "curl over IPv6",
  "node fetch",
  "python urllib",
  "wget",
  "go net/http",
  "java",
  "openssl s_client",
];
const refusals = [
  "denied name",
  "denied address",
  "fronting",
  "denied port",
  "rebinding",
  "data in a name",
];

describe.skipIf(!isRoot)("unmodified clients without proxy variables", () => {
  const results = new Map<string, Result>();

  beforeAll(() => {
    const argv = [
      path.join(support, "netns.py"),
      process.execPath,
      path.join(support, "clients.ts"),
    ];
    const { stdout, stderr } = spawnSync("python3", argv, { encoding: "utf8", timeout: 110_000 });
    for (const line of stdout.split("\n").filter((text) => text.startsWith("{"))) {
      const result = JSON.parse(line) as Result;
      results.set(result.name, result);
      if (result.skipped !== undefined) console.log(`SKIPPED: ${result.name}: ${result.skipped}`);
    }
    if (!results.has("secret")) throw new Error(`the world ended early: ${stderr}`);
  }, 120_000);

  const output = (name: string): string | undefined => {
    const {
      status,
      output: text = "",
      skipped,
    } = results.get(name) ?? { status: -2, output: "did not run" };
    if (skipped !== undefined) return undefined;
    expect(status, text).toBe(0);
    return text;
  };

  test.each(fetchers)("%s gets its answer, with the credential, without seeing it", (name) => {
    const text = output(name);
    if (text === undefined) return;
    expect(text).toContain("authorized=true");
    expect(text).toMatch(/echo=Bearer \*{45}/);
  });

  test("curl speaks HTTP/2 with nginx", () => {
    expect(output("curl h2 to nginx")).toMatch(/^nginx HTTP\/2/);
  });

  test("npm installs and pip downloads from package servers", () => {
    output("npm install");
    output("pip download");
  });

  test("git clones and pushes over HTTPS with the credential injected", () => {
    output("git clone");
    output("git push");
    expect(output("pushed log")).toMatch(/^agent\nseed/);
  });

  test("a host without credentials is tunnelled and gets none", () => {
    expect(output("opaque with its own certificate")).toBe("authorized=false echo=none\n");
  });

  test("a server that speaks first is reached", () => {
    expect(output("server speaks first")).toContain("SSH-2.0-test");
  });

  test.each(refusals)("%s fails", (name) => {
    expect(results.get(name)?.status).not.toBe(0);
    expect(results.get(name)?.status).toBeDefined();
  });

  test("each refusal is on record with its reason", () => {
    const violations = JSON.parse(output("violations") ?? "[]") as {
      code: string;
      value?: string;
    }[];
    const seen = violations.map(({ code, value }) => `${code} ${value}`);
    expect(seen).toContain("ERR_NONO_HOST_DENIED evil.test");
    expect(seen).toContain("ERR_NONO_HOST_DENIED 1.1.1.1:80");
    expect(seen).toContain("ERR_NONO_NAME_MISMATCH evil.test");
    expect(seen).toContain("ERR_NONO_ADDRESS_DENIED 169.254.169.254");
    expect(seen).toContain("ERR_NONO_HOST_DENIED ssh.test:443");
    expect(seen).toContain("ERR_NONO_HOST_DENIED c2vjcmv0.evil.test");
  });

  test("the secret is in no client's output and not in the environment", () => {
    const secret = output("secret") ?? "";
    expect(secret).toHaveLength(45);
    for (const [name, { output: text = "" }] of results) {
      if (name !== "secret") expect(text, name).not.toContain(secret);
    }
    expect(output("environment")).toMatch(/^ECHO_TOKEN=npm_/m);
  });
});
