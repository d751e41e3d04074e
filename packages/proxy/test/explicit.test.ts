import { beforeAll, describe, expect, test } from "vitest";
import { World, fetchers, possible, worldTimeout } from "./support/world.ts";

// A gate in front of a container: clients know it by `gate.env()` alone, and have no other way to anywhere.

/** What does not go by a proxy, or not by one with a password. */
const exceptions = new Set(["curl over IPv6", "node HTTP/2", "java", "openssl s_client"]);

describe.skipIf(!possible)("unmodified clients with the gate's environment", () => {
  const world = new World();

  beforeAll(() => world.open("explicit"), worldTimeout);

  test.each([...fetchers.filter((name) => !exceptions.has(name)), "java with an Authenticator"])(
    "%s gets its answer, with the credential, without seeing it",
    (name) => world.expectAuthorized(name),
  );

  test.each([...exceptions])("%s fails, and reaches nothing", (name) => {
    const { status = 0, skipped } = world.results.get(name) ?? {};
    if (skipped === undefined) expect(status).not.toBe(0);
  });

  test("package managers, git and gRPC work", () => {
    const names = ["npm install", "pip download", "git clone", "git push", "git fetch", "gRPC"];
    for (const name of names) world.output(name);
    expect(world.output("opaque with its own certificate")).toBe("authorized=false echo=none\n");
  });

  test("the secret is in no client's output and not in the environment", () => {
    world.expectSecretUnseen();
  });
});
