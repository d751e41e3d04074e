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

const world = path.join(import.meta.dirname, "world");
const ids = [process.getuid?.() ?? 0, process.getgid?.() ?? 0];
const isRoot = ids[0] === 0;
// Network namespaces need no privilege where user namespaces need none.
const enter = isRoot ? [] : ["unshare", "--user", "--map-root-user"];
const possible =
  isRoot || spawnSync("unshare", ["--user", "--map-root-user", "--net", "true"]).status === 0;
if (!possible) {
  console.log("SKIPPED: transparent clients: no user namespaces for an ordinary user here");
}

const fetchers = [
  "curl",
  "curl over IPv6",
  "curl with a large upload",
  "node fetch",
  "node WebSocket",
  "node HTTP/2",
  "python urllib",
  "python requests",
  "python httpx",
  "wget",
  "go net/http",
  "java",
  "openssl s_client",
];
const offenders = [
  "denied name",
  "denied address",
  "fronting",
  "denied port",
  "no TLS on port 443",
  "rebinding",
  "a synthetic address nobody was given",
  "data in a name",
  "metadata service",
  "the machine's loopback",
  "UDP to the Internet",
];

describe.skipIf(!possible)("unmodified clients without proxy variables", () => {
  const results = new Map<string, Result>();

  beforeAll(() => {
    const argv = [
      ...enter,
      "python3",
      path.join(world, "netns.py"),
      process.execPath,
      path.join(world, "main.ts"),
    ];
    const [command = "", ...args] = argv;
    const env = { ...process.env, NONO_OUTER_IDS: ids.join(" ") };
    const { stdout, stderr } = spawnSync(command, args, {
      encoding: "utf8",
      env,
      timeout: 170_000,
    });
    for (const line of stdout.split("\n").filter((text) => text.startsWith("{"))) {
      const result = JSON.parse(line) as Result;
      results.set(result.name, result);
      if (result.skipped !== undefined) console.log(`SKIPPED: ${result.name}: ${result.skipped}`);
    }
    if (!results.has("secret")) throw new Error(`the world ended early: ${stderr}`);
  }, 180_000);

  const output = (name: string): string | undefined => {
    const {
      status,
      output: text = "",
      skipped,
    } = results.get(name) ?? { status: -2, output: "did not run" };
    if (skipped !== undefined) return undefined;
    expect(status, `${name}: ${text}`).toBe(0);
    return text;
  };

  test.each(fetchers)("%s gets its answer, with the credential, without seeing it", (name) => {
    const text = output(name);
    if (text === undefined) return;
    expect(text).toContain("authorized=true");
    expect(text).toMatch(/echo=Bearer \*{45}/);
  });

  test.each([
    ["curl h2 to nginx", /^nginx HTTP\/2/],
    ["curl h1 to nginx", /^nginx HTTP\/1\.1/],
    ["nghttp to nginx", /^nginx HTTP\/2/],
  ])("%s speaks the client's protocol on both legs", (name, expected) => {
    const text = output(name);
    if (text !== undefined) expect(text).toMatch(expected);
  });

  test.each(["npm install", "pip download"])("%s works from a registry", (name) => {
    output(name);
  });

  test("git clones, pushes and fetches over HTTPS with the credential injected", () => {
    for (const what of ["clone", "push", "push of a large file", "fetch"]) output(`git ${what}`);
    const log = output("pushed log");
    if (log !== undefined) expect(log).toBe("large\nagent\nseed\n");
  });

  test("git clones and pushes over SSH to an allowed host:22", () => {
    output("git clone over SSH");
    output("git push over SSH");
  });

  test("gRPC: unary with trailers, both ways streamed, and errors by status", () => {
    const text = output("gRPC");
    if (text === undefined) return;
    expect(text).toBe(`hello Bearer ${"*".repeat(45)} OK 1\nONE TWO THREE\nUNIMPLEMENTED\n`);
  });

  test("a host without credentials is tunnelled and gets none", () => {
    expect(output("opaque with its own certificate")).toBe("authorized=false echo=none\n");
  });

  test("a server that speaks first is reached", () => {
    const text = output("server speaks first");
    if (text !== undefined) expect(text).toContain("SSH-2.0-OpenSSH");
  });

  test.each(offenders)("%s fails", (name) => {
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
    expect(seen).toContain("ERR_NONO_HOST_DENIED 169.254.169.254:80");
    expect(seen).toContain("ERR_NONO_HOST_DENIED 198.19.200.200:443");
    expect(seen).toContain("ERR_NONO_NAME_MISMATCH evil.test");
    expect(seen).toContain("ERR_NONO_ADDRESS_DENIED 169.254.169.254");
    expect(seen).toContain("ERR_NONO_HOST_DENIED ssh.test:443");
    expect(seen).toContain("ERR_NONO_HOST_DENIED c2vjcmv0.evil.test");
    expect(violations.map(({ code }) => code)).toContain("ERR_NONO_PROTOCOL");
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
