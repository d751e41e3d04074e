import { randomBytes } from "node:crypto";
import type http from "node:http";
import type net from "node:net";
import { CredentialBroker } from "./credentials/broker.ts";
import type { CredentialConfig } from "./credentials/credential.ts";
import { tokenRequester } from "./credentials/token-endpoint.ts";
import { Responder } from "./dns/responder.ts";
import { SyntheticAddresses } from "./dns/synthetic.ts";
import {
  type TrustFiles,
  proxyEnvironment,
  removeTrustFiles,
  trustEnvironment,
  writeTrustFiles,
} from "./environment.ts";
import { type EventSink, type GateEvent, Recorder, type Violation } from "./event.ts";
import { GateError } from "./errors.ts";
import { HttpEngine } from "./http/engine.ts";
import { type HttpLimits, UpstreamPool } from "./http/upstream-pool.ts";
import { type ConnectionContext, checkEndpoint, serveConnection } from "./net/connection.ts";
import { Dialer, type Resolver, systemResolver } from "./net/dial.ts";
import { createExplicitProxy } from "./net/explicit-proxy.ts";
import { parseHost } from "./net/host.ts";
import { type GateListener, Intake } from "./net/intake.ts";
import { UpstreamProxy } from "./net/upstream-proxy.ts";
import { AllowList, type Verdict } from "./policy/allow-list.ts";
import { type HttpRule, HttpRules } from "./policy/http-rules.ts";
import { CertificateAuthority } from "./tls/authority.ts";
import { type UpstreamTlsOptions, UpstreamTrust } from "./tls/upstream-trust.ts";

/** Bounds of one gate. */
export interface GateLimits extends HttpLimits {
  /** Connections from the sandbox at one time; to servers there may be twice as many. Default: 4096. */
  readonly connections: number;
  /** Milliseconds to connect to a server. Default: 10 000. */
  readonly connectTimeout: number;
  /** Milliseconds for which an opaque tunnel or a WebSocket may be silent both ways. Default: 7 440 000 (RFC 5382). */
  readonly tunnelTimeout: number;
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

/**
 * A running gate: one for each sandbox.
 *
 * @example
 * const gate: Gate = createGate({ allow: ["*.example.com:443"] });
 * gate.explain("www.example.com", 443); // { allowed: true, ... }
 * await gate.listen();
 * console.log(gate.env()["HTTPS_PROXY"], gate.violations.length);
 * await gate.close();
 */
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
  /**
   * Listens as an explicit proxy. Default: a free port of 127.0.0.1. Only clients with the token are served. For
   * containers give the address by which they reach this machine; it is what `env()` names.
   */
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
  clientTimeout: 60_000,
  tunnelTimeout: 7_440_000, // what a NAT must grant a silent connection (RFC 5382 section 5)
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
  readonly #authority = new CertificateAuthority();
  readonly #trust: UpstreamTrust;
  readonly #broker: CredentialBroker;
  readonly #pool: UpstreamPool;
  readonly #engine: HttpEngine;
  readonly #context: ConnectionContext;
  readonly #limits: GateLimits;
  readonly #token = randomBytes(24).toString("base64url");
  readonly #intake: Intake;
  #proxy: http.Server | undefined;
  #proxyAddress: { host: string; port: number } | undefined;
  #trustFiles: TrustFiles | undefined;

  constructor(options: GateOptions) {
    const { credentials = [], rules = [], intercept = "needed" } = options;
    this.#limits = limitsOf(options.limits);
    this.#recorder = new Recorder(options.sink, options.onEvent);
    this.#allowList = new AllowList(options.allow, options.deny);
    this.#trust = new UpstreamTrust(options.tls ?? {}, this.#limits.connectTimeout);
    const dialer = new Dialer({
      allowList: this.#allowList,
      resolver: options.resolver ?? systemResolver,
      recorder: this.#recorder,
      proxy:
        options.upstreamProxy === undefined
          ? undefined
          : new UpstreamProxy(options.upstreamProxy, this.#trust.roots),
      timeout: this.#limits.connectTimeout,
      limit: 2 * this.#limits.connections,
    });
    const requestToken = tokenRequester({
      trust: this.#trust,
      timeout: this.#limits.connectTimeout,
      connect: (endpoint) => dialer.connectConfigured(endpoint),
    });
    this.#broker = new CredentialBroker(credentials, this.#recorder, requestToken);
    const httpRules = new HttpRules([...rules, ...credentials.flatMap(rulesOf)]);
    this.#pool = new UpstreamPool(dialer, this.#trust, this.#limits);
    const shared = { recorder: this.#recorder, rules: httpRules, broker: this.#broker };
    this.#engine = new HttpEngine(
      {
        ...shared,
        pool: this.#pool,
        dialer,
        trust: this.#trust,
        responseTimeout: this.#limits.responseTimeout,
        tunnelTimeout: this.#limits.tunnelTimeout,
      },
      this.#authority,
      this.#limits,
    );
    this.#context = {
      allowList: this.#allowList,
      recorder: this.#recorder,
      dialer,
      engine: this.#engine,
      tunnelTimeout: this.#limits.tunnelTimeout,
      inspects: (endpoint) =>
        intercept === "all" || this.#broker.covers({ endpoint }) || httpRules.covers(endpoint),
    };
    const addresses = new SyntheticAddresses();
    this.#intake = new Intake({
      addresses,
      responder: new Responder(this.#allowList, addresses, this.#recorder),
      recorder: this.#recorder,
      limit: this.#limits.connections,
      serve: (socket, endpoint) => void serveConnection(this.#context, socket, endpoint),
    });
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
    for (const listener of listeners) await this.#intake.listen(listener);
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
    server.on("connection", (socket: net.Socket) => this.#intake.admit(socket));
    await new Promise<void>((resolve, reject) => {
      server.once("error", reject).listen(port, host, resolve);
    });
    this.#proxyAddress = { host, port: (server.address() as net.AddressInfo).port };
    return this.#proxyAddress;
  }

  env(): Record<string, string> {
    const trust = trustEnvironment(this.trustFiles);
    return {
      ...trust,
      ...(this.#proxyAddress && proxyEnvironment(this.#proxyAddress, this.#token, trust)),
      ...this.#broker.env(),
    };
  }

  async close(): Promise<void> {
    this.#engine.close();
    this.#proxy?.close();
    await this.#intake.close();
    await this.#pool.close();
    await this.#recorder.flush();
    this.#broker.close();
    if (this.#trustFiles) removeTrustFiles(this.#trustFiles);
    this.#trustFiles = undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** @throws GateError `ERR_NONO_INVALID_OPTION`: a bound that is no number bounds nothing. */
function limitsOf(given: Partial<GateLimits> = {}): GateLimits {
  const named = Object.entries(given).filter(([, value]) => value !== undefined);
  const wrong = named.find(([, value]) => !(Number.isFinite(value) && value > 0));
  if (wrong) {
    throw new GateError("ERR_NONO_INVALID_OPTION", `The limit ${wrong[0]} is no positive number.`, {
      value: String(wrong[1]),
    });
  }
  return { ...defaultLimits, ...Object.fromEntries(named) };
}

/** A credential's own rules hold for every request to its hosts. */
function rulesOf({ proxyTo, rules }: CredentialConfig): HttpRule[] {
  if (!rules) return [];
  return [proxyTo].flat().map((host) => ({ host: host.replace(/^https?:\/\//, ""), allow: rules }));
}
