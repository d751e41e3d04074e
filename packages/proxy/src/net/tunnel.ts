import type net from "node:net";
import type { Duplex } from "node:stream";
import { GateError } from "../errors.ts";
import { contentType } from "../tls/client-hello.ts";
import type { HelloWatch } from "../tls/hello-watch.ts";
import type { OnRead } from "./dial.ts";

/**
 * Bytes that one read of a tunnel may give: at first, at last, and at last beyond the {@link maxLarge} tunnels that may
 * have the largest. Large reads make bulk transfer cheap, above all since each wakes the client. Had every connection the
 * largest from its start, V8, which counts memory outside its heap, would mark the whole heap every few dozen
 * connections.
 */
const readSize = { first: 16 * 1024, common: 256 * 1024, large: 1024 * 1024 } as const;
const maxLarge = 64;
/** A read that fills the buffer makes the next one this much larger, once so many buffers have come. */
const growth = { factor: 4, after: 8 } as const;

let large = 0;

/**
 * The upstream half of an opaque tunnel: reads the upstream socket straight into one buffer and gives it to the
 * client, one write at a time. Give {@link Downlink.onread} to the dialer, then {@link Downlink.attach}.
 */
export class Downlink {
  #upstream: net.Socket | undefined;
  readonly #client: net.Socket;
  #buffer = Buffer.allocUnsafe(readSize.first);
  #early: Buffer | undefined;

  constructor(client: net.Socket) {
    this.#client = client;
  }

  readonly onread: OnRead = {
    buffer: () => this.#buffer, // asked again after each read
    callback: (length, buffer) => {
      const bytes = Buffer.from(buffer.buffer, buffer.byteOffset, length);
      if (this.#upstream) {
        if (length === this.#buffer.length) this.#grow(this.#upstream);
        return this.#deliver(bytes);
      }
      // A server may speak before the client has been told that the tunnel stands.
      this.#early = Buffer.from(bytes);
      return false;
    },
  };

  /** Starts delivery; to be called when the client may receive bytes. */
  attach(upstream: net.Socket): void {
    this.#upstream = upstream;
    if (this.#early && this.#deliver(this.#early)) upstream.resume();
  }

  #grow(upstream: net.Socket): void {
    const { length } = this.#buffer;
    if (length === readSize.large || upstream.bytesRead < growth.after * length) return;
    if (length === readSize.common) {
      if (large >= maxLarge) return;
      large += 1;
      upstream.once("close", () => (large -= 1));
    }
    this.#buffer = Buffer.allocUnsafe(growth.factor * length);
  }

  /** Whether the buffer is free again at once: the kernel has taken all. Reading goes on by itself when it is later. */
  #deliver(bytes: Buffer): boolean {
    let waits = false;
    this.#client.write(bytes, (error) => {
      if (waits && !error) this.#upstream?.resume();
    });
    waits = this.#client.writableLength > 0;
    return !waits;
  }
}

/**
 * Joins two sockets until both directions have ended; an error on either side ends both. `tlsOnly`: the client must
 * begin with a TLS handshake.
 */
export function joinTunnel(
  client: Duplex,
  upstream: net.Socket,
  watch: HelloWatch,
  onRefused: (error: unknown) => void,
  tlsOnly: boolean,
): void {
  client.on("error", () => upstream.destroy());
  client.once("close", () => upstream.destroy());
  upstream.once("close", () => client.destroy());
  upstream.once("end", () => client.end());
  // The last bytes of the client may be waiting in `watch`; an end there is an end of the handshake.
  client.once("end", () => upstream.end());

  let first = true;
  const onData = (chunk: Buffer): void => {
    let passed: Buffer;
    try {
      if (first && tlsOnly && chunk[0] !== contentType.handshake) throw notTls();
      first = false;
      passed = watch.push(chunk);
    } catch (error) {
      client.off("data", onData);
      upstream.destroy();
      onRefused(error);
      return;
    }
    if (passed.length > 0 && !upstream.write(passed)) {
      client.pause();
      upstream.once("drain", () => client.resume());
    }
    if (watch.done) {
      client.off("data", onData);
      client.pipe(upstream, { end: false });
    }
  };
  client.on("data", onData);
}

function notTls(): GateError {
  return new GateError("ERR_NONO_PROTOCOL", "The client does not speak TLS on port 443.");
}
