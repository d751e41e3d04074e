import { Buffer } from "node:buffer";
import { randomFillSync } from "node:crypto";

const pool = Buffer.alloc(10 * 256);
let used = pool.length;

/** A UUID version 7 (RFC 9562): 48 bits of `time` in milliseconds, 74 random bits. */
export function uuidv7(time: number = Date.now()): string {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  used += 10;
  pool[used - 10] = (pool[used - 10]! & 0x0f) | 0x70;
  pool[used - 8] = (pool[used - 8]! & 0x3f) | 0x80;
  const random = pool.toString("hex", used - 10, used);
  const stamp = time.toString(16).padStart(12, "0");
  return `${stamp.slice(0, 8)}-${stamp.slice(8)}-${random.slice(0, 4)}-${random.slice(4, 8)}-${random.slice(8)}`;
}
