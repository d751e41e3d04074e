import http2 from "node:http2";
import type { Connect } from "./detailed-dispatch.ts";

/** Streams that a session may have, whatever more the server allows (RFC 9113 section 6.5.2 recommends no fewer). */
const maxStreams = 100;
/** Milliseconds after which a session without streams is closed. */
const idle = 30_000;
/** Servers without HTTP/2 that are remembered. */
const maxRemembered = 512;

/**
 * Bytes that may be on their way in one stream, and in all of a session together: what is held for a reader that does
 * not read. The 64 KiB that RFC 9113 begins with stall every few frames on one machine, and over an ocean are half a
 * MiB a second.
 */
export const windows: { readonly stream: number; readonly session: number } = {
  stream: 1024 * 1024,
  session: 16 * 1024 * 1024,
};

/** One HTTP/2 connection to a server. */
export interface UpstreamSession {
  readonly session: http2.ClientHttp2Session;
  /** The server's name, as `:authority` has it. */
  readonly authority: string;
  /** Streams that are open, or about to be: who has taken a session opens one, and counts it off at its end. */
  active: number;
}

/** The HTTP/2 connections of a gate to its servers, by origin. */
export class Http2Sessions {
  readonly #connect: Connect;
  readonly #headerBytes: number;
  readonly #open = new Map<string, UpstreamSession[]>();
  readonly #opening = new Map<string, Promise<void>>();
  readonly #http1Only = new Set<string>();
  #closed = false;

  /** `connect` offers HTTP/2 and HTTP/1.1. */
  constructor(connect: Connect, headerBytes: number) {
    this.#connect = connect;
    this.#headerBytes = headerBytes;
  }

  /** Takes a place in a session, if there is one; `http1`: the server does not speak HTTP/2. */
  take(origin: string): UpstreamSession | "http1" | undefined {
    if (this.#http1Only.has(origin)) return "http1";
    const free = this.#open.get(origin)?.find(({ session, active }) => {
      const { maxConcurrentStreams = maxStreams } = session.remoteSettings;
      // One that is unused serves the server that allows no stream yet: nghttp2 waits until it does.
      return (
        !session.closed &&
        !session.destroyed &&
        (active === 0 || active < Math.min(maxConcurrentStreams, maxStreams))
      );
    });
    if (free) free.active += 1;
    return free;
  }

  /** The same, after a connection has been made. Throws as `connect` does. */
  async obtain(origin: string): Promise<UpstreamSession | "http1"> {
    for (;;) {
      const taken = this.take(origin);
      if (taken !== undefined) return taken;
      // oxlint-disable-next-line no-await-in-loop -- others who waited may have taken all its streams
      await (this.#opening.get(origin) ?? this.#start(origin));
    }
  }

  close(): void {
    this.#closed = true;
    for (const session of [...this.#open.values()].flat()) session.session.destroy();
  }

  #start(origin: string): Promise<void> {
    const opening = this.#dial(origin).finally(() => this.#opening.delete(origin));
    this.#opening.set(origin, opening);
    return opening;
  }

  async #dial(origin: string): Promise<void> {
    const { hostname, protocol, port, host: authority } = new URL(origin);
    const socket = await this.#connect(hostname, protocol, port);
    if (this.#closed || !("alpnProtocol" in socket) || socket.alpnProtocol !== "h2") {
      socket.destroy();
      this.#remember(origin);
      return;
    }
    const session = http2.connect(origin, {
      createConnection: () => socket,
      maxSessionMemory: 64,
      settings: {
        enablePush: false,
        initialWindowSize: windows.stream,
        maxHeaderListSize: this.#headerBytes,
      },
    });
    const opened: UpstreamSession = { session, authority, active: 0 };
    const all = this.#open.get(origin) ?? [];
    this.#open.set(origin, [...all, opened]);
    session.on("error", () => undefined); // its streams tell
    session.once("close", () => {
      const left = this.#open.get(origin)?.filter((other) => other !== opened) ?? [];
      if (left.length > 0) this.#open.set(origin, left);
      else this.#open.delete(origin);
    });
    session.setLocalWindowSize(windows.session);
    session.setTimeout(idle);
    session.on("timeout", () => {
      if (opened.active === 0) session.close();
    });
  }

  #remember(origin: string): void {
    this.#http1Only.add(origin);
    const [oldest] = this.#http1Only;
    if (this.#http1Only.size > maxRemembered && oldest !== undefined)
      this.#http1Only.delete(oldest);
  }
}
