import { randomBytes } from "node:crypto";
import type { Duplex } from "node:stream";

/** RFC 6455 section 5.2. */
interface FrameHeader {
  readonly final: boolean;
  readonly opcode: number;
  readonly mask: Buffer | undefined;
  readonly length: number;
  /** Bytes of the header itself. */
  readonly size: number;
}

/** Edits payloads; `flush` is called at the end of each message. */
export interface PayloadEditor {
  push(chunk: Buffer): Buffer;
  flush(): Buffer;
}

/** Bytes; RFC 6455 section 5.5. */
const maxControl = 125;
const closePolicyViolation = Buffer.from([0x88, 0x02, 0x03, 0xf0]); // 1008

/**
 * Relays one direction of a WebSocket, editing data messages on their way. Frames are cut anew: a fragment boundary
 * cannot hide a token, and what is held back at the end of a chunk is sent at the end of the message.
 */
export function relayFrames(
  from: Duplex,
  to: Duplex,
  newEditor: () => PayloadEditor,
  onRefused: (error: unknown) => void,
): void {
  const relay = new FrameRelay(newEditor);
  from.on("data", (chunk: Buffer) => {
    try {
      const frames = relay.push(chunk);
      if (frames.length > 0 && !to.write(frames)) {
        from.pause();
        to.once("drain", () => from.resume());
      }
    } catch (error) {
      onRefused(error);
      to.destroy();
      if (from.writable) from.end(closePolicyViolation);
    }
  });
  from.once("end", () => to.end());
  from.resume();
}

/** One direction of a WebSocket: takes its bytes as they come, gives out frames with edited payloads. */
export class FrameRelay {
  readonly #newEditor: () => PayloadEditor;
  readonly #editor: PayloadEditor;
  #held: Buffer = Buffer.alloc(0);
  #frame: FrameHeader | undefined;
  #taken = 0;
  /** The first frame of a message carries its type, the others 0. */
  #messageOpcode = 0;

  constructor(newEditor: () => PayloadEditor) {
    this.#newEditor = newEditor;
    this.#editor = newEditor();
  }

  push(chunk: Buffer): Buffer {
    this.#held = this.#held.length === 0 ? chunk : Buffer.concat([this.#held, chunk]);
    const output: Buffer[] = [];
    for (;;) {
      this.#frame ??= this.#readHeader();
      if (!this.#frame) break;
      if (!this.#relayPayload(this.#frame, output)) break;
    }
    return Buffer.concat(output);
  }

  #readHeader(): FrameHeader | undefined {
    const header = parseHeader(this.#held);
    if (!header) return undefined;
    if (header.opcode >= 8 && this.#held.length < header.size + header.length) return undefined;
    this.#held = this.#held.subarray(header.size);
    this.#taken = 0;
    if (header.opcode === 1 || header.opcode === 2) this.#messageOpcode = header.opcode;
    return header;
  }

  /** false: the rest of the frame has not come yet. */
  #relayPayload(frame: FrameHeader, output: Buffer[]): boolean {
    const part = Buffer.from(this.#held.subarray(0, frame.length - this.#taken));
    this.#held = this.#held.subarray(part.length);
    if (frame.mask) unmask(part, frame.mask, this.#taken);
    this.#taken += part.length;
    const complete = this.#taken === frame.length;
    const masked = frame.mask !== undefined;
    if (frame.opcode >= 8) {
      // Between the fragments of a message, and whole: a close reason or a ping says as much as a message.
      const editor = this.#newEditor();
      const edited = Buffer.concat([editor.push(part), editor.flush()]);
      if (edited.length > maxControl) throw new RangeError("a control frame that became too long");
      output.push(encodeFrame(true, frame.opcode, edited, masked));
    } else {
      const last = complete && frame.final;
      const edited = last
        ? Buffer.concat([this.#editor.push(part), this.#editor.flush()])
        : this.#editor.push(part);
      if (edited.length > 0 || last) {
        output.push(encodeFrame(last, this.#messageOpcode, edited, masked));
        this.#messageOpcode = 0;
      }
    }
    if (complete) this.#frame = undefined;
    return complete;
  }
}

function parseHeader(bytes: Buffer): FrameHeader | undefined {
  if (bytes.length < 2) return undefined;
  const [first = 0, second = 0] = bytes;
  if (first & 0x70) throw new RangeError("a frame with an extension that was not agreed on");
  const short = second & 0x7f;
  const extra = short === 126 ? 2 : short === 127 ? 8 : 0;
  const masked = (second & 0x80) !== 0;
  const size = 2 + extra + (masked ? 4 : 0);
  if (bytes.length < size) return undefined;
  const length =
    extra === 0 ? short : extra === 2 ? bytes.readUInt16BE(2) : Number(bytes.readBigUInt64BE(2));
  if (!Number.isSafeInteger(length)) throw new RangeError("a frame longer than any message");
  const opcode = first & 0x0f;
  if (opcode >= 8 && length > maxControl) throw new RangeError("a control frame that is too long");
  const mask = masked ? Buffer.from(bytes.subarray(size - 4, size)) : undefined;
  return { final: (first & 0x80) !== 0, opcode, mask, length, size };
}

function encodeFrame(final: boolean, opcode: number, payload: Buffer, masked: boolean): Buffer {
  const { length } = payload;
  const extra = length < 126 ? 0 : length < 0x1_0000 ? 2 : 8;
  const header = Buffer.alloc(2 + extra);
  header[0] = (final ? 0x80 : 0) | opcode;
  header[1] = (masked ? 0x80 : 0) | (extra === 0 ? length : extra === 2 ? 126 : 127);
  if (extra === 2) header.writeUInt16BE(length, 2);
  if (extra === 8) header.writeBigUInt64BE(BigInt(length), 2);
  if (!masked) return Buffer.concat([header, payload]);
  const mask = randomBytes(4);
  unmask(payload, mask, 0);
  return Buffer.concat([header, mask, payload]);
}

function unmask(payload: Buffer, mask: Buffer, offset: number): void {
  for (let i = 0; i < payload.length; i += 1) {
    payload[i] = (payload[i] as number) ^ (mask[(offset + i) & 3] as number);
  }
}
