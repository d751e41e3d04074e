import dgram from "node:dgram";
import net from "node:net";
import { GateError } from "../errors.ts";
import { ByteQueue } from "../net/byte-queue.ts";
import type { Responder } from "./responder.ts";

/** Milliseconds a DNS-over-TCP connection may stay silent (RFC 7766 leaves it to the server). */
const idleTimeout = 10_000;

/** Serves DNS on a bound UDP socket; resolves to the function that closes it. */
export async function serveUdp(
  responder: Responder,
  fd: number,
  family: 4 | 6,
): Promise<() => Promise<void>> {
  const socket = dgram.createSocket(family === 6 ? "udp6" : "udp4");
  socket.on("message", (message, client) => {
    const answer = responder.respond(message);
    // A send can only fail for this client; its resolver retries.
    if (answer) socket.send(answer, client.port, client.address, () => undefined);
  });
  await new Promise<void>((resolve, reject) => {
    socket.once("error", reject);
    socket.bind({ fd }, resolve);
  });
  if (socket.address().family !== (family === 6 ? "IPv6" : "IPv4")) {
    socket.close();
    throw new GateError(
      "ERR_NONO_LISTENER",
      `The UDP listener on fd ${fd} is not of family IPv${family}.`,
      { value: String(fd), remedy: "Set `family: 6` on IPv6 UDP listeners: Node cannot tell." },
    );
  }
  return () => new Promise((resolve) => socket.close(() => resolve()));
}

/** Answers DNS over one TCP connection: messages with a two-byte length before each. */
export function serveTcpConnection(responder: Responder, socket: net.Socket): void {
  const held = new ByteQueue();
  socket.setTimeout(idleTimeout, () => socket.destroy());
  socket.on("error", () => socket.destroy());
  socket.on("data", (chunk: Buffer) => {
    held.append(chunk);
    while (held.length >= 2) {
      const { bytes } = held;
      const end = 2 + bytes.readUInt16BE(0);
      if (bytes.length < end) return;
      const answer = responder.respond(bytes.subarray(2, end));
      held.drop(end);
      if (!answer) {
        socket.destroy();
        return;
      }
      const length = Buffer.alloc(2);
      length.writeUInt16BE(answer.length);
      if (!socket.write(Buffer.concat([length, answer]))) {
        socket.pause();
        socket.once("drain", () => socket.resume());
      }
    }
  });
}
