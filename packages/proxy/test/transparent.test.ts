import { support } from "@nono/core";
import { beforeAll, describe, expect, test } from "vitest";
import { World, fetchers, possible, worldTimeout } from "./support/world.ts";

const available = support().tiers.filter((tier) => tier.available);
const tiers = ["namespaces", "flat"] as const;
for (const tier of tiers) {
  if (!available.some(({ name }) => name === tier)) {
    console.log(`SKIPPED: transparent clients: the tier ${tier} does not work here`);
  }
}

/** What fails in the tier flat: its resolver asks over UDP alone, in a way that is refused there. */
const exceptions = new Set(["musl", "dig"]);

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

const places = tiers.filter((tier) => possible && available.some(({ name }) => name === tier));
describe.each(places)("unmodified clients without proxy variables, tier %s", (tier) => {
  const world = new World();
  const { results } = world;
  const output = (name: string): string | undefined => world.output(name);

  beforeAll(() => world.open(tier), worldTimeout);

  test.each(fetchers)("%s gets its answer, with the credential, without seeing it", (name) => {
    world.expectAuthorized(name);
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

  test.each(["c-ares (node dns.resolve)", "musl", "dig"])("a name resolved by %s", (name) => {
    const { skipped, output: text = "did not run" } = results.get(name) ?? {};
    if (skipped !== undefined) return;
    const fails = tier === "flat" && exceptions.has(name);
    expect(text.includes("SSH-2.0-"), text).toBe(!fails);
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
    world.expectSecretUnseen();
  });
});
