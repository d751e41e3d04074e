import { randomBytes } from "node:crypto";
import { PassThrough } from "node:stream";
import { finished } from "node:stream/promises";
import { expect, test, vi } from "vitest";
import { ChunkSigner } from "../src/credentials/sigv4-chunks.ts";
import { ByteQueue, gather } from "../src/net/byte-queue.ts";
import { sniff } from "../src/net/sniff.ts";
import { readClientHello } from "../src/tls/client-hello.ts";
import { HelloWatch } from "../src/tls/hello-watch.ts";
import { inRecords, realHello, withExtension } from "./support/hello.ts";

// What a sandbox sends costs what its length is, however finely it is split. Counted, not timed: bytes that are copied,
// and pieces that are joined.

const pieces = (bytes: Buffer, size: number): Buffer[] =>
  Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
    bytes.subarray(i * size, (i + 1) * size),
  );

const tooLong = (): Error => new Error("too long");

async function costOf(work: () => unknown): Promise<number> {
  let cost = 0;
  // oxlint-disable-next-line typescript/unbound-method -- static, and without `this`
  const { concat } = Buffer;
  // oxlint-disable-next-line typescript/unbound-method -- applied below
  const { copy } = Buffer.prototype;
  const spies = [
    vi.spyOn(Buffer, "concat").mockImplementation((list, length) => {
      const whole = concat(list, length);
      cost += whole.length + list.length;
      return whole;
    }),
    vi.spyOn(Buffer.prototype, "copy").mockImplementation(function count(this: Buffer, ...args) {
      const copied = copy.apply(this, args);
      cost += copied;
      return copied;
    }),
  ];
  try {
    await work();
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
  return cost;
}

/** A hello of nearly the greatest length. */
async function longHello(): Promise<Buffer> {
  const hello = await realHello({ servername: "good.test" });
  const body = withExtension(hello, 0xfafa, Buffer.alloc(60_000)).subarray(5);
  body.writeUIntBE(body.length - 4, 1, 3);
  return Buffer.concat([Buffer.from([22, 3, 1, 0, 0]), body]);
}

test("a chunk to sign that comes in small pieces", async () => {
  const size = 4 * 1024 * 1024;
  const head = `${size.toString(16)};chunk-signature=${"0".repeat(64)}\r\n`;
  const end = `\r\n0;chunk-signature=${"0".repeat(64)}\r\n\r\n`;
  const upload = Buffer.concat([Buffer.from(head), Buffer.alloc(size), Buffer.from(end)]);
  const signature = {
    date: "20130524T000000Z",
    scope: "20130524/us-east-1/s3/aws4_request",
    signedHeaders: ["host"],
  };
  const keys = { accessKeyId: "AKIA", secretAccessKey: "secret" };
  const cost = await costOf(async () => {
    const signer = new ChunkSigner(signature, "0".repeat(64), keys);
    for (const piece of pieces(upload, 1024)) {
      if (!signer.write(piece)) await new Promise((resolve) => void signer.once("drain", resolve));
      signer.read();
    }
    signer.end();
    await finished(signer.resume());
  });
  expect(cost).toBeLessThan(4 * upload.length);
});

test("a body that is gathered byte by byte", async () => {
  const body = randomBytes(100_000);
  let whole: Buffer | undefined;
  const cost = await costOf(async () => {
    const stream = async function* (): AsyncGenerator<Buffer> {
      yield* pieces(body, 1);
    };
    whole = await gather(stream(), body.length, tooLong);
    await expect(gather(stream(), body.length - 1, tooLong)).rejects.toThrow("too long");
  });
  expect(whole?.equals(body)).toBe(true);
  expect(cost).toBeLessThan(8 * body.length);
});

test("a ClientHello in small records, or in small pieces", async () => {
  const hello = await longHello();
  for (const size of [1, 4]) {
    const records = inRecords(hello, size);
    expect(await costOf(() => readClientHello(records))).toBeLessThan(records.length);
    expect(readClientHello(records)).toBe("invalid");
  }
  const records = inRecords(hello, 16_384);
  expect(readClientHello(records)).toMatchObject({ serverName: "good.test" });
  const seen: unknown[] = [];
  const passed: Buffer[] = [];
  const watched = await costOf(() => {
    const watch = new HelloWatch(({ serverName }) => seen.push(serverName));
    for (const piece of pieces(records, 1)) passed.push(watch.push(piece));
  });
  expect(seen).toEqual(["good.test"]);
  expect(Buffer.concat(passed).equals(records)).toBe(true);
  expect(watched).toBeLessThan(20 * records.length);
  const sniffed = await costOf(async () => {
    const socket = new PassThrough();
    const opening = sniff(socket, 20_000);
    for (const piece of pieces(records, 100)) {
      socket.write(piece);
      await new Promise((resolve) => {
        setImmediate(resolve);
      });
    }
    expect(await opening).toMatchObject({ kind: "tls" });
  });
  expect(sniffed).toBeLessThan(20 * records.length);
});

test("a queue of bytes gives what was appended, and leaves what it gave away alone", () => {
  const queue = new ByteQueue();
  const given: [Buffer, Buffer][] = [];
  let expected = Buffer.alloc(0);
  for (let round = 0; round < 2_000; round += 1) {
    const piece = randomBytes(round % 17);
    queue.append(piece);
    expected = Buffer.concat([expected, piece]);
    expect(queue.bytes.equals(expected)).toBe(true);
    given.push([queue.bytes, Buffer.from(expected)]);
    const taken = (round * 7) % (expected.length + 1);
    queue.drop(taken);
    expected = expected.subarray(taken);
    expect(queue).toHaveLength(expected.length);
  }
  for (const [kept, copied] of given) expect(kept.equals(copied)).toBe(true);
});
