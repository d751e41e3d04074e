import { expect, test } from "vitest";
import { queryType, responseCode } from "../src/dns/message.ts";
import { Responder } from "../src/dns/responder.ts";
import { SyntheticAddresses } from "../src/dns/synthetic.ts";
import { Recorder } from "../src/event.ts";
import { AllowList } from "../src/policy/allow-list.ts";
import { readClientHello } from "../src/tls/client-hello.ts";
import { HelloWatch } from "../src/tls/hello-watch.ts";
import { dnsQuery } from "./support/dns.ts";
import { realHello } from "./support/hello.ts";

function responder(): { responder: Responder; recorder: Recorder; addresses: SyntheticAddresses } {
  const recorder = new Recorder();
  const addresses = new SyntheticAddresses();
  const list = new AllowList(["good.test", "*.wild.test"]);
  return { responder: new Responder(list, addresses, recorder), recorder, addresses };
}

const code = (answer: Buffer | undefined): number => (answer?.[3] ?? 255) & 15;
const count = (answer: Buffer | undefined): number => answer?.readUInt16BE(6) ?? -1;

test("an allowed name gets a synthetic address that reads back as the name, over A, AAAA and PTR", () => {
  const { responder: dns, addresses } = responder();
  const answer = dns.respond(dnsQuery("GOOD.test", queryType.A));
  expect([code(answer), count(answer)]).toEqual([responseCode.noError, 1]);
  expect([...(answer?.subarray(-4) ?? [])]).toEqual([198, 18, 0, 1]);
  expect(addresses.nameOf({ family: 4, bits: 0xc6120001n })).toBe("good.test");
  expect(count(dns.respond(dnsQuery("good.test", queryType.AAAA)))).toBe(1);
  const pointer = dns.respond(dnsQuery("1.0.18.198.in-addr.arpa", queryType.PTR));
  expect(String(pointer)).toContain("good\u0004test");
});

test("HTTPS and SVCB are answered empty, other types are refused, other names do not exist", () => {
  const { responder: dns, recorder } = responder();
  const https = dns.respond(dnsQuery("good.test", queryType.HTTPS));
  expect([code(https), count(https)]).toEqual([responseCode.noError, 0]);
  expect(code(dns.respond(dnsQuery("good.test", 16)))).toBe(responseCode.refused);
  const stolen = "c2vjcmv0.evil.test";
  expect(code(dns.respond(dnsQuery(stolen, queryType.A)))).toBe(responseCode.nameError);
  expect(recorder.violations.at(-1)).toMatchObject({ value: stolen });
});

test("malformed queries get FORMERR or silence, never an exception", () => {
  const { responder: dns } = responder();
  expect(dns.respond(Buffer.alloc(3))).toBeUndefined();
  const response = dnsQuery("good.test", 1);
  response[2] = 0x80;
  expect(dns.respond(response)).toBeUndefined();
});

test("a real ClientHello is read, in one piece, byte by byte and split over records", async () => {
  const bytes = await realHello({ servername: "good.test", ALPNProtocols: ["h2", "http/1.1"] });
  const expected = {
    serverName: "good.test",
    alpn: ["h2", "http/1.1"],
    encrypted: false,
    earlyData: false,
  };
  expect(readClientHello(bytes)).toEqual(expected);
  for (let end = 0; end < bytes.length; end += 1) {
    expect(readClientHello(bytes.subarray(0, end))).toBe("incomplete");
  }
  const body = bytes.subarray(5);
  const records = [body.subarray(0, 40), body.subarray(40)].map((part) =>
    Buffer.concat([Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part]),
  );
  expect(readClientHello(Buffer.concat(records))).toEqual(expected);
});

test("a second ClientHello with another name is refused, also in pieces", async () => {
  const first = await realHello({ servername: "good.test" });
  const second = await realHello({ servername: "evil.test" });
  const changeCipherSpec = Buffer.from([20, 3, 3, 0, 1, 1]);
  for (const size of [1, 7, 100_000]) {
    const names: (string | undefined)[] = [];
    const watch = new HelloWatch(({ serverName }) => {
      names.push(serverName);
      if (serverName !== "good.test") throw new Error("refused");
    });
    const stream = Buffer.concat([first, changeCipherSpec, second]);
    const passed: Buffer[] = [];
    expect(() => {
      for (let at = 0; at < stream.length; at += size)
        passed.push(watch.push(stream.subarray(at, at + size)));
    }).toThrow("refused");
    expect(names).toEqual(["good.test", "evil.test"]);
    expect(Buffer.concat(passed).includes("evil.test")).toBe(false);
  }
});

test("the watch passes what is not TLS, and ends at the first encrypted record", async () => {
  const plain = new HelloWatch(() => undefined);
  expect(String(plain.push(Buffer.from("SSH-2.0-x")))).toBe("SSH-2.0-x");
  expect(plain.done).toBe(true);
  const hello = await realHello({ servername: "good.test" });
  const watch = new HelloWatch(() => undefined);
  const stream = Buffer.concat([hello, Buffer.from([23, 3, 3, 0, 1, 9])]);
  expect(watch.push(stream).equals(stream)).toBe(true);
  expect(watch.done).toBe(true);
});
