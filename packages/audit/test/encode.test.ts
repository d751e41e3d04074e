import canonicalize from "canonicalize";
import { describe, expect, test } from "vitest";
import { homedir } from "node:os";
import { encodeEntry, maxSize } from "../src/encode.ts";
import { AuditError, type NonoEvent } from "../src/index.ts";
import { Redactor, disclosureDigest, redactSensitive } from "../src/redact.ts";
import { objectFields, partFields, type FieldKind, type Fields } from "../src/schema.ts";
import { maxEntrySize } from "../src/tiles.ts";

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

function randomValue(kind: FieldKind): unknown {
  if (kind === "integer") return pick(2 ** 31) - 2 ** 30;
  if (kind === "agent") return randomObject(partFields.agent);
  const one = (): unknown =>
    kind === "processes" ? randomObject(partFields.process) : pick(3) ? text() : bytes();
  return kind === "word" || kind === "text" ? one() : Array.from({ length: pick(4) }, one);
}

function randomObject(table: Fields): Record<string, unknown> {
  const present = table.filter(() => pick(4) > 0).toReversed();
  return Object.fromEntries(present.map(([name, kind]) => [name, randomValue(kind)]));
}

function randomEvent(): NonoEvent {
  const types = Object.keys(objectFields) as NonoEvent["type"][];
  const type = types[pick(types.length)] as NonoEvent["type"];
  const event = {
    type,
    phase: "event",
    decision: "allow",
    object: randomObject(objectFields[type]),
    ...(pick(2) && { actor: randomObject(partFields.actor) }),
    ...(pick(2) && { count: 1 + pick(1000) }),
    ...(pick(2) && { layer: text() }),
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
    for (const long of ["a".repeat(maxSize.text), "\u0001".repeat(maxSize.text / 6 + 1)]) {
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

  test.each(Object.keys(objectFields) as NonoEvent["type"][])(
    "with everything at its longest, %s still fits a bundle",
    (type) => {
      const longest: Record<FieldKind, unknown> = {
        integer: Number.MIN_SAFE_INTEGER,
        word: "w".repeat(maxSize.word - 2),
        text: "t".repeat(maxSize.text - 2),
        texts: ["t".repeat(maxSize.texts - 4)],
        processes: [{ exe: "e".repeat(maxSize.text - 2) }, { exe: "e".repeat(maxSize.text - 30) }],
        agent: { id: "w".repeat(maxSize.word - 2), instance: "w".repeat(maxSize.word - 2) },
      };
      const full = (table: Fields): object =>
        Object.fromEntries(table.map(([name, kind]) => [name, longest[kind]]));
      const event = {
        type,
        phase: "intent",
        decision: "error",
        time: 2 ** 47,
        count: Number.MAX_SAFE_INTEGER,
        ref: Number.MAX_SAFE_INTEGER,
        layer: longest.word,
        actor: full(partFields.actor),
        object: full(objectFields[type]),
        outcome: full(partFields.outcome),
        rule: full(partFields.rule),
        trace: full(partFields.trace),
      } as unknown as NonoEvent;
      const json = encodeEntry(event, { ...stamp, session: JSON.stringify("s".repeat(255)) });
      expect(json).not.toContain("_digest");
      expect(json.length).toBeLessThanOrEqual(maxEntrySize);
    },
  );

  test("an attempt of a process deep in a run: chain, stack, layer, repeats", () => {
    const event: NonoEvent = {
      type: "file.open",
      phase: "event",
      decision: "deny",
      count: 12,
      layer: "landlock",
      rule: { id: "fs:default" },
      actor: {
        pid: 77,
        exe: "/usr/bin/cat",
        cwd: "/work",
        chain: [
          { pid: 70, exe: "/usr/bin/bash" },
          { pid: 1, exe: Buffer.from([0x2f, 0xff]) },
        ],
        stack: ["libc.so.6+0x1234", "cat+0x99"],
        agent: { id: "a" },
        argv: ["cat", "x"],
      },
      object: { path: "/etc/shadow", asked: "../etc/shadow", access: "read" },
      outcome: { errno: "EACCES" },
    };
    const json = encodeEntry(event, stamp);
    expect(json).toBe(canonicalize(JSON.parse(json)));
    expect(JSON.parse(json)).toMatchObject({
      count: 12,
      layer: "landlock",
      actor: {
        chain: [
          { pid: 70, exe: "/usr/bin/bash" },
          { pid: 1, exe_b64: "L/8=" },
        ],
      },
      object: { path: "/etc/shadow", asked: "../etc/shadow" },
    });
    const long = {
      ...event,
      actor: { chain: Array.from({ length: 1000 }, (_, pid) => ({ pid })) },
    };
    expect(encodeEntry(long, stamp)).toContain('"chain_digest":{"bytes":');
  });

  test.each([
    ["an unknown type", { type: "file.peek", object: {} }, "no event type file.peek"],
    ["an unknown member", { object: { path: "/x", secret: 1 } }, "object has no member secret"],
    ["a member beside object", { object: { path: "/x" }, verdict: "denied" }, "no member verdict"],
    ["a count of none", { object: { path: "/x" }, count: 0 }, "count must be at least 1"],
    [
      "a chain that is no list",
      { object: { path: "/x" }, actor: { chain: {} } },
      "a list of processes",
    ],
    [
      "an agent that is no object",
      { object: { path: "/x" }, actor: { agent: "a" } },
      "must be an object",
    ],
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

  test("paths below the home directory are kept apart wherever they stand; programs stay in clear", () => {
    const home = homedir();
    const redactor = new Redactor(redactSensitive);
    const event = (object: object, type = "file.rename"): string =>
      encodeEntry(
        {
          type,
          phase: "event",
          decision: "allow",
          actor: { exe: `${home}/.local/bin/agent`, cwd: `${home}/private-project` },
          object,
        } as unknown as NonoEvent,
        stamp,
        redactor,
      );
    for (const json of [
      event({ path: "/tmp/x", to: `${home}/private` }),
      event({ path: `${home}/private`, asked: `${home}/private` }),
      event({ path: Buffer.from(`${home}/private`), access: "read" }, "file.open"),
      event({ path: "/bin/sh", cwd: `${home}/private` }, "process.exec"),
      event({ dirs: ["/srv", `${home}/private`] }, "snapshot.create"),
      event({ target: `${home}/private` }, "policy.decision"),
      event({ method: "GET", host: "h", path: "/", reason: "private" }, "http.request"),
    ]) {
      expect(json).not.toContain("private");
      expect(json).toContain("/.local/bin/agent");
    }
    expect(redactor.take()).toHaveLength(7 + 9);
    expect(event({ path: "/srv/x" })).toContain('"path":"/srv/x"');
  });
});
