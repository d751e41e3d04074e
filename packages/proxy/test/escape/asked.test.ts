import { afterAll, expect, test } from "vitest";
import { SecretVault } from "../../src/credentials/vault.ts";
import { ask } from "../support/client.ts";
import { closeAll, openGate, token } from "../support/gate.ts";
import { bodyOf, httpUpstream, httpsUpstream } from "../support/upstream.ts";

// How often a source is asked (a prompt, a command, a token endpoint) is not the agent's choice, however it sends its
// requests and whatever the server answers; and no number of answers makes another value be forgotten.

afterAll(closeAll);

test("requests at one time use a refresh token once; 401s without end bring one new value", async () => {
  const used: (string | null)[] = [];
  const tokenPort = await httpUpstream((request, response) => {
    void bodyOf(request).then((form) => {
      used.push(new URLSearchParams(form).get("refresh_token"));
      const n = used.length;
      const tokens = { access_token: `access-token-${n}`, refresh_token: `refresh-token-${n}` };
      return response.end(JSON.stringify({ ...tokens, expires_in: 3600 }));
    });
  });
  const { port } = await httpsUpstream((request, response) => {
    response.statusCode = request.url === "/" ? 200 : 401;
    response.end();
  });
  const client = JSON.stringify({ clientId: "id", refreshToken: "refresh-token-0" });
  const source = { description: "client", read: async () => Buffer.from(client) };
  const scheme = { type: "oauth2", tokenUrl: `http://127.0.0.1:${tokenPort}/` } as const;
  const gate = await openGate(port, { credentials: [token(port, { scheme, source })] });
  const answers = async (path: string): Promise<number[]> => {
    const url = `https://good.test:${port}${path}`;
    return (await Promise.all([1, 2, 3].map(() => ask(gate, url)))).map(({ status }) => status);
  };
  expect(await answers("/")).toEqual([200, 200, 200]);
  expect(used).toEqual(["refresh-token-0"]);
  await answers("/forbidden");
  await answers("/forbidden");
  expect(used).toEqual(["refresh-token-0", "refresh-token-1"]);
});

test("a source that fails is not asked again for every request", async () => {
  let reads = 0;
  const { port } = await httpsUpstream((_request, response) => response.end());
  const read = async (): Promise<Buffer> => {
    reads += 1;
    throw new Error("the prompt was dismissed");
  };
  const source = { description: "prompt", read };
  const gate = await openGate(port, { credentials: [token(port, { source })] });
  const url = `https://good.test:${port}/`;
  expect((await ask(gate, url)).status).toBe(502);
  expect((await ask(gate, url)).status).toBe(502);
  expect(reads).toBe(1);
});

test("a value stays masked, however often another one changes", () => {
  const vault = new SecretVault();
  const lasting = Buffer.from("client-secret");
  vault.mask("A", Buffer.from("value-of-another"));
  for (let i = 0; i < 60; i += 1) {
    vault.mask("B", Buffer.from(`access-token-${i}`));
    vault.mask("B", lasting);
  }
  const texts = ["value-of-another", "client-secret", "access-token-59", "access-token-20"];
  expect(vault.masker.texts(texts)).toEqual(texts.map((text) => "*".repeat(text.length)));
});
