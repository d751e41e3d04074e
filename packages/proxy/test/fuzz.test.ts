import { once } from "node:events";
import net from "node:net";
import { duplexPair } from "node:stream";
import { TLSSocket } from "node:tls";
import * as fc from "fast-check";
import { afterAll, expect, test, vi } from "vitest";
import { encodedForms } from "../src/credentials/encoded-forms.ts";
import { Masker } from "../src/credentials/masker.ts";
import { PatternSet, StreamReplacer } from "../src/credentials/pattern-set.ts";
import { parseQuery } from "../src/dns/message.ts";
import { Responder } from "../src/dns/responder.ts";
import { SyntheticAddresses } from "../src/dns/synthetic.ts";
import { Recorder } from "../src/event.ts";
import { FrameRelay } from "../src/http/websocket-relay.ts";
import { parseHost } from "../src/net/host.ts";
import { formatIp, parseIp } from "../src/net/ip.ts";
import { AllowList } from "../src/policy/allow-list.ts";
import { pathReadings } from "../src/policy/request-readings.ts";
import { readClientHello } from "../src/tls/client-hello.ts";
import { HelloWatch } from "../src/tls/hello-watch.ts";
import { dnsQuery } from "./support/dns.ts";
import { closeAll, openGate, token } from "./support/gate.ts";
import { inRecords, realHello, serverNames, withExtension } from "./support/hello.ts";
import { httpsUpstream, upstreamAuthority } from "./support/upstream.ts";

// Every parser against bytes that nobody would send. Bounded here; `pnpm --filter @nono/proxy fuzz` runs each property
// half a million times.
const runs = Number(process.env["NONO_FUZZ_RUNS"] ?? 2_000);
vi.setConfig({ testTimeout: runs > 2_000 ? 3_600_000 : 120_000 });
afterAll(closeAll);

const asterisk = (): Buffer => Buffer.from("*");
/** Where a stream is cut. */
const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 20 });

function pieces(bytes: Buffer, sizes: readonly number[]): Buffer[] {
  const result: Buffer[] = [];
  for (let at = 0, i = 0; at < bytes.length; i += 1) {
    const size = sizes[i % sizes.length] ?? 1;
    result.push(bytes.subarray(at, at + size));
    at += size;
  }
  return result;
}

/** A few bytes changed, at places and to values that fast-check chooses. */
const edits = fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 5 });

function edited(bytes: Buffer, changes: readonly (readonly [number, number])[]): Buffer {
  const copy = Buffer.from(bytes);
  for (const [at, byte] of changes) copy[at % copy.length] = byte;
  return copy;
}

test("DNS: any bytes get an answer or silence", () => {
  const list = new AllowList(["good.test", "*.wild.test"]);
  const dns = new Responder(list, new SyntheticAddresses(), new Recorder());
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
      const answer = dns.respond(Buffer.from(bytes));
      expect(answer === undefined || answer.length >= 12).toBe(true);
    }),
    { numRuns: runs },
  );
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 0, max: 255 }), (at, byte) => {
      const message = dnsQuery("a.wild.test", 1);
      message[at % message.length] = byte;
      const parsed = parseQuery(message);
      if ("question" in parsed) expect(parsed.name).not.toMatch(/[\0 ]/);
    }),
    { numRuns: runs },
  );
});

/** The server name that OpenSSL takes from these bytes; undefined: it takes none. */
async function nameForOpenSsl(bytes: Buffer): Promise<string | undefined> {
  const [client, server] = duplexPair();
  let name: string | undefined;
  const secureContext = upstreamAuthority.contextFor(parseHost("good.test"));
  const secure = new TLSSocket(server, {
    isServer: true,
    secureContext,
    SNICallback: (asked, done) => {
      name = asked;
      done(null, secureContext);
    },
  });
  secure.on("error", () => undefined);
  client.on("error", () => undefined).resume();
  client.write(bytes);
  // OpenSSL answers a hello, or complains, within the same turns of the loop.
  for (let turn = 0; turn < 6; turn += 1) {
    await new Promise((resolve) => {
      setImmediate(resolve);
    });
  }
  secure.destroy();
  client.destroy();
  return name;
}

