import { randomBytes } from "node:crypto";
import type http from "node:http";
import net from "node:net";
import { Agent, request as fetchRequest } from "undici";
import { CredentialBroker } from "./credentials/broker.ts";
import type { CredentialConfig } from "./credentials/credential.ts";
import { Responder } from "./dns/responder.ts";
import { serveTcpConnection, serveUdp } from "./dns/serve.ts";
import { SyntheticAddresses } from "./dns/synthetic.ts";
import {
  type TrustFiles,
  proxyEnvironment,
  removeTrustFiles,
  trustEnvironment,
  writeTrustFiles,
} from "./environment.ts";
import { GateError } from "./errors.ts";
import { type EventSink, type GateEvent, Recorder, type Violation } from "./event.ts";
import { HttpEngine } from "./http/engine.ts";
import { type HttpLimits, UpstreamPool } from "./http/upstream-pool.ts";
import { type ConnectionContext, checkEndpoint, serveConnection } from "./net/connection.ts";
import { Dialer, type Resolver, systemResolver } from "./net/dial.ts";
import { createExplicitProxy } from "./net/explicit-proxy.ts";
import { type Endpoint, ofAddress, parseHost } from "./net/host.ts";
import { parseIp } from "./net/ip.ts";
import { UpstreamProxy } from "./net/upstream-proxy.ts";
import { AllowList, type Verdict } from "./policy/allow-list.ts";
import { type HttpRule, HttpRules } from "./policy/http-rules.ts";
import { CertificateAuthority } from "./tls/authority.ts";
import { type UpstreamTlsOptions, UpstreamTrust } from "./tls/upstream-trust.ts";

/** A socket born inside the sandbox's network, bound and listening. The gate owns and closes `fd`. */
export interface GateListener {
  readonly protocol: "tcp" | "udp";
  readonly purpose: "connections" | "dns";
  readonly fd: number;
  /** Needed for UDP over IPv6, where Node cannot tell; default 4. */
  readonly family?: 4 | 6;
  /** The address the client meant, from the accepted connection's two ends; undefined: unknown, refused. */
  destination(connection: {
    localAddress: string;
    localPort: number;
    remoteAddress: string;
    remotePort: number;
  }): { address: string; port: number } | undefined;
}

/** Bounds of one gate. */
export interface GateLimits extends HttpLimits {
  /** Connections from the sandbox at one time. Default: 4096. */
  readonly connections: number;
  /** Milliseconds to connect to a server. Default: 10 000. */
  readonly connectTimeout: number;
}

/** What a gate lets through, and what it gives away. */
export interface GateOptions {
  /**
   * `host`, `host:port`, `*.suffix[:port]`, addresses and CIDR ranges. Without a port: 443 and 80. Empty allows
   * nothing.
   */
  readonly allow: readonly string[];
  /** The same forms; wins over `allow`, and without a port means all. */
  readonly deny?: readonly string[];
  readonly credentials?: readonly CredentialConfig[];
  /** Methods and paths, per host. */
  readonly rules?: readonly HttpRule[];
  /** How the gate finds addresses. Default: the machine's resolver. */
  readonly resolver?: Resolver;
  /** An HTTP proxy through which the gate itself must go: `http://[user:password@]host:port`. */
  readonly upstreamProxy?: string;
  /** Trust in servers. */
  readonly tls?: UpstreamTlsOptions;
  /**
   * `needed` (default): TLS is terminated only for hosts with a credential or a rule. `all`: for every host, so that
   * every request is on record and a phantom sent anywhere is noticed.
   */
  readonly intercept?: "needed" | "all";
  /** Where events are stored; an intent it does not take does not happen. */
  readonly sink?: EventSink;
  /** Sees every event, in order, before the sink. */
  readonly onEvent?: (event: GateEvent) => void;
  readonly limits?: Partial<GateLimits>;
}

/** A running gate: one for each sandbox. */
export interface Gate extends AsyncDisposable {
  /** The gate's authority, PEM. Its key never leaves this process. */
  readonly caCertificate: string;
  /** Files for clients, made at first use and removed by `close()`. */
  readonly trustFiles: TrustFiles;
  /** The latest refusals, at most 1000. */
  readonly violations: readonly Violation[];
  /** What the allow-list says of a destination, by the code that decides it. */
  explain(host: string, port: number): Verdict;
  /** Serves sockets of a sandbox's network. @throws GateError `ERR_NONO_LISTENER` */
  serve(listeners: readonly GateListener[]): Promise<void>;
  /** Listens as an explicit proxy. Default: a free port of 127.0.0.1. Only clients with the token are served. */
  listen(options?: { host?: string; port?: number }): Promise<{ host: string; port: number }>;
  /** What the sandbox's environment needs: phantoms, certificate files, and the proxy after `listen()`. */
  env(): Record<string, string>;
  /** Ends every connection, zeroes the credentials and removes the files. */
  close(): Promise<void>;
}

