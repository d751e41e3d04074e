import { createHash, randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { setTimeout as delay } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { releaseReads } from "../src/http/spent.ts";
import { h2Session } from "./support/client.ts";
import { closeAll, openGate, token } from "./support/gate.ts";
import { http2Upstream } from "./support/upstream.ts";

// The memory of what a session has read is given back as soon as it is copied, and only then.

afterAll(closeAll);

/** Slices of one read of so many bytes, as `[start, end]`. */
function read(size: number, ...slices: [number, number][]): Buffer[] {
  const memory = new ArrayBuffer(size);
  return slices.map(([start, end]) => Buffer.from(memory, start, end - start));
}

const released = (chunks: Buffer[]): boolean[] => {
  releaseReads(chunks);
  return chunks.map(({ buffer }) => buffer.byteLength === 0);
};

test.each<[string, Buffer[]]>([
  ["the middle of a frame", read(50, [0, 50])],
  ["a frame with its header", read(50, [9, 50])],
  ["a part of a header, and two frames", read(50, [4, 20], [29, 50])],
  ["two reads", [...read(50, [0, 20], [29, 50]), ...read(30, [9, 30])]],
])("a read is given back that is all %s", (_what, chunks) => {
  expect(released(chunks)).toEqual(chunks.map(() => true));
});

test.each<[string, Buffer[]]>([
  ["another frame before", read(50, [10, 50])],
  ["another frame between", read(50, [0, 20], [30, 50])],
  ["an overlap", read(50, [0, 20], [28, 50])],
  ["a byte behind, which is still to be read", read(50, [0, 49])],
  ["its slices in another order", read(50, [29, 50], [0, 20])],
  ["its first slice elsewhere", read(50, [29, 50])],
])("a read is left alone that has %s", (_what, chunks) => {
  expect(released(chunks)).toEqual(chunks.map(() => false));
});

test("streams that are sent both ways at once, read in fits and starts, arrive as they were sent", async () => {
  const port = await http2Upstream((stream) => {
    stream.on("error", () => undefined);
    stream.respond({ ":status": 200 });
    stream.pipe(stream);
  });
  const gate = await openGate(port, { credentials: [token(port)] });
  const session = await h2Session(gate, port);
  const echoed = Array.from({ length: 6 }, async (_, i) => {
    const sent = randomBytes(3_000_000 + i);
    const stream = session.request({ ":method": "POST", ":path": `/${i}` });
    // From many frames in a record to many records, all beside each other.
    const size = [1_500_000, 65_537, 16_384, 16_375, 8_192, 1_009][i] ?? 1;
    const pieces = function* (): Generator<Buffer> {
      for (let at = 0; at < sent.length; at += size) yield sent.subarray(at, at + size);
    };
    Readable.from(pieces()).pipe(stream);
    const hash = createHash("sha256");
    let rests = 0;
    for await (const chunk of stream) {
      hash.update(chunk as Buffer);
      if (rests++ % (20 + 7 * i) === 0) await delay(3);
    }
    return hash.digest("hex") === createHash("sha256").update(sent).digest("hex");
  });
  expect(await Promise.all(echoed)).toEqual(echoed.map(() => true));
  session.destroy();
}, 60_000);
