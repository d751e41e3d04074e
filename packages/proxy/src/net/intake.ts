import net from "node:net";
import type { Responder } from "../dns/responder.ts";
import { serveTcpConnection, serveUdp } from "../dns/serve.ts";
import type { SyntheticAddresses } from "../dns/synthetic.ts";
import { GateError } from "../errors.ts";
import type { Recorder } from "../event.ts";
import { type Endpoint, ofAddress, parseHost } from "./host.ts";
import { parseIp } from "./ip.ts";

/** The two ends of an accepted connection, as `net.Socket` names them. */
export interface ConnectionEnds {
  /** Address of the accepting end. */
  readonly localAddress: string;
  /** Port of the accepting end. */
  readonly localPort: number;
  /** Address of the connecting end. */
  readonly remoteAddress: string;
  /** Port of the connecting end. */
  readonly remotePort: number;
}

/**
 * A socket that is bound, and listening if it is TCP, at which programs of a sandbox arrive. The gate owns and closes
 * `fd`.
 *
 * @example
 * // In a network where every address is local, a connection arrives at the very address it was meant for.
 * const listener: GateListener = {
 *   protocol: "tcp", purpose: "connections", fd,
 *   destination: ({ localAddress, localPort }) => ({ address: localAddress, port: localPort }),
 * };
 */
export interface GateListener {
  /** `tcp`: a listening socket. `udp`: a bound one. */
  readonly protocol: "tcp" | "udp";
  /** What arrives. The port says nothing: only this does. */
  readonly purpose: "connections" | "dns";
  /** The socket's descriptor in this process. */
  readonly fd: number;
  /** Needed for UDP over IPv6, where Node cannot tell; default 4. */
  readonly family?: 4 | 6;
  /**
   * The address that the program meant. Asked exactly once for each accepted TCP connection, for `dns` too, before
   * anything is read from it. Where a supervisor connects on a program's behalf, it looks the connecting end up in
   * its table. undefined, or an exception: not a connection of the sandbox; it is reset and reported.
   */
  destination(connection: ConnectionEnds): { address: string; port: number } | undefined;
}

/** What the connections that arrive are given to. */
export interface IntakeOptions {
  readonly responder: Responder;
  readonly addresses: SyntheticAddresses;
  readonly recorder: Recorder;
  /** Connections at one time. */
  readonly limit: number;
  serve(socket: net.Socket, endpoint: Endpoint): void;
}

/** Everything that arrives at a gate: its listeners, and the connections that are open. */
export class Intake {
  readonly #options: IntakeOptions;
  readonly #sockets = new Set<net.Socket>();
  readonly #closers: (() => Promise<void>)[] = [];

  constructor(options: IntakeOptions) {
    this.#options = options;
  }

  /** @throws GateError `ERR_NONO_LISTENER` */
  async listen(listener: GateListener): Promise<void> {
    if (listener.protocol === "tcp") return this.#listenTcp(listener);
    if (listener.purpose !== "dns") {
      throw new GateError("ERR_NONO_LISTENER", "Only DNS is served over UDP.", {
        value: String(listener.fd),
        remedy: "Hand out UDP listeners for port 53 only.",
      });
    }
    const { fd, family = 4 } = listener;
    this.#closers.push(await serveUdp(this.#options.responder, fd, family));
  }

  /** Whether one more connection may be open; it is reset otherwise. */
  admit(socket: net.Socket): boolean {
    const { limit } = this.#options;
    if (this.#sockets.size >= limit) {
      this.#refuse(socket, new GateError("ERR_NONO_LIMIT", `More than ${limit} connections.`));
      return false;
    }
    this.#sockets.add(socket);
    socket.once("close", () => this.#sockets.delete(socket));
    return true;
  }

  /** Ends every connection and stops listening. */
  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(this.#closers.splice(0).map((close) => close()));
  }

  async #listenTcp(listener: GateListener): Promise<void> {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true });
    server.on("connection", (socket) => {
      if (this.admit(socket)) this.#accept(listener, socket);
    });
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject).listen({ fd: listener.fd }, resolve);
    });
    this.#closers.push(() => new Promise((resolve) => server.close(() => resolve())));
  }

  #accept(listener: GateListener, socket: net.Socket): void {
    const { localAddress = "", localPort = 0, remoteAddress = "", remotePort = 0 } = socket;
    let meant: ReturnType<GateListener["destination"]>;
    let cause: unknown;
    try {
      meant = listener.destination({ localAddress, localPort, remoteAddress, remotePort });
    } catch (error) {
      cause = error;
    }
    const endpoint = meant && this.#endpointOf(meant);
    if (!endpoint) {
      const details = meant ? { value: meant.address } : { cause };
      const error = new GateError(
        "ERR_NONO_HOST_DENIED",
        "The destination is unknown: the sandbox did not make this connection.",
        details,
      );
      return this.#refuse(socket, error);
    }
    if (listener.purpose === "dns") serveTcpConnection(this.#options.responder, socket);
    else this.#options.serve(socket, endpoint);
  }

  /** A synthetic address is the name that was answered with it; any other address is itself. */
  #endpointOf({ address, port }: { address: string; port: number }): Endpoint | undefined {
    const parsed = parseIp(address);
    if (!parsed) return undefined;
    const name = this.#options.addresses.nameOf(parsed);
    return { host: name === undefined ? ofAddress(parsed) : parseHost(name), port };
  }

  #refuse(socket: net.Socket, error: GateError): void {
    const object = {
      port: socket.localPort ?? 0,
      transport: "tcp" as const,
      ...(error.value === undefined ? {} : { address: error.value }),
    };
    this.#options.recorder.deny({ type: "net.connect", object }, error);
    socket.on("error", () => undefined);
    socket.resetAndDestroy();
  }
}
