import { lookup } from "node:dns/promises";
import net from "node:net";
import { GateError } from "../errors.ts";
import type { GateEvent, Recorder } from "../event.ts";
import type { AllowList } from "../policy/allow-list.ts";
import { type Endpoint, formatEndpoint } from "./host.ts";
import { type IpAddress, formatIp, parseIp } from "./ip.ts";
import type { UpstreamProxy } from "./upstream-proxy.ts";

/**
 * Turns an allowed name into addresses. Only the gate uses it, never the sandbox.
 *
 * @example
 * const internal: Resolver = {
 *   resolve: async (name) => (name === "registry.corp.example" ? ["10.1.2.3"] : systemResolver.resolve(name)),
 * };
 * // A private address needs an entry of its own beside the name.
 * createGate({ allow: ["registry.corp.example", "10.1.2.3"], resolver: internal });
 */
export interface Resolver {
  /** All addresses of `name` in order of preference, as text. */
  resolve(name: string): Promise<readonly string[]>;
}

/** The machine's own resolver, /etc/hosts included (getaddrinfo(3)). */
export const systemResolver: Resolver = {
  resolve: async (name) => (await lookup(name, { all: true })).map(({ address }) => address),
};

/** Reads a socket in large pieces without a stream between (see `net.connect`'s `onread`). */
export type OnRead = net.OnReadOpts;

/** Opens the gate's own connections: resolves once, judges the addresses, dials exactly those. */
export class Dialer {
  readonly #allowList: AllowList;
  readonly #resolver: Resolver;
  readonly #recorder: Recorder;
  readonly #proxy: UpstreamProxy | undefined;
  readonly #timeout: number;
  readonly #limit: number;
  #open = 0;

  constructor(options: {
    allowList: AllowList;
    resolver: Resolver;
    recorder: Recorder;
    proxy: UpstreamProxy | undefined;
    timeout: number;
    /** Connections at one time. */
    limit: number;
  }) {
    this.#allowList = options.allowList;
    this.#resolver = options.resolver;
    this.#recorder = options.recorder;
    this.#proxy = options.proxy;
    this.#timeout = options.timeout;
    this.#limit = options.limit;
  }

  /** Whether `onread` is honoured: not on a connection through a proxy, which begins with the proxy's own answer. */
  get readsInto(): boolean {
    return this.#proxy === undefined;
  }

  /**
   * Connects to an endpoint that the allow-list has accepted.
   *
   * @throws GateError `ERR_NONO_ADDRESS_DENIED`, `ERR_NONO_UPSTREAM`, `ERR_NONO_UPSTREAM_TIMEOUT`, `ERR_NONO_LIMIT` or
   *   `ERR_NONO_NOT_RECORDED`
   */
  async connect(endpoint: Endpoint, sni?: string, onread?: OnRead): Promise<net.Socket> {
    if (this.#open >= this.#limit) {
      const message = `More than ${this.#limit} connections to servers.`;
      throw new GateError("ERR_NONO_LIMIT", message, { remedy: "Wait for answers." });
    }
    this.#open += 1;
    const release = (): void => void (this.#open -= 1);
    try {
      const addresses = await this.#addressesFor(endpoint);
      const socket = await this.#connectTo(endpoint, addresses, sni, onread);
      return socket.once("close", release);
    } catch (error) {
      release();
      throw error;
    }
  }

  /** Connects where the gate's own configuration says, which no allow-list judges. Throws as {@link connect} does. */
  async connectConfigured(endpoint: Endpoint): Promise<net.Socket> {
    const { host } = endpoint;
    const unresolved = this.#proxy && !host.address;
    const found = host.address ? [host.address] : unresolved ? [] : await this.#resolve(host.text);
    return this.#connectTo(endpoint, found.map(formatIp));
  }

  async #connectTo(
    endpoint: Endpoint,
    addresses: readonly string[],
    sni?: string,
    onread?: OnRead,
  ): Promise<net.Socket> {
    const event: GateEvent = {
      type: "net.connect",
      phase: "intent",
      decision: "allow",
      object: {
        host: endpoint.host.text,
        port: endpoint.port,
        transport: "tcp",
        ...(addresses[0] === undefined ? {} : { address: addresses[0] }),
        ...(sni === undefined ? {} : { sni }),
      },
    };
    const ref = await this.#recorder.intent(event);
    const started = process.hrtime.bigint();
    const finish = (decision: "allow" | "error", outcome: GateEvent["outcome"]): void => {
      const durationUs = Number((process.hrtime.bigint() - started) / 1_000n);
      const result: GateEvent = { ...event, phase: "result", decision };
      if (ref !== undefined) result.ref = ref;
      this.#recorder.note({ ...result, outcome: { ...outcome, durationUs } });
    };
    try {
      const socket = this.#proxy
        ? await this.#proxy.connect(endpoint, this.#timeout)
        : await this.#dial(endpoint, addresses, onread);
      socket.once("close", () => {
        finish("allow", { bytes: socket.bytesRead + socket.bytesWritten });
      });
      return socket;
    } catch (error) {
      const errno = (error as NodeJS.ErrnoException).code;
      finish("error", errno === undefined ? {} : { errno });
      throw error instanceof GateError ? error : unreachable(endpoint, error);
    }
  }

