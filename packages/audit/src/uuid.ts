import { Buffer } from "node:buffer";
import { randomFillSync } from "node:crypto";

const size = 10;
const pool = Buffer.alloc(size * 256);
let hex = "";
let used = hex.length;

/** Random parts of 256 identifiers at a time, with version and variant in place. */
function refill(): void {
  randomFillSync(pool);
  for (let at = 0; at < pool.length; at += size) {
    pool.writeUInt8((pool.readUInt8(at) & 0x0f) | 0x70, at);
    pool.writeUInt8((pool.readUInt8(at + 2) & 0x3f) | 0x80, at + 2);
  }
  hex = pool.toString("hex");
  used = 0;
}

/** A UUID version 7 (RFC 9562): 48 bits of `time` in milliseconds, 74 random bits. */
export function uuidv7(time: number = Date.now()): string {
  if (used === hex.length) refill();
  const at = used;
  used += 2 * size;
  const stamp = time.toString(16).padStart(12, "0");
  return `${stamp.slice(0, 8)}-${stamp.slice(8)}-${hex.slice(at, at + 4)}-${hex.slice(at + 4, at + 8)}-${hex.slice(at + 8, used)}`;
}
