import { expect, test } from "vitest";
import { createGate } from "../src/index.ts";
import { specialRangeOf } from "../src/net/address-class.ts";
import { parseAuthority, parseHost } from "../src/net/host.ts";
import { parseIp } from "../src/net/ip.ts";
import { AllowList } from "../src/policy/allow-list.ts";

test.each([
  ["127.1", "127.0.0.1"],
  ["2130706433", "127.0.0.1"],
  ["0x", "0.0.0.0"],
  ["0x7f000001", "127.0.0.1"],
  ["0177.0.0.1", "127.0.0.1"],
  ["[::ffff:127.0.0.1]", "127.0.0.1"],
  ["[::FFFF:7f00:1]", "127.0.0.1"],
  ["１２７.0.0.1", "127.0.0.1"],
  ["API.GitHub.COM.", "api.github.com"],
  ["bücher.example", "xn--bcher-kva.example"],
  ["[2001:DB8:0:0:0:0:0:1]", "2001:db8::1"],
])("host %s is %s", (text, canonical) => {
  expect(parseHost(text).text).toBe(canonical);
});

test.each([
  "",
  "good.test\0.evil.test",
  "good.test ",
  "a@b",
  "a%00b",
  "a/b",
  "a\\b",
  "a..b",
  "1.2.3.4.5",
  "256.1.1.1",
  "[fe80::1%eth0]",
  "[::1",
  "-",
  `${"a".repeat(64)}.test`,
  `${"a.".repeat(130)}test`,
  "a#b",
  "a?b",
  "08.1.1.1",
])("host %j is refused", (text) => {
  expect(() => parseHost(text)).toThrow(expect.objectContaining({ code: "ERR_NONO_INVALID_HOST" }));
});

test.each([
  ["*.good.test", "a.good.test", 443, true],
  ["*.good.test", "a.b.good.test", 443, true],
  ["*.good.test", "good.test", 443, false],
  ["*.good.test", "evilgood.test", 443, false],
  ["*.good.test", "good.test.evil.test", 443, false],
  ["good.test", "good.test", 80, true],
  ["good.test", "good.test", 22, false],
  ["good.test", "good.test", 25, false],
  ["good.test:22", "good.test", 22, true],
  ["good.test:22", "good.test", 443, false],
  ["127.0.0.1:80", "0.0.0.0", 80, false],
  ["127.0.0.1:80", "[::1]", 80, false],
  ["127.0.0.1:80", "127.1", 80, true],
  ["0.0.0.0/0", "93.184.216.34", 443, true],
  ["0.0.0.0/0", "127.0.0.1", 443, false],
  ["0.0.0.0/0", "169.254.169.254", 80, false],
  ["169.254.0.0/16", "169.254.169.254", 80, false],
  ["169.254.169.254", "169.254.169.254", 80, true],
  ["10.0.0.0/8:8080", "10.1.2.3", 8080, true],
  ["[2606:4700::/32]:443", "[2606:4700::1111]", 443, true],
])("allow %s: %s:%d is %s", (rule, host, port, allowed) => {
  expect(new AllowList([rule]).decide({ host: parseHost(host), port }).allowed).toBe(allowed);
});

test("an empty allow-list allows nothing, and deny wins over allow", () => {
  expect(new AllowList([]).decide(parseAuthority("good.test", 443)).allowed).toBe(false);
  const list = new AllowList(["*.good.test"], ["bad.good.test"]);
  expect(list.decide(parseAuthority("bad.good.test", 443))).toMatchObject({
    allowed: false,
    rule: "bad.good.test",
  });
  expect(list.allowsName(parseHost("bad.good.test"))).toBe(false);
});

test.each([
  ["169.254.169.254", "metadata"],
  ["168.63.129.16", "metadata"],
  ["100.100.100.200", "metadata"],
  ["fd00:ec2::254", "metadata"],
  ["127.0.0.1", "loopback"],
  ["::1", "loopback"],
  ["0.0.0.0", "unspecified"],
  ["10.0.0.1", "private"],
  ["172.31.255.255", "private"],
  ["192.168.1.1", "private"],
  ["100.64.0.1", "cgnat"],
  ["fe80::1", "link-local"],
  ["fd00::1", "private"],
  ["64:ff9b::7f00:1", "embedded-ipv4"],
  ["64:ff9b::a9fe:a9fe", "embedded-ipv4"],
  ["2002:7f00:1::", "embedded-ipv4"],
  ["224.0.0.1", "multicast"],
  ["::ffff:169.254.169.254", "metadata"],
])("%s is %s", (text, name) => {
  const address = parseIp(text);
  expect(address && specialRangeOf(address)?.class).toBe(name);
});

test("public addresses are public", () => {
  for (const text of ["1.1.1.1", "140.82.112.3", "2606:4700::1111", "2a00:1450::1"]) {
    const address = parseIp(text);
    expect(address && specialRangeOf(address)).toBeUndefined();
  }
});

test("rules that say two things or nothing are refused when the gate is made", () => {
  for (const allow of [
    "https://a.test",
    "a.test/path",
    "*",
    "*.1.2.3.4",
    "a:0",
    "a:70000",
    "10.0.0.1/8",
    "",
  ]) {
    expect(() => createGate({ allow: [allow] }), allow).toThrow(
      expect.objectContaining({ code: "ERR_NONO_INVALID_OPTION", value: allow }),
    );
  }
});

test("a scheme that is none, and a bound that is no number, are refused, not taken for nothing", () => {
  const source = { description: "a test value", read: async () => Buffer.from("12345678") };
  const refused = expect.objectContaining({ code: "ERR_NONO_INVALID_OPTION" }) as Error;
  for (const scheme of ["Bearer", "constructor", { type: "heading", header: "x" }]) {
    const credential = { name: "T", proxyTo: "good.test", source, scheme: scheme as "bearer" };
    expect(() => createGate({ allow: [], credentials: [credential] })).toThrow(refused);
  }
  for (const connections of [Number.NaN, 0, -1, Infinity, "9" as unknown as number]) {
    expect(() => createGate({ allow: [], limits: { connections } })).toThrow(refused);
  }
  const none = { connections: undefined } as unknown as { connections: number };
  expect(() => createGate({ allow: [], limits: none })).not.toThrow();
});
