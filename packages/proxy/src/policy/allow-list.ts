import { GateError } from "../errors.ts";
import { type SpecialRange, specialRangeOf } from "../net/address-class.ts";
import { type Endpoint, type Host, formatEndpoint, parseHost } from "../net/host.ts";
import {
  type IpAddress,
  type IpRange,
  formatIp,
  parseRange,
  rangeContains,
  rangeWithin,
  singleRange,
} from "../net/ip.ts";

/** The ports of a rule that names none. */
export const defaultPorts: readonly number[] = [443, 80];

/** One entry of an allow- or deny-list, compiled. */
export interface HostPattern {
  /** As the user wrote it. */
  readonly text: string;
  readonly port: number | undefined;
  /** Exactly one of the three is set. */
  readonly name?: string;
  readonly suffix?: string;
  readonly range?: IpRange;
}

/** What the allow-list says of a destination, and which entry said it. */
export interface Verdict {
  readonly allowed: boolean;
  /** The entry that decided; undefined: none matched, so it is denied. */
  readonly rule: string | undefined;
  readonly reason: string;
}

/**
 * Parses `host`, `*.suffix`, an address or a CIDR range, each with an optional `:port` (IPv6 in brackets
 * then).
 *
 * @throws GateError `ERR_NONO_INVALID_OPTION`
 */
export function parseHostPattern(text: string): HostPattern {
  const match =
    /^\[([^\]]+)\](?::(\d+))?$/.exec(text) ??
    (text.split(":").length > 2 ? [text, text] : /^([^:]+)(?::(\d+))?$/.exec(text));
  const [, body = "", portText] = match ?? [];
  const port = portText === undefined ? undefined : Number(portText);
  if (!match || (port !== undefined && (port < 1 || port > 65535))) {
    throw invalidPattern(text, "it is not host[:port]");
  }
  if (body.includes("/")) {
    const range = parseRange(body);
    if (!range) throw invalidPattern(text, "it is not a CIDR range with zero host bits");
    return { text, port, range };
  }
  const wildcard = body.startsWith("*.");
  const host = parsePatternHost(text, wildcard ? body.slice(2) : body);
  if (host.address) {
    if (wildcard) throw invalidPattern(text, "a wildcard stands before a name, not an address");
    return { text, port, range: singleRange(host.address) };
  }
  return wildcard ? { text, port, suffix: `.${host.text}` } : { text, port, name: host.text };
}

function parsePatternHost(text: string, body: string): Host {
  try {
    return parseHost(body);
  } catch (error) {
    throw invalidPattern(text, error instanceof Error ? error.message : String(error), error);
  }
}

function invalidPattern(text: string, why: string, cause?: unknown): GateError {
  return new GateError(
    "ERR_NONO_INVALID_OPTION",
    `${JSON.stringify(text)} is no host rule: ${why}`,
    {
      value: text,
      remedy:
        "Write host, host:port, *.suffix, an IP address or a CIDR range; no scheme and no path.",
      cause,
    },
  );
}

/** Whether the pattern's host part covers `host`. */
export function coversHost(pattern: HostPattern, host: Host): boolean {
  if (host.address)
    return pattern.range !== undefined && coversAddress(pattern.range, host.address);
  if (pattern.name !== undefined) return pattern.name === host.text;
  return pattern.suffix !== undefined && host.text.endsWith(pattern.suffix);
}

/**
 * A range covers a special address (private, loopback, metadata ...) only when the rule itself lies within
 * that special range: `0.0.0.0/0` means the public Internet, not this machine.
 */
function coversAddress(range: IpRange, address: IpAddress): boolean {
  if (!rangeContains(range, address)) return false;
  const special = specialRangeOf(address);
  return special === undefined || rangeWithin(range, special.range);
}

/** The compiled allow- and deny-list of one gate. An empty allow-list allows nothing. */
export class AllowList {
  readonly #allow: readonly HostPattern[];
  readonly #deny: readonly HostPattern[];

  /** @throws GateError `ERR_NONO_INVALID_OPTION` */
  constructor(allow: readonly string[], deny: readonly string[] = []) {
    this.#allow = allow.map(parseHostPattern);
    this.#deny = deny.map(parseHostPattern);
  }

  /** Whether a connection to `endpoint` may be made at all; `deny` wins, without a port it means all. */
  decide(endpoint: Endpoint): Verdict {
    const { host, port } = endpoint;
    const denied = this.#deny.find(
      (rule) =>
        (rule.port === undefined || rule.port === port) &&
        // A deny range needs no special-range reading: it always means every address in it.
        (host.address && rule.range
          ? rangeContains(rule.range, host.address)
          : coversHost(rule, host)),
    );
    const where = formatEndpoint(endpoint);
    if (denied) {
      return { allowed: false, rule: denied.text, reason: `${where} is on the deny-list.` };
    }
    const covering = this.#allow.filter((rule) => coversHost(rule, host));
    const rule = covering.find((entry) => coversPort(entry, port));
    if (rule) return { allowed: true, rule: rule.text, reason: `${where} is on the allow-list.` };
    const reason =
      covering.length > 0
        ? `${host.text} is allowed, but not port ${port}.`
        : `${where} is not on the allow-list.`;
    return { allowed: false, rule: undefined, reason };
  }

  /** Whether any port of this name is allowed: what the DNS responder asks. */
  allowsName(host: Host): boolean {
    const fullyDenied = this.#deny.some(
      (rule) => rule.port === undefined && coversHost(rule, host),
    );
    return !fullyDenied && this.#allow.some((rule) => coversHost(rule, host));
  }

  /**
   * Whether the gate may dial `address` for an allowed name. Special ranges need a rule of their own, so
   * that a hostile resolver cannot turn an allowed name into this machine or its metadata service.
   *
   * @throws GateError `ERR_NONO_ADDRESS_DENIED`
   */
  checkAddress(name: string, address: IpAddress, port: number): void {
    const text = formatIp(address);
    const denied = this.#deny.find(
      ({ range, port: only }) =>
        range && rangeContains(range, address) && (only === undefined || only === port),
    );
    if (denied) {
      throw new GateError(
        "ERR_NONO_ADDRESS_DENIED",
        `${name} resolves to ${text}, which is on the deny-list.`,
        { value: text, rule: denied.text },
      );
    }
    const special = specialRangeOf(address);
    if (special === undefined || this.#names(address, port)) return;
    throw addressDenied(name, text, port, special);
  }

  #names(address: IpAddress, port: number): boolean {
    return this.#allow.some(
      (rule) => rule.range && coversPort(rule, port) && coversAddress(rule.range, address),
    );
  }
}

function coversPort(rule: HostPattern, port: number): boolean {
  return rule.port === undefined ? defaultPorts.includes(port) : rule.port === port;
}

function addressDenied(name: string, text: string, port: number, special: SpecialRange): GateError {
  const entry = text.includes(":") ? `[${text}]:${port}` : `${text}:${port}`;
  return new GateError(
    "ERR_NONO_ADDRESS_DENIED",
    `${name} resolves to ${text}, a ${special.class} address.`,
    {
      value: text,
      remedy: `If that is meant, name the address too: allow ${JSON.stringify(entry)}.`,
    },
  );
}
