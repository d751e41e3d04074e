import { afterAll, expect, test } from "vitest";
import { ask } from "../support/client.ts";
import { closeAll, openGate, token } from "../support/gate.ts";
import { httpsUpstream } from "../support/upstream.ts";

// Escape case 46: the server says the value as its library writes text. Each line is what that library makes of it.

afterAll(closeAll);

const value = "s3cret+/=&<>\"'`é~*-12345";

test.each<[string, string | Buffer]>([
  ["as it is", value],
  ["as the field had it", Buffer.from(value, "latin1")],
  ["UTF-16", Buffer.from(value, "utf16le")],
  ["UTF-16, big-endian", Buffer.from(value, "utf16le").swap16()],
  ["upper case", value.toUpperCase()],
  ["Go's html/template", "s3cret&#43;/=&amp;&lt;&gt;&#34;&#39;`é~*-12345"],
  ["Jinja", "s3cret+/=&amp;&lt;&gt;&#34;&#39;`é~*-12345"],
  ["Django", "s3cret+/=&amp;&lt;&gt;&quot;&#x27;`é~*-12345"],
  ["Rails", "s3cret+/=&amp;&lt;&gt;&quot;&#39;`é~*-12345"],
  ["PHP's htmlspecialchars", "s3cret+/=&amp;&lt;&gt;&quot;&#039;`é~*-12345"],
  ["Handlebars", "s3cret+/&#x3D;&amp;&lt;&gt;&quot;&#x27;&#x60;é~*-12345"],
  ["XML", "s3cret+/=&amp;&lt;&gt;&quot;&apos;`é~*-12345"],
  ["JSON", JSON.stringify(value).slice(1, -1)],
  ["Python's JSON", String.raw`s3cret+/=&<>\"'${"`"}\u00e9~*-12345`],
  ["PHP's JSON", String.raw`s3cret+\/=&<>\"'${"`"}\u00e9~*-12345`],
  ["Go's JSON", String.raw`s3cret+/=\u0026\u003c\u003e\"'${"`"}é~*-12345`],
  ["Gson", String.raw`s3cret+/\u003d\u0026\u003c\u003e\"\u0027${"`"}é~*-12345`],
  [".NET's JSON", String.raw`s3cret\u002B/=\u0026\u003C\u003E\u0022\u0027\u0060\u00E9~*-12345`],
  ["encodeURIComponent", "s3cret%2B%2F%3D%26%3C%3E%22'%60%C3%A9~*-12345"],
  ["encodeURI", "s3cret+/=&%3C%3E%22'%60%C3%A9~*-12345"],
  ["Python's quote", "s3cret%2B/%3D%26%3C%3E%22%27%60%C3%A9~%2A-12345"],
  ["Java's URLEncoder", "s3cret%2B%2F%3D%26%3C%3E%22%27%60%C3%A9%7E*-12345"],
  ["every byte encoded", [...Buffer.from(value)].map((byte) => `%${byte.toString(16)}`).join("")],
])("the server says it by %s", async (_library, said) => {
  const bytes = Buffer.from(said as string);
  const { port } = await httpsUpstream((_request, response) => {
    response.end(Buffer.concat([Buffer.from("<<"), bytes, Buffer.from(">>")]));
  });
  const source = { description: "a test value", read: async () => Buffer.from(value) };
  const gate = await openGate(port, { credentials: [token(port, { source })] });
  const { body } = await ask(gate, `https://good.test:${port}/`);
  // Of UTF-16 a zero stays, at one end or the other.
  expect(body).toMatch(/^<<\0?\*+\0?>>$/);
  expect(body).toHaveLength(bytes.length + 4);
});
