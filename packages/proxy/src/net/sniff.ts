import type { Duplex } from "node:stream";
import { type ClientHello, readClientHello } from "../tls/client-hello.ts";
import { ByteQueue } from "./byte-queue.ts";

/** How a client opens: `silent` means that it waits for the server (SSH often, SMTP always). */
export type Opening =
  | { readonly kind: "tls"; readonly hello: ClientHello }
  | { readonly kind: "http" | "other" | "silent" | "closed" };

/** Longest method token worth waiting for; RFC 9110 registers none above 17. */
const maxMethod = 24;

/**
 * Looks at a client's first bytes without taking them: they can still be read from the socket afterwards.
 * Waits `timeout` milliseconds at most for something decisive.
 */
export async function sniff(socket: Duplex, timeout: number): Promise<Opening> {
  const held = new ByteQueue();
  return new Promise((resolve) => {
    const finish = (opening: Opening): void => {
      clearTimeout(timer);
      socket.off("readable", onReadable).off("end", onClosed).off("close", onClosed);
      if (held.length > 0 && !socket.destroyed) socket.unshift(held.bytes);
      resolve(opening);
    };
    const onReadable = (): void => {
      for (let chunk = socket.read(); chunk !== null; chunk = socket.read()) {
        held.append(chunk as Buffer);
      }
      const opening = classify(held.bytes);
      if (opening) finish(opening);
    };
    const onClosed = (): void => finish({ kind: "closed" });
    const timer = setTimeout(() => finish({ kind: held.length > 0 ? "other" : "silent" }), timeout);
    socket.on("readable", onReadable).once("end", onClosed).once("close", onClosed);
    onReadable();
  });
}

/** undefined: more bytes are needed. */
function classify(bytes: Buffer): Opening | undefined {
  if (bytes.length === 0) return undefined;
  if (bytes[0] === 22) {
    const hello = readClientHello(bytes);
    if (hello === "incomplete") return undefined;
    return hello === "invalid" ? { kind: "other" } : { kind: "tls", hello };
  }
  const text = bytes.toString("latin1", 0, maxMethod);
  if (text.startsWith("PRI * HTTP/2")) return { kind: "other" };
  if (/^[A-Z][A-Z-]* [^ ]/.test(text)) return { kind: "http" };
  const undecided = text.length < maxMethod && /^[A-Z][A-Z-]* ?$/.test(text);
  return undecided || "PRI * HTTP/2".startsWith(text) ? undefined : { kind: "other" };
}