  /** Empty when a name is left to the upstream proxy, which resolves it on its own side. */
  async #addressesFor({ host, port }: Endpoint): Promise<string[]> {
    if (this.#proxy && !host.address) return [];
    const found = host.address ? [host.address] : await this.#resolve(host.text);
    const refusals: unknown[] = [];
    const accepted = found.filter((address) => {
      try {
        this.#allowList.checkAddress(host.text, address, port);
        return true;
      } catch (error) {
        refusals.push(error);
        return false;
      }
    });
    if (accepted.length === 0) throw refusals[0];
    return accepted.map(formatIp);
  }

  async #resolve(name: string): Promise<IpAddress[]> {
    let texts: readonly string[];
    try {
      texts = await this.#resolver.resolve(name);
    } catch (error) {
      throw new GateError("ERR_NONO_UPSTREAM", `${name} could not be resolved.`, {
        value: name,
        cause: error,
        remedy: "Check that the name exists and that this machine's resolver works.",
      });
    }
    const addresses = texts.map(parseIp).filter((address) => address !== undefined);
    if (addresses.length === 0) {
      throw new GateError("ERR_NONO_UPSTREAM", `${name} has no address.`, { value: name });
    }
    return addresses;
  }

  #dial(endpoint: Endpoint, addresses: readonly string[], onread?: OnRead): Promise<net.Socket> {
    const candidates = addresses.map((address) => ({ address, family: net.isIP(address) }));
    const socket = net.connect({
      host: addresses.length === 1 ? (addresses[0] ?? "") : endpoint.host.text,
      port: endpoint.port,
      // The judged addresses, tried in turn (RFC 8305); nothing is looked up a second time.
      autoSelectFamily: addresses.length > 1,
      lookup: (_name, _options, callback) => callback(null, candidates),
      allowHalfOpen: true,
      noDelay: true,
      keepAlive: true,
      ...(onread ? { onread } : {}),
    });
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        socket.destroy();
        reject(timedOut(endpoint, this.#timeout));
      }, this.#timeout);
      socket.once("connect", () => {
        clearTimeout(timer);
        socket.off("error", reject);
        // From here on each user of the socket listens to "close"; an unheard "error" would end the process.
        socket.on("error", () => undefined);
        resolve(socket);
      });
      socket.once("error", (error) => {
        clearTimeout(timer);
        reject(error);
      });
    });
  }
}

function unreachable(endpoint: Endpoint, cause: unknown): GateError {
  const where = formatEndpoint(endpoint);
  const why = (cause as NodeJS.ErrnoException).code ?? "connection failed";
  return new GateError("ERR_NONO_UPSTREAM", `${where} could not be reached: ${why}.`, {
    value: where,
    cause,
    remedy: "The policy allows it; check that the server is up.",
  });
}

function timedOut(endpoint: Endpoint, timeout: number): GateError {
  const where = formatEndpoint(endpoint);
  return new GateError(
    "ERR_NONO_UPSTREAM_TIMEOUT",
    `${where} did not accept a connection within ${timeout} ms.`,
    { value: where },
  );
}
