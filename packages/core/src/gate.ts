import type { NativeListener } from "./binding.gen.ts";

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
 * A socket that was born inside a sandbox's private network, already bound (and listening, if it is
 * a TCP socket). Whoever serves it owns `fd` and closes it. `@nono/proxy` takes these with
 * `gate.serve(listeners)`; any other server can.
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
  /** The port it is bound to, on every address of that family. */
  readonly port: number;
  /** Where a program meant to connect to; undefined when that is unknown: refuse it then. */
  destination(connection: ConnectionEnds): { address: string; port: number } | undefined;
}

/**
 * In the private network every address is local, so a connection arrives at the very address that
 * the program asked for.
 */
export function gateListener(listener: NativeListener): GateListener {
  const { protocol, purpose, fd, family, port } = listener;
  return {
    protocol,
    purpose,
    fd,
    family,
    port,
    destination: ({ localAddress, localPort }) => ({ address: localAddress, port: localPort }),
  };
}
