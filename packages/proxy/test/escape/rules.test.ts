import { once } from "node:events";
import http2 from "node:http2";
import { afterAll, expect, test } from "vitest";
import { HttpRules } from "../../src/policy/http-rules.ts";
import { requestReadings } from "../../src/policy/request-readings.ts";
import { parseHost } from "../../src/net/host.ts";
import { ask, h2Session } from "../support/client.ts";
import { closeAll, openGate } from "../support/gate.ts";
import { http2Upstream, httpsUpstream } from "../support/upstream.ts";

// A request that a rule forbids, made to look like another one: by its case, by a slash, by fields that frameworks obey.

afterAll(closeAll);

const allow = ["GET /repos/**", "POST /repos/**"];
const deny = ["DELETE /repos/**", "* /repos/acme/secret"];

test.each<[string, string, string, Record<string, string>]>([
  ["another case", "GET", "/repos/ACME/Secret", {}],
  ["another case, encoded", "GET", "/repos/%41CME/secret", {}],
  ["a slash at the end", "GET", "/repos/acme/secret/", {}],
  ["both", "GET", "/repos/Acme/secret/", {}],
  ["a method in a field", "POST", "/repos/a", { "x-http-method-override": "DELETE" }],
  ["a method in lower case in a field", "POST", "/repos/a", { "x-http-method": "delete" }],
  ["several methods", "POST", "/repos/a", { "x-method-override": "GET, DELETE" }],
  ["a method that is not allowed", "GET", "/repos/a", { "x-http-method-override": "PUT" }],
  ["a method in the query", "POST", "/repos/a?x=1&_method=DELETE", {}],
  ["an encoded method in the query", "POST", "/repos/a?%5fmethod=DEL%45TE", {}],
  ["a target in a field", "GET", "/repos/a", { "x-original-url": "/repos/acme/secret" }],
  ["a target that is not allowed", "GET", "/repos/a", { "x-rewrite-url": "/user" }],
  ["a URL in a field", "GET", "/repos/a", { "x-original-url": "https://good.test/user?x" }],
  ["a target without a slash", "GET", "/repos/a", { "x-original-url": "user" }],
  ["a target that climbs", "GET", "/repos/a", { "x-original-url": "/repos/../user" }],
])("with %s: refused", async (_what, method, path, headers) => {
  const seen: string[] = [];
  const { port } = await httpsUpstream((request, response) => {
    seen.push(`${request.method} ${request.url}`);
    response.end();
  });
  const gate = await openGate(port, { rules: [{ host: `good.test:${port}`, allow, deny }] });
  const url = `https://good.test:${port}/`;
  const answer = await ask(gate, url, { method, path, headers });
  expect([400, 403]).toContain(answer.status);
  expect(gate.violations).toHaveLength(1);
  // What a field says and a rule allows goes on.
  const fine = { "x-http-method-override": "GET", "x-original-url": "/repos/b" };
  expect((await ask(gate, url, { method: "POST", path: "/repos/a", headers: fine })).status).toBe(
    200,
  );
  expect(seen).toEqual(["POST /repos/a"]);
});

test("a method in lower case, which HTTP/2 carries: refused where only others are forbidden", async () => {
  const seen: unknown[] = [];
  const port = await http2Upstream((stream, headers) => {
    seen.push(headers[":method"]);
    stream.respond({ ":status": 200 });
    stream.end();
  });
  const gate = await openGate(port, { rules: [{ host: `good.test:${port}`, deny }] });
  const session = await h2Session(gate, port);
  const status = async (method: string): Promise<unknown> => {
    const stream = session.request({ ":method": method, ":path": "/repos/a" });
    const [headers] = (await once(stream, "response")) as [http2.IncomingHttpHeaders];
    stream.resume();
    return headers[":status"];
  };
  expect(await status("delete")).toBe(403);
  expect(await status("Delete")).toBe(403);
  expect(await status("GET")).toBe(200);
  expect(seen).toEqual(["GET"]);
  session.destroy();
});

test("a request that names many others is refused, not judged as all of them", () => {
  const many = Array.from({ length: 5 }, (_, i) => `M${i}`);
  for (const headers of [
    ["x-method-override", many.join()],
    many.flatMap((name) => ["x-original-url", `/${name}`]),
  ]) {
    expect(() => requestReadings("POST", "/a", headers)).toThrow(/more methods or targets/);
  }
  expect(requestReadings("POST", "/a", ["x-method-override", "a,b"])).toHaveLength(3);
});

test("a pattern with stars is matched in bounded time, whatever the path", () => {
  const host = "good.test";
  const rules = new HttpRules([{ host, allow: ["GET /**/a/**/a/**/a/**/b", "GET /*a*a*a*a*b"] }]);
  const endpoint = { host: parseHost(host), port: 443 };
  for (const path of [`/${"a/".repeat(30_000)}c`, `/${"a".repeat(60_000)}`]) {
    expect(() => rules.check(endpoint, "GET", path, [])).toThrow(/no rule allows it/);
  }
  expect(rules.check(endpoint, "GET", "/x/a/y/a/z/z/a/b", [])).toBe("GET /**/a/**/a/**/a/**/b");
  expect(rules.check(endpoint, "GET", "/aaxaab", [])).toBe("GET /*a*a*a*a*b");
});