const defaultLimits: GateLimits = {
  connections: 4096,
  connectTimeout: 10_000,
  headerBytes: 65_536,
  responseTimeout: 300_000,
};

/**
 * Makes a gate. Everything is checked here; nothing listens yet.
 *
 * @throws GateError `ERR_NONO_INVALID_OPTION`
 * @example
 * await using gate = createGate({ allow: ["api.github.com"] });
 * const { port } = await gate.listen();
 * spawn("curl", ["https://api.github.com/zen"], { env: { PATH: "/usr/bin", ...gate.env() } });
 */
export function createGate(options: GateOptions): Gate {
  return new RunningGate(options);
}

class RunningGate implements Gate {
  readonly #recorder: Recorder;
  readonly #allowList: AllowList;
  readonly #addresses = new SyntheticAddresses();
  readonly #responder: Responder;
  readonly #authority = new CertificateAuthority();
  readonly #trust: UpstreamTrust;
  readonly #broker: CredentialBroker;
  readonly #pool: UpstreamPool;
  readonly #engine: HttpEngine;
  readonly #context: ConnectionContext;
  readonly #limits: GateLimits;
  readonly #token = randomBytes(24).toString("base64url");
  readonly #closers: (() => Promise<void>)[] = [];
  readonly #sockets = new Set<net.Socket>();
  #proxy: http.Server | undefined;
  #proxyPort: number | undefined;
  #trustFiles: TrustFiles | undefined;

  constructor(options: GateOptions) {
    const { credentials = [], rules = [], intercept = "needed" } = options;
    this.#limits = { ...defaultLimits, ...options.limits };
    this.#recorder = new Recorder(options.sink, options.onEvent);
    this.#allowList = new AllowList(options.allow, options.deny);
    this.#responder = new Responder(this.#allowList, this.#addresses, this.#recorder);
    this.#trust = new UpstreamTrust(options.tls ?? {});
    const dialer = new Dialer({
      allowList: this.#allowList,
      resolver: options.resolver ?? systemResolver,
      recorder: this.#recorder,
      proxy:
        options.upstreamProxy === undefined
          ? undefined
          : new UpstreamProxy(options.upstreamProxy, this.#trust.roots),
      timeout: this.#limits.connectTimeout,
    });
    this.#broker = new CredentialBroker(credentials, this.#recorder, (url, form) =>
      this.#requestToken(url, form),
    );
    const httpRules = new HttpRules([...rules, ...credentials.flatMap(rulesOf)]);
    this.#pool = new UpstreamPool(dialer, this.#trust, this.#limits);
    const shared = { recorder: this.#recorder, rules: httpRules, broker: this.#broker };
    this.#engine = new HttpEngine(
      { ...shared, pool: this.#pool, dialer, trust: this.#trust },
      this.#authority,
      this.#limits,
    );
    this.#context = {
      allowList: this.#allowList,
      recorder: this.#recorder,
      dialer,
      engine: this.#engine,
      inspects: (endpoint) =>
        intercept === "all" || this.#broker.covers({ endpoint }) || httpRules.covers(endpoint),
    };
  }

  get caCertificate(): string {
    return this.#authority.certificate;
  }

  get trustFiles(): TrustFiles {
    this.#trustFiles ??= writeTrustFiles(this.caCertificate, this.#trust.roots);
    return this.#trustFiles;
  }

  get violations(): readonly Violation[] {
    return this.#recorder.violations;
  }

  explain(host: string, port: number): Verdict {
    return this.#allowList.decide({ host: parseHost(host), port });
  }

  async serve(listeners: readonly GateListener[]): Promise<void> {
    for (const listener of listeners) {
      if (listener.protocol === "tcp") await this.#serveTcp(listener);
      else if (listener.purpose === "dns") {
        this.#closers.push(await serveUdp(this.#responder, listener.fd, listener.family ?? 4));
      } else {
        throw new GateError("ERR_NONO_LISTENER", "Only DNS is served over UDP.", {
          value: String(listener.fd),
        });
      }
    }
  }

  async listen(
    options: { host?: string; port?: number } = {},
  ): Promise<{ host: string; port: number }> {
    const { host = "127.0.0.1", port = 0 } = options;
    const server = createExplicitProxy(
      this.#token,
      this.#recorder,
      {
        check: (endpoint) => checkEndpoint(this.#allowList, endpoint),
        tunnel: (socket, endpoint, accept) =>
          serveConnection(this.#context, socket, endpoint, accept),
        request: (request, response, destination) =>
          this.#engine.handle(request, response, destination),
      },
      this.#limits.headerBytes,
    );
    this.#proxy = server;
    this.#watch(server);
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject).listen(port, host, resolve);
    });
    this.#proxyPort = (server.address() as net.AddressInfo).port;
    return { host, port: this.#proxyPort };
  }

