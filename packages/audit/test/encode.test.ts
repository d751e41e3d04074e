import canonicalize from "canonicalize";
import { describe, expect, test } from "vitest";
import { encodeEntry, maxTextSize } from "../src/encode.ts";
import { objectFields, partFields, type NonoEvent } from "../src/event.ts";
import { AuditError } from "../src/index.ts";
import { Redactor, disclosureDigest, redactSensitive } from "../src/redact.ts";

const stamp = {
  seq: 7,
  id: "0193a4f0-1111-7111-8111-000000000001",
  session: '"s"',
  time: 1_763_900_000_000,
  mono: "123456789",
};

/** A small deterministic generator, so that a failure can be repeated. */
function* numbers(state: number): Generator<number> {
  for (;;) {
    state = (state * 1_664_525 + 1_013_904_223) % 2 ** 32;
    yield state;
  }
}
const random = numbers(20_261_123);
const pick = (below: number): number =>
  Math.floor(((random.next().value as number) / 2 ** 32) * below);
const alphabet = [
  "a",
  "/",
  " ",
  '"',
  "\\",
  "\u0000",
  "\u001f",
  "\u007f",
  "\n",
  "é",
  "\u2028",
  "€",
  "😀",
  "\ufb33",
  "\ud800",
  "0",
];
const text = (): string =>
  Array.from({ length: pick(12) }, () => alphabet[pick(alphabet.length)]).join("");
const bytes = (): Buffer => Buffer.from(Array.from({ length: pick(8) }, () => pick(256)));

function randomObject(table: (typeof objectFields)["file.open"]): Record<string, unknown> {
  return Object.fromEntries(
    table
      .filter(() => pick(4) > 0)
      .map(([name, kind]) => [
        name,
        kind === "integer"
          ? pick(2 ** 31) - 2 ** 30
          : kind === "text"
            ? pick(3)
              ? text()
              : bytes()
            : Array.from({ length: pick(4) }, () => (pick(3) ? text() : bytes())),
      ])
      .toReversed(),
  );
}

function randomEvent(): NonoEvent {
  const types = Object.keys(objectFields) as NonoEvent["type"][];
  const type = types[pick(types.length)] as NonoEvent["type"];
  const event = {
    type,
    phase: "event",
    decision: "allow",
    object: randomObject(objectFields[type]),
    ...(pick(2) && {
      actor: { ...randomObject(partFields.actor), ...(pick(2) && { agent: { id: text() } }) },
    }),
    ...(pick(2) && { outcome: randomObject(partFields.outcome) }),
    ...(pick(2) && { rule: { id: text() } }),
    ...(pick(2) && { trace: { traceId: "a", spanId: "b" } }),
    ...(pick(2) && { ref: pick(7) }),
  };
  return event as unknown as NonoEvent;
}

describe("entries are RFC 8785 bytes", () => {
  test("10,000 random events of every type equal an independent canonicaliser", () => {
    for (let n = 0; n < 10_000; n += 1) {
      const json = encodeEntry(
        randomEvent(),
        stamp,
        n % 2 ? new Redactor(redactSensitive) : undefined,
      );
      expect(json).toBe(canonicalize(JSON.parse(json)));
    }
  });

  test("strings stay strings, bytes that are not UTF-8 become base64, lone surrogates become WTF-8 bytes", () => {
    const path = Buffer.from([0x2f, 0xff, 0x61]);
    const rename = {
      type: "file.rename",
      phase: "event",
      decision: "deny",
      object: { path, to: "\ud800x" },
    } as const;
    const { object } = JSON.parse(encodeEntry(rename, stamp)) as { object: unknown };
    expect(object).toEqual({
      path_b64: path.toString("base64"),
      to_b64: Buffer.from([0xed, 0xa0, 0x80, 0x78]).toString("base64"),
    });
    const utf8 = {
      type: "file.open",
      phase: "event",
      decision: "allow",
      object: { path: Buffer.from("/é") },
    } as const;
    expect(JSON.parse(encodeEntry(utf8, stamp))).toMatchObject({ object: { path: "/é" } });
  });

  test("a text above the cap is replaced by its digest and length, however it is escaped", () => {
    for (const long of ["a".repeat(maxTextSize), "\u0001".repeat(maxTextSize / 6 + 1)]) {
      const event = {
        type: "file.open",
        phase: "event",
        decision: "allow",
        object: { path: long },
      } as const;
      expect(JSON.parse(encodeEntry(event, stamp))).toMatchObject({
        object: { path_digest: { bytes: long.length } },
      });
    }
    const argv = Array.from({ length: 5000 }, (_, n) => String(n));
    const exec = {
      type: "process.exec",
      phase: "event",
      decision: "allow",
      object: { path: "/x", argv },
    } as const;
    expect(JSON.parse(encodeEntry(exec, stamp))).toMatchObject({
      object: { argv_digest: { bytes: 23_890 } },
    });
  });

  test.each([
    ["an unknown type", { type: "file.peek", object: {} }, "no event type file.peek"],
    ["an unknown member", { object: { path: "/x", secret: 1 } }, "object has no member secret"],
    ["a number for a text", { object: { path: 5 } }, "object.path must be a string or bytes"],
    [
      "a fraction",
      { type: "file.chmod", object: { path: "/x", mode: 0.5 } },
      "object.mode must be an integer",
    ],
    ["NaN as time", { object: { path: "/x" }, time: Number.NaN }, "time must be an integer"],
    [
      "an unknown decision",
      { object: { path: "/x" }, decision: "maybe" },
      "decision must be one of allow, deny, ask, error",
    ],
    [
      "an inherited word as decision",
      { object: { path: "/x" }, decision: "constructor" },
      "decision must be one of",
    ],
  ])("refuses %s", (_what, part, message) => {
    const event = {
      type: "file.open",
      phase: "event",
      decision: "allow",
      ...part,
    } as unknown as NonoEvent;
    const attempt = (): string => encodeEntry(event, { ...stamp, time: event.time ?? 0 });
    expect(attempt).toThrow(AuditError);
    expect(attempt).toThrow(message);
  });

  test("a redacted field leaves its digest, and the disclosure gives it back", () => {
    const redactor = new Redactor(redactSensitive);
    const event = {
      type: "http.request",
      phase: "intent",
      decision: "allow",
      object: { method: "GET", host: "h", path: "/users/7", query: "key=s3cret" },
    } as const;
    const json = encodeEntry(event, stamp, redactor);
    expect(json).not.toContain("s3cret");
    expect(json).not.toContain("/users");
    const { object } = JSON.parse(json) as { object: { _sd: string[] } };
    const disclosures = redactor.take();
    expect(object._sd).toEqual(disclosures.map(disclosureDigest).toSorted());
    const [salt, name, value] = JSON.parse(
      Buffer.from(disclosures[1] as string, "base64url").toString(),
    ) as string[];
    expect([name, value]).toEqual(["query", "key=s3cret"]);
    expect(Buffer.from(salt as string, "base64url").length).toBe(16);
  });
});
