import { GateError } from "../errors.ts";
import { type Endpoint } from "../net/host.ts";
import { type HostPattern, coversHost, parseHostPattern } from "../policy/allow-list.ts";
import type { HttpRule } from "../policy/http-rules.ts";
import type { PhantomShape } from "./phantom.ts";
import type { CredentialSource } from "./source.ts";

/** How a credential is presented to the server. */
export type CredentialScheme =
  | { readonly type: "bearer" }
  /** A header; `{}` in the template is the value. Default template: the value alone. */
  | { readonly type: "header"; readonly header: string; readonly template?: string }
  /** HTTP Basic. Without `username` the value itself is `user:password`. */
  | { readonly type: "basic"; readonly username?: string }
  | { readonly type: "query"; readonly parameter: string }
  /** A prefix of the path such as `/bot{}`. */
  | { readonly type: "path"; readonly prefix: string }
  | { readonly type: "cookie"; readonly cookie: string }
  /** AWS Signature Version 4. The value is JSON: `accessKeyId`, `secretAccessKey`, `sessionToken`? */
  | { readonly type: "aws-sigv4" }
  /**
   * OAuth 2.0 (RFC 6749): the value is JSON with `clientId`, `clientSecret` and, for the refresh grant,
   * `refreshToken`; the gate obtains access tokens and presents them as bearer tokens.
   */
  | { readonly type: "oauth2"; readonly tokenUrl: string; readonly scope?: string };

/** A part of a request: its fields and trailers, its path and query, its body or the messages of a WebSocket. */
export type CredentialPlace = "header" | "target" | "body";

const everywhere: readonly CredentialPlace[] = ["header", "target", "body"];

/** A credential that the sandbox may use and never sees. */
export interface CredentialConfig {
  /** The environment variable that holds the phantom; also the name in events. */
  readonly name: string;
  /**
   * The hosts it is for, as in the allow-list. TLS only, unless written as `http://host:port`. These hosts are
   * allowed by this alone only when they are on the allow-list too.
   */
  readonly proxyTo: string | readonly string[];
  /** Default: bearer. */
  readonly scheme?: CredentialScheme | "bearer" | "basic" | "aws-sigv4";
  /** Where the value comes from: `fromKeychain`, `fromEnv`, `fromFile` ... */
  readonly source: CredentialSource;
  /**
   * Where the value may take the phantom's place; elsewhere at these hosts the phantom is refused. Default: everywhere.
   * What is written to one host can often be read from another: without `body` the sandbox cannot have the value put into
   * a file, an issue or a message. The scheme's own place is not meant.
   */
  readonly places?: readonly CredentialPlace[];
  /** Restricts what may be asked of these hosts, as {@link HttpRule.allow}. */
  readonly rules?: HttpRule["allow"];
  /** The look of the phantom; default: guessed from the name and the hosts. */
  readonly shape?: PhantomShape;
}

/** A configuration, checked. */
export interface Binding {
  readonly name: string;
  readonly scheme: CredentialScheme;
  readonly source: CredentialSource;
  readonly hosts: readonly BoundHost[];
  readonly places: readonly CredentialPlace[];
}

interface BoundHost {
  readonly pattern: HostPattern;
  readonly secure: boolean;
}

/** @throws GateError `ERR_NONO_INVALID_OPTION` */
export function parseBinding(config: CredentialConfig): Binding {
  if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(config.name)) {
    throw new GateError(
      "ERR_NONO_INVALID_OPTION",
      "A credential's name is an environment variable.",
      {
        value: config.name,
        remedy: "Use letters, digits and underscores.",
      },
    );
  }
  const hosts = [config.proxyTo].flat().map(parseBoundHost);
  if (hosts.length === 0) {
    throw new GateError("ERR_NONO_INVALID_OPTION", `${config.name} is bound to no host.`, {
      value: config.name,
      remedy: "Name the hosts in proxyTo.",
    });
  }
  const { name, source, places = everywhere } = config;
  const unknown = places.find((place) => !everywhere.includes(place));
  if (unknown !== undefined) {
    throw new GateError("ERR_NONO_INVALID_OPTION", `${name} has a place that no request has.`, {
      value: unknown,
      remedy: `Name some of: ${everywhere.join(", ")}.`,
    });
  }
  return { name, scheme: parseScheme(config), source, hosts, places };
}

function parseBoundHost(text: string): BoundHost {
  const plain = text.startsWith("http://");
  const pattern = parseHostPattern(text.replace(/^https?:\/\//, "").replace(/\/$/, ""));
  if (pattern.range && pattern.range.prefix < (pattern.range.base.family === 4 ? 32 : 128)) {
    throw new GateError(
      "ERR_NONO_INVALID_OPTION",
      "A credential is not bound to a whole network.",
      {
        value: text,
        remedy: "Name the host.",
      },
    );
  }
  return { pattern, secure: !plain };
}

const schemes: ReadonlySet<CredentialScheme["type"]> = new Set([
  "bearer",
  "header",
  "basic",
  "query",
  "path",
  "cookie",
  "aws-sigv4",
  "oauth2",
]);

function parseScheme({ scheme = "bearer", name }: CredentialConfig): CredentialScheme {
  const full = typeof scheme === "string" ? { type: scheme } : scheme;
  if (!schemes.has(full.type)) {
    const known = [...schemes].join(", ");
    throw new GateError("ERR_NONO_INVALID_OPTION", `${name} has a scheme that is none.`, {
      value: full.type,
      remedy: `Use one of: ${known}.`,
    });
  }
  if (full.type === "oauth2") checkTokenUrl(name, full.tokenUrl);
  const template =
    full.type === "header" ? (full.template ?? "{}") : full.type === "path" ? full.prefix : "{}";
  if (!template.includes("{}")) {
    throw new GateError(
      "ERR_NONO_INVALID_OPTION",
      `The template of ${name} has no place for the value.`,
      {
        value: template,
        remedy: "Write {} where the value belongs.",
      },
    );
  }
  return full;
}

/** The client's secret is sent there, so it goes over TLS, or does not leave this machine (RFC 6749 section 3.2). */
function checkTokenUrl(name: string, text: string): void {
  const { protocol, hostname } = URL.canParse(text)
    ? new URL(text)
    : { protocol: "", hostname: "" };
  const local = /^(localhost|127(\.\d+){3}|\[::1\])$/.test(hostname);
  if (protocol === "https:" || (protocol === "http:" && local)) return;
  throw new GateError("ERR_NONO_INVALID_OPTION", `The token URL of ${name} is not https.`, {
    value: text,
    remedy: "Write https://host/path; http is for this machine only.",
  });
}

/** Whether the credential may go to this server in this way. */
export function boundTo(binding: Binding, endpoint: Endpoint, secure: boolean): boolean {
  return binding.hosts.some(
    ({ pattern, secure: tls }) =>
      tls === secure &&
      coversHost(pattern, endpoint.host) &&
      (pattern.port === undefined
        ? endpoint.port === (tls ? 443 : 80)
        : pattern.port === endpoint.port),
  );
}