  env(): Record<string, string> {
    return {
      ...trustEnvironment(this.trustFiles),
      ...(this.#proxyPort === undefined ? {} : proxyEnvironment(this.#proxyPort, this.#token)),
      ...this.#broker.env(),
    };
  }

  async close(): Promise<void> {
    this.#engine.close();
    for (const socket of this.#sockets) socket.destroy();
    await Promise.all(this.#closers.splice(0).map((close) => close()));
    this.#proxy?.closeAllConnections();
    await this.#pool.close();
    await this.#recorder.flush();
    this.#broker.close();
    if (this.#trustFiles) removeTrustFiles(this.#trustFiles);
    this.#trustFiles = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  async #serveTcp(listener: GateListener): Promise<void> {
    const server = net.createServer({ allowHalfOpen: true, noDelay: true, keepAlive: true });
    server.on("connection", (socket) => {
      if (listener.purpose === "dns") serveTcpConnection(this.#responder, socket);
      else void this.#accept(listener, socket);
    });
    this.#watch(server);
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject).listen({ fd: listener.fd }, resolve);
    });
  }

  #watch(server: net.Server): void {
    server.on("connection", (socket: net.Socket) => {
      if (this.#sockets.size >= this.#limits.connections) {
        this.#refuse(
          socket,
          "ERR_NONO_LIMIT",
          `More than ${this.#limits.connections} connections.`,
        );
        return;
      }
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
    this.#closers.push(
      () =>
        new Promise((resolve) => (server.listening ? server.close(() => resolve()) : resolve())),
    );
  }

  async #accept(listener: GateListener, socket: net.Socket): Promise<void> {
    const { localAddress = "", localPort = 0, remoteAddress = "", remotePort = 0 } = socket;
    const meant = listener.destination({ localAddress, localPort, remoteAddress, remotePort });
    const endpoint = meant && this.#endpointOf(meant);
    if (!endpoint) {
      return this.#refuse(
        socket,
        "ERR_NONO_HOST_DENIED",
        "The destination is unknown.",
        meant?.address,
      );
    }
    await serveConnection(this.#context, socket, endpoint);
  }

  /** A synthetic address is the name that was answered with it; any other address is itself. */
  #endpointOf({ address, port }: { address: string; port: number }): Endpoint | undefined {
    const parsed = parseIp(address);
    if (!parsed) return undefined;
    const name = this.#addresses.nameOf(parsed);
    return { host: name === undefined ? ofAddress(parsed) : parseHost(name), port };
  }

  #refuse(
    socket: net.Socket,
    code: "ERR_NONO_LIMIT" | "ERR_NONO_HOST_DENIED",
    message: string,
    address?: string,
  ): void {
    const object = { port: socket.localPort ?? 0, transport: "tcp" as const, reason: message };
    const known = address === undefined ? {} : { address };
    this.#recorder.deny(
      { type: "net.connect", object: { ...object, ...known } },
      new GateError(code, message),
    );
    socket.on("error", () => undefined);
    socket.resetAndDestroy();
  }

  /** The token endpoint is the user's own configuration; it is reached directly, outside the sandbox's policy. */
  async #requestToken(url: string, form: URLSearchParams): Promise<unknown> {
    const dispatcher = new Agent({ allowH2: false, connect: { ca: [...this.#trust.roots] } });
    try {
      const { statusCode, body } = await fetchRequest(url, {
        method: "POST",
        headers: {
          "content-type": "application/x-www-form-urlencoded",
          accept: "application/json",
        },
        body: form.toString(),
        dispatcher,
        headersTimeout: this.#limits.connectTimeout,
      });
      const answer: unknown = await body.json().catch(() => undefined);
      if (statusCode !== 200 || typeof answer !== "object" || answer === null) {
        throw new GateError(
          "ERR_NONO_CREDENTIAL_STORE",
          `The token endpoint answered ${statusCode}.`,
          {
            value: new URL(url).origin,
            remedy: "Check the client id, its secret and the scope.",
          },
        );
      }
      return answer;
    } finally {
      await dispatcher.close();
    }
  }
}

/** A credential's own rules hold for every request to its hosts. */
function rulesOf({ proxyTo, rules }: CredentialConfig): HttpRule[] {
  if (!rules) return [];
  return [proxyTo].flat().map((host) => ({ host: host.replace(/^https?:\/\//, ""), allow: rules }));
}