test("ClientHello: what OpenSSL would take for the server name, the gate has read too, or it refuses", async () => {
  const plain = await realHello({ servername: "good.test" });
  const none = await realHello({});
  const starts = [
    plain,
    inRecords(plain, 50),
    withExtension(none, 0, serverNames("evil.test")),
    withExtension(plain, 0, serverNames("evil.test")),
    withExtension(none, 0, serverNames("good.test", "evil.test")),
  ];
  expect(await nameForOpenSsl(plain)).toBe("good.test");
  let taken = 0;
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...starts), edits, cuts, async (start, changes, sizes) => {
      const bytes = edited(start, changes);
      const seen: (string | undefined)[] = [];
      const watch = new HelloWatch(({ serverName }) => void seen.push(serverName));
      const passed: Buffer[] = [];
      try {
        for (const piece of pieces(bytes, sizes)) passed.push(watch.push(piece));
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_NONO_PROTOCOL" });
      }
      const name = await nameForOpenSsl(Buffer.concat(passed));
      if (name === undefined) return;
      taken += 1;
      expect(seen).toContain(name);
    }),
    { numRuns: Math.min(runs, 20_000) },
  );
  expect(taken).toBeGreaterThan(50);
});

const payload = fc.uint8Array({ maxLength: 200 }).map((bytes) => Buffer.from(bytes));

/** A frame as RFC 6455 section 5.2 has it. */
function frame(final: boolean, opcode: number, data: Buffer, masked: boolean): Buffer {
  const length = data.length < 126 ? [data.length] : [126, data.length >> 8, data.length & 255];
  length[0] = (length[0] as number) | (masked ? 0x80 : 0);
  const mask = masked ? Buffer.from([1, 2, 3, 4]) : Buffer.alloc(0);
  const body = masked ? data.map((byte, i) => byte ^ (mask[i & 3] as number)) : data;
  return Buffer.concat([Buffer.from([(final ? 0x80 : 0) | opcode, ...length]), mask, body]);
}

test("WebSocket: messages survive, however they are fragmented and cut, and nothing secret in them does", () => {
  const secret = "the-secret-value";
  const masker = new Masker([Buffer.from(secret)]);
  fc.assert(
    fc.property(
      fc.array(fc.oneof(payload, fc.constant(Buffer.from(secret))), { minLength: 1, maxLength: 6 }),
      fc.boolean(),
      cuts,
      cuts,
      (parts, masked, fragments, sizes) => {
        const message = Buffer.concat(parts);
        const split = message.length === 0 ? [message] : pieces(message, fragments);
        const wire = split.map((part, i) =>
          Buffer.concat([
            frame(i === split.length - 1, i === 0 ? 2 : 0, part, masked),
            // A control frame between fragments.
            frame(true, 9, Buffer.from("ping"), masked),
          ]),
        );
        const relay = new FrameRelay(() => masker.stream());
        const out = pieces(Buffer.concat(wire), sizes).map((piece) => relay.push(piece));
        // Read back by a second relay that changes nothing but sees every payload.
        const seen: Buffer[] = [];
        const reader = new FrameRelay(() => ({
          push: (chunk) => {
            if (String(chunk) !== "ping") seen.push(Buffer.from(chunk));
            return chunk;
          },
          flush: () => Buffer.alloc(0),
        }));
        reader.push(Buffer.concat(out));
        const received = Buffer.concat(seen).toString("latin1");
        expect(received).toHaveLength(message.length);
        expect(received).not.toContain(secret);
        expect(received).toBe(
          message.toString("latin1").replaceAll(secret, "*".repeat(secret.length)),
        );
      },
    ),
    { numRuns: runs },
  );
});

test("WebSocket: any bytes are relayed, waited for or refused", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 400 }), cuts, (bytes, sizes) => {
      const relay = new FrameRelay(() => new Masker([Buffer.from("12345678")]).stream());
      try {
        for (const piece of pieces(Buffer.from(bytes), sizes)) relay.push(piece);
      } catch (error) {
        expect(error).toBeInstanceOf(RangeError);
      }
    }),
    { numRuns: runs },
  );
});

