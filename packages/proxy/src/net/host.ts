import { domainToASCII } from "node:url";
import { GateError } from "../errors.ts";
import { type IpAddress, formatIp, parseIp } from "./ip.ts";

/** A host in its one canonical form: a lower-case ASCII name without trailing dot, or an address. */
export interface Host {
  /** Canonical text, as it is compared, logged and sent. IPv6 without brackets. */
  readonly text: string;
  /** Set when the host is an address literal. */
  readonly address?: IpAddress;
}

/** A host and a port: where a connection is meant to go. */
export interface Endpoint {
  readonly host: Host;
  readonly port: number;
}

const label = /^[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?$/;

/**
 * The canonical form of a host as a client or a user wrote it. `127.1`, `0x7f000001`, `2130706433`,
 * `[::ffff:127.0.0.1]` and full-width digits all become `127.0.0.1`, since some resolver reads them so.
 *
 * @throws GateError `ERR_NONO_INVALID_HOST` for anything that two parsers could read differently: control
 *   characters, spaces, `%`, `@`, `/`, `\`, empty or over-long labels, a number that is no address.
 */
export function parseHost(input: string): Host {
  const host = tryParseHost(input);
  if (typeof host === "string") {
    throw new GateError(
      "ERR_NONO_INVALID_HOST",
      `${JSON.stringify(input)} is not a host: ${host}`,
      {
        value: input,
        remedy: "Use a plain host name or an IP address.",
      },
    );
  }
  return host;
}

function tryParseHost(input: string): Host | string {
  if (input === "" || input.length > 1024) return "it is empty or too long";
  if (input.startsWith("[") || input.includes(":")) return parseBracketed(input);
  // eslint-disable-next-line no-control-regex -- the control characters are what is looked for
  if (/[\u0000-\u0020\u007f%@/\\?#<>^|[\]]/.test(input)) return "it has a character no host has";
  const ascii = domainToASCII(input);
  if (ascii === "") return "it is not a valid internationalised name (UTS 46)";
  const name = ascii.replace(/\.$/, "");
  const labels = name.split(".");
  if (isNumeric(labels.at(-1) ?? "")) {
    const address = parseLooseIpv4(labels);
    return address ? ofAddress(address) : "it ends in a number but is no IPv4 address";
  }
  if (name.length > 253) return "it is longer than 253 characters";
  if (!labels.every((text) => label.test(text))) return "a label is empty, too long or malformed";
  return { text: name };
}

function parseBracketed(input: string): Host | string {
  const inner = input.startsWith("[") && input.endsWith("]") ? input.slice(1, -1) : input;
  const address = inner.includes(":") ? parseIp(inner) : undefined;
  return address ? ofAddress(address) : "it is not an IPv6 address (zones are not accepted)";
}

/** The host that stands for an address. */
export function ofAddress(address: IpAddress): Host {
  return { text: formatIp(address), address };
}

function isNumeric(text: string): boolean {
  return /^\d+$/.test(text) || /^0x[0-9a-f]*$/i.test(text);
}

/** inet_aton(3) and the WHATWG URL standard: one to four parts, each decimal, octal or hexadecimal. */
function parseLooseIpv4(parts: readonly string[]): IpAddress | undefined {
  if (parts.length > 4) return undefined;
  const numbers = parts.map(parseNumber);
  let bits = 0n;
  for (const [index, number] of numbers.entries()) {
    if (number === undefined) return undefined;
    const last = index === numbers.length - 1;
    const room = last ? BigInt(8 * (4 - index)) : 8n;
    if (number >= 1n << room) return undefined;
    bits = (bits << room) | number;
  }
  return { family: 4, bits };
}

function parseNumber(text: string): bigint | undefined {
  if (/^0x[0-9a-f]+$/i.test(text)) return BigInt(text);
  if (/^0[0-7]*$/.test(text)) return BigInt(text === "0" ? 0 : `0o${text.slice(1)}`);
  return /^[1-9]\d{0,18}$/.test(text) ? BigInt(text) : undefined;
}

/**
 * Parses `host`, `host:port` or `[v6]:port`, as in a Host header, `:authority` or CONNECT target.
 *
 * @throws GateError `ERR_NONO_INVALID_HOST`
 */
export function parseAuthority(input: string, defaultPort: number): Endpoint {
  const match = /^(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?$/.exec(input);
  const port = match?.[2] === undefined ? defaultPort : Number(match[2]);
  if (!match || port < 1 || port > 65535) {
    throw new GateError("ERR_NONO_INVALID_HOST", `${JSON.stringify(input)} is not host:port.`, {
      value: input,
    });
  }
  return { host: parseHost(match[1] ?? ""), port };
}

/** `host:port` with brackets around IPv6. */
export function formatEndpoint({ host, port }: Endpoint): string {
  return `${bracketed(host)}:${port}`;
}

/** The host as it stands in a URL. */
export function bracketed(host: Host): string {
  return host.address?.family === 6 ? `[${host.text}]` : host.text;
}
