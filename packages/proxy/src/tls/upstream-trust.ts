import { X509Certificate } from "node:crypto";
import tls from "node:tls";
import { GateError } from "../errors.ts";
import { buffered } from "../net/buffers.ts";
import { type Host, parseHost } from "../net/host.ts";

/** How the gate meets upstream servers in TLS. Certificates are always verified against the real name. */
export interface UpstreamTlsOptions {
  /** Further trusted roots, PEM, beside the machine's own. */
  readonly ca?: readonly string[];
  /** Client certificates by host name, PEM. */
  readonly clientCertificates?: Readonly<Record<string, { cert: string; key: string }>>;
}

/** The certificates the machine trusts (`/etc/ssl/certs`); the bundled Mozilla list where it has none. */
export function systemRoots(): string[] {
  const system = tls.getCACertificates("system");
  return system.length > 0 ? system : tls.getCACertificates("bundled");
}

const maxSessions = 512;

/** Secure contexts and resumable sessions for connections to upstream servers. */
export class UpstreamTrust {
  readonly roots: readonly string[];
  /** Contexts with a client certificate, by host. */
  readonly #identified: ReadonlyMap<string, tls.SecureContext>;
  #anonymous: tls.SecureContext | undefined;
  readonly #sessions = new Map<string, Buffer>();
  readonly #timeout: number;

  /**
   * `timeout`: milliseconds for a handshake.
   *
   * @throws GateError `ERR_NONO_INVALID_OPTION`
   */
  constructor({ ca = [], clientCertificates = {} }: UpstreamTlsOptions, timeout: number) {
    this.roots = [...systemRoots(), ...ca];
    this.#timeout = timeout;
    for (const text of ca) checkCertificate(text);
    this.#identified = new Map(
      Object.entries(clientCertificates).map(([name, pair]) => [
        canonicalName(name),
        this.#newContext(pair),
      ]),
    );
  }

  /**
   * Runs the TLS handshake over a connected socket.
   *
   * @throws GateError `ERR_NONO_UPSTREAM_TLS`
   */
  secure(
    socket: tls.ConnectionOptions["socket"],
    host: Host,
    alpn: string[],
  ): Promise<tls.TLSSocket> {
    const sessionKey = `${host.text} ${alpn.join()}`;
    const session = this.#sessions.get(sessionKey);
    const secured = tls.connect({
      ...(socket ? { socket } : {}),
      // RFC 6066 forbids addresses as server names; Node verifies them by `host`.
      ...(host.address ? { host: host.text } : { servername: host.text }),
      ...(session ? { session } : {}),
      secureContext: this.#contextFor(host.text),
      ALPNProtocols: alpn,
      ...buffered,
    });
    secured.on("session", (ticket) => {
      this.#sessions.delete(sessionKey);
      this.#sessions.set(sessionKey, ticket);
      const [oldest] = this.#sessions.keys();
      if (this.#sessions.size > maxSessions && oldest !== undefined) this.#sessions.delete(oldest);
    });
    return new Promise((resolve, reject) => {
      const fail = (cause: NodeJS.ErrnoException): void => {
        clearTimeout(timer);
        secured.destroy();
        reject(untrusted(host, cause));
      };
      const timer = setTimeout(() => fail(new Error("it took too long")), this.#timeout);
      const closed = (): void => fail(new Error("closed during the handshake"));
      secured.once("error", fail).once("close", closed);
      secured.once("secureConnect", () => {
        clearTimeout(timer);
        secured.off("error", fail).off("close", closed);
        secured.on("error", () => undefined);
        resolve(secured);
      });
    });
  }

  #contextFor(name: string): tls.SecureContext {
    // Made at first use: reading all roots takes some milliseconds.
    return this.#identified.get(name) ?? (this.#anonymous ??= this.#newContext());
  }

  #newContext(identity?: { cert: string; key: string }): tls.SecureContext {
    try {
      return tls.createSecureContext({ ca: [...this.roots], minVersion: "TLSv1.2", ...identity });
    } catch (cause) {
      throw new GateError(
        "ERR_NONO_INVALID_OPTION",
        "A client certificate and its key do not belong together, or are not PEM.",
        { cause, remedy: "Give both as PEM text in tls.clientCertificates." },
      );
    }
  }
}

function checkCertificate(text: string): void {
  try {
    // oxlint-disable-next-line no-new -- reads it, or throws
    new X509Certificate(text);
  } catch (cause) {
    throw new GateError("ERR_NONO_INVALID_OPTION", "An entry of tls.ca is not a certificate.", {
      cause,
      remedy: "Give each root as PEM text, one certificate an entry.",
    });
  }
}

function canonicalName(name: string): string {
  try {
    return parseHost(name).text;
  } catch (cause) {
    throw new GateError("ERR_NONO_INVALID_OPTION", `${JSON.stringify(name)} is not a host.`, {
      value: name,
      remedy: "Name client certificates by the host they are for.",
      cause,
    });
  }
}

function untrusted(host: Host, cause: NodeJS.ErrnoException): GateError {
  const why = cause.code ?? cause.message;
  return new GateError(
    "ERR_NONO_UPSTREAM_TLS",
    `The TLS handshake with ${host.text} failed: ${why}. No request was sent.`,
    {
      value: host.text,
      cause,
      remedy: "If the server uses a private authority, give its root in tls.ca.",
    },
  );
}