test("a whole gate outlives any bytes, at its proxy and within its TLS", async () => {
  const { port } = await httpsUpstream((_request, response) => response.end("alive"));
  const gate = await openGate(port, { credentials: [token(port)] });
  const proxy = new URL(gate.env()["HTTPS_PROXY"] ?? "");
  const pair = Buffer.from(`nono:${proxy.password}`).toString("base64");
  const connect = `CONNECT good.test:${port} HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic ${pair}\r\n\r\n`;
  const hello = await realHello({ servername: "good.test" });
  const send = async (bytes: Buffer): Promise<void> => {
    const socket = net.connect(Number(proxy.port), "127.0.0.1");
    socket.on("error", () => undefined).resume();
    const closed = new Promise((resolve) => {
      socket.once("close", resolve);
    });
    socket.end(bytes);
    const timer = setTimeout(() => socket.destroy(), 50);
    await closed;
    clearTimeout(timer);
  };
  const word = fc.constantFrom(
    "GET ",
    "POST ",
    "/",
    "http://good.test",
    " HTTP/1.1\r\n",
    "\r\n",
    ":",
    "\0",
    "Content-Length: 3",
  );
  const text = fc.array(fc.oneof(word, fc.string({ unit: "binary", maxLength: 20 })), {
    maxLength: 20,
  });
  await fc.assert(
    fc.asyncProperty(text, edits, fc.boolean(), async (parts, changes, tunnel) => {
      const junk = Buffer.from(parts.join(""));
      await send(
        tunnel ? Buffer.concat([Buffer.from(connect), edited(hello, changes), junk]) : junk,
      );
    }),
    { numRuns: Math.min(150, runs) },
  );
  const socket = net.connect(Number(proxy.port), "127.0.0.1");
  socket.write(connect);
  const [answer] = (await once(socket, "data")) as [Buffer];
  expect(String(answer)).toMatch(/^HTTP\/1\.1 200/);
  socket.destroy();
});

test("a changed ClientHello is read, refused or waited for, never an exception", async () => {
  const bytes = await realHello({ servername: "good.test" });
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.nat(), fc.integer({ min: 0, max: 255 })), { maxLength: 5 }),
      (edits) => {
        const copy = Buffer.from(bytes);
        for (const [at, byte] of edits) copy[at % copy.length] = byte;
        const result = readClientHello(copy);
        expect(["string", "object"]).toContain(typeof result);
      },
    ),
    { numRuns: runs },
  );
});

test("replacing in a stream is replacing in the whole, however it is cut", () => {
  const word = fc.stringMatching(/^[ab]{2,6}$/);
  fc.assert(
    fc.property(
      fc.uniqueArray(word, { minLength: 1, maxLength: 4 }),
      fc.stringMatching(/^[abc]{0,60}$/),
      fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 60 }),
      (words, text, cuts) => {
        const set = new PatternSet(words.map((each) => Buffer.from(each)));
        const cut = new StreamReplacer(set, asterisk);
        const parts: Buffer[] = [];
        let at = 0;
        for (let i = 0; at < text.length; i += 1) {
          const size = cuts[i % cuts.length] ?? 1;
          parts.push(cut.push(Buffer.from(text.slice(at, at + size))));
          at += size;
        }
        parts.push(cut.flush());
        const result = Buffer.concat(parts).toString();
        // Overlapping patterns may be taken in another order; none may be left over.
        for (const each of words) expect(result).not.toContain(each);
        expect(result.replaceAll("*", "").length).toBeLessThanOrEqual(text.length);
      },
    ),
    { numRuns: runs },
  );
});

test("every encoded form of a value is found in random bytes around it", () => {
  const secret = Buffer.from("s3cr3t/with+odd=chars&more");
  const set = new PatternSet(encodedForms(secret));
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 50 }),
      fc.constantFrom("base64", "hex", "latin1"),
      (before, how) => {
        const bytes = Buffer.from(
          Buffer.concat([before, secret, before]).toString(how as BufferEncoding),
          "latin1",
        );
        expect(set.find(bytes)).toBeDefined();
      },
    ),
    { numRuns: runs },
  );
});

test("the canonical host is a fixed point, and addresses survive text", () => {
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      let host;
      try {
        host = parseHost(text);
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_NONO_INVALID_HOST" });
        return;
      }
      expect(host.text).toMatch(/^[a-z0-9._:-]+$/);
      expect(parseHost(host.text).text).toBe(host.text);
    }),
    { numRuns: runs },
  );
  fc.assert(
    fc.property(fc.ipV6(), (text) => {
      const address = parseIp(text);
      expect(address && parseIp(formatIp(address))).toEqual(address);
    }),
    { numRuns: runs },
  );
});

test("a path is refused or has readings without dot segments", () => {
  const part = fc.constantFrom(
    "/",
    ".",
    "..",
    "%2e",
    "%2f",
    "%",
    "25",
    "a",
    "\\",
    "%5c",
    ";",
    "?",
    "//",
    "é",
  );
  fc.assert(
    fc.property(fc.array(part), (parts) => {
      let readings: string[];
      try {
        readings = pathReadings(`/${parts.join("")}`);
      } catch (error) {
        expect(error).toMatchObject({ code: "ERR_NONO_PROTOCOL" });
        return;
      }
      for (const reading of readings) {
        expect(reading.split("/")).not.toContain("..");
        expect(reading).not.toMatch(/\/\/|\\/);
      }
    }),
    { numRuns: runs },
  );
});
