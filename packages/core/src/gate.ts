import type { NativeListener, NativeSandbox } from "./binding.gen.ts";

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
 * A socket at which a sandbox's connections or DNS queries arrive, already bound (and listening, if
 * it is a TCP socket). Whoever serves it owns `fd` and closes it. `@nono/proxy` takes these with
 * `gate.serve(listeners)`; any other server can, if it asks `destination` about each connection.
 *
 * In the namespaces tier the sockets were born inside the sandbox's private network. In the flat
 * tier they are two of the host's loopback, one for connections to any allowed port and one for DNS
 * over TCP; processes of the host can connect to them, but `destination` does not know those.
 *
 * @example
 * ```ts
 * for (const listener of sandbox.takeListeners()) {
 *   if (listener.protocol === "tcp") server.listen({ fd: listener.fd });
 * }
 * ```
 */
export interface GateListener {
  /** `"tcp"`: a listening socket. `"udp"`: a bound datagram socket. */
  readonly protocol: "tcp" | "udp";
  /** What arrives: connections that programs made, or DNS queries. */
  readonly purpose: "connections" | "dns";
  /** The socket's descriptor in this process. */
  readonly fd: number;
  /** Whether it is bound in IPv4 or in IPv6. */
  readonly family: 4 | 6;
  /**
   * The port it is bound to. Namespaces tier: on every address, and the one that programs connect
   * to. Flat tier: any port of the loopback.
   */
  readonly port: number;
  /**
   * Where a program meant to connect to. Ask once for each accepted connection: in the flat tier the
   * answer is forgotten then. Undefined: the connection is not the sandbox's; refuse it.
   */
  destination(connection: ConnectionEnds): { address: string; port: number } | undefined;
}

/**
 * In the private network every address is local, so a connection arrives at the very address that
 * the program asked for. In the flat tier the supervisor made it, and knows.
 */
export function gateListener(listener: NativeListener, sandbox: NativeSandbox): GateListener {
  const { protocol, purpose, fd, family, port } = listener;
  return {
    protocol,
    purpose,
    fd,
    family,
    port,
    destination: ({ localAddress, localPort, remoteAddress, remotePort }) => {
      const local = { address: localAddress, port: localPort };
      if (sandbox.tier === "namespaces") return local;
      const remote = { address: remoteAddress, port: remotePort };
      return sandbox.destination(local, remote) ?? undefined;
    },
  };
}
