import { once } from "node:events";
import { afterAll, expect, test } from "vitest";
import { encodedForms } from "../../src/credentials/encoded-forms.ts";
import { Masker } from "../../src/credentials/masker.ts";
import { closeAll, openGate, real, secureThrough, token } from "../support/gate.ts";
import { httpsUpstream } from "../support/upstream.ts";

// The agent has a server say a guess at the end of a chunk. What arrives before the next chunk must not depend on whether
// the guess is the beginning of a secret: it would be found out character by character.

afterAll(closeAll);

const secret = Buffer.from(real);
const masker = new Masker([secret]);

/** How much less arrives than was said, when it ends so. */
const arrived = (end: Buffer): number => {
  const text = Buffer.concat([Buffer.alloc(500, "words "), end]);
  return masker.stream().push(text).length - text.length;
};

test("as much of a wrong beginning is held back as of a right one, in every form", () => {
  for (const form of encodedForms(secret)) {
    for (let n = 1; n < form.length; n += 1) {
      const right = form.subarray(0, n);
      const wrong = Buffer.from(right);
      wrong[n - 1] = wrong[n - 1] === 0x51 ? 0x58 : 0x51;
      expect(arrived(right), String(right)).toBe(arrived(wrong));
      expect(arrived(right)).toBeLessThanOrEqual(-n);
    }
  }
});

test("lines are not held back; other ends are let go by a pause, but for the greater part of a secret", () => {
  const stream = masker.stream();
  expect(String(stream.push(Buffer.from("data: 1\n\n")))).toBe("data: 1\n\n");
  const said: string[] = [];
  const half = secret.length / 2;
  const say = (...parts: Buffer[]): string => {
    said.length = 0;
    for (const part of parts) {
      said.push(String(stream.push(part)));
      said.push(String(stream.pause()));
    }
    return said.join("") + String(stream.flush());
  };
  expect(say(Buffer.from("an end"))).toBe("an end");
  expect(said).toEqual(["an ", "end"]);
  expect(say(secret.subarray(0, 30), secret.subarray(30))).toBe("*".repeat(secret.length));
  const early = say(secret.subarray(0, 5), secret.subarray(5));
  expect(early).toBe(`${real.slice(0, 5)}${"*".repeat(secret.length - 5)}`);
  const bytes = [...secret].map((byte) => Buffer.from([byte]));
  expect(say(...bytes)).toMatch(/^[^*]+\*+$/);
  expect(said.join("").indexOf("*")).toBeLessThanOrEqual(half);
});

test("an answer that pauses in the middle of a word arrives", async () => {
  const { port } = await httpsUpstream((_request, response) => void response.write("word"));
  const gate = await openGate(port, { credentials: [token(port)] });
  const client = await secureThrough(gate, port);
  client.write(`GET / HTTP/1.1\r\nHost: good.test:${port}\r\n\r\n`);
  let text = "";
  while (!text.includes("word")) text += String((await once(client, "data"))[0]);
  client.destroy();
  expect(text).toMatch(/^HTTP\/1.1 200 /);
});
