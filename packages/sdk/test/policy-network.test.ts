// What several policies and calls say of the network adds up, whoever says it.
import { expect, test } from "vitest";
import { ArgumentError } from "@nono/core";
import { Sandbox } from "@nono/sdk";
import { NetworkPolicy } from "../src/network.ts";
import { nono } from "./support/nono.ts";
import { useOwnState } from "./support/state.ts";

useOwnState();

const sandbox = (): Sandbox => new Sandbox({ audit: false });
const rule = (host: string): object => ({ host, allow: ["GET /**"] });

test("rules and denials of one call are not lost by the next", () => {
  const policy = new NetworkPolicy();
  policy.allow("a.test", { rules: [{ host: "a.test", allow: ["GET /**"] }], deny: "x.test" });
  policy.allow("*.test", { rules: [{ host: "b.test", allow: ["GET /**"] }], deny: ["y.test"] });
  policy.allow("c.test", {});
  expect(policy.access).toEqual({
    allow: ["a.test", "*.test", "c.test"],
    deny: ["x.test", "y.test"],
    rules: [rule("a.test"), rule("b.test")],
  });
});

test("a host that one policy denies is not reached by another's wildcard", async () => {
  await using both = sandbox()
    .use({ network: { allow: ["a.test"], deny: ["secret.test"] } })
    .use({ network: { allow: ["*.test"], deny: ["other.test"] } });
  const { allowed } = await both.explain({ host: "secret.test" });
  expect(allowed).toBe(false);
  expect(await both.explain({ host: "good.test" })).toMatchObject({ allowed: true });
});

const network = (said: Sandbox): unknown => said.capabilities.network;

test("the later word counts, as in policies", () => {
  expect(network(sandbox().use("npm-registry").blockNetwork())).toBe("blocked");
  expect(network(sandbox().allowNetwork("a.test").openNetwork())).toBe("open");
  expect(network(sandbox().use("npm-registry").use({ network: "blocked" }))).toBe("blocked");
  expect(network(sandbox().openNetwork().use("npm-registry"))).toBe("gate");
  expect(network(sandbox().use("npm-registry").use("node"))).toBe("gate");
  expect(network(sandbox().allowNetwork([]))).toBe("blocked");
});

test("--network blocked blocks what a policy allows", () => {
  const question = ["why", "--policy", "npm-registry", "--host", "registry.npmjs.org"];
  expect(nono(question).status).toBe(0);
  expect(nono([...question, "--network", "blocked"]).status).toBe(1);
});

test("a credential has no place in an open network", async () => {
  const open = sandbox().use("github").openNetwork();
  await expect(open.run(["true"])).rejects.toThrow(ArgumentError);
  await open.close();
});

/** What a sandbox makes of policies that it is told one by one. */
class Told extends Sandbox {
  constructor(...policies: readonly string[]) {
    super({ audit: false });
    for (const policy of policies) this.use(policy);
  }

  get access(): NetworkPolicy["access"] {
    return this.fix().network.access;
  }
}

test("policies come to what nono policy print says", () => {
  const policies = ["npm-registry", "pypi"];
  const printed: unknown = JSON.parse(nono(["policy", "print", ...policies, "--json"]).stdout);
  expect(printed).toMatchObject({ network: new Told(...policies).access });
  expect(new Told(...policies).access).toMatchObject({
    rules: [{ host: "registry.npmjs.org" }, { host: "pypi.org" }, {}],
  });
});
