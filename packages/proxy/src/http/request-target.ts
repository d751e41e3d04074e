import { GateError } from "../errors.ts";
import { type Endpoint, formatEndpoint, parseAuthority } from "../net/host.ts";
import { valuesOf } from "./headers.ts";
import type { GateRequest } from "./refusal.ts";

/** Where a request was sent: decided by the connection (or by the proxy URL), never by the request. */
export interface Destination {
  readonly endpoint: Endpoint;
  readonly secure: boolean;
}

/**
 * The request's path and query in origin form, once its own idea of the host has been found to be the
 * destination's.
 *
 * @throws GateError `ERR_NONO_NAME_MISMATCH` (421) or `ERR_NONO_PROTOCOL` (400)
 */
export function originForm(request: GateRequest, destination: Destination): string {
  const { url = "" } = request;
  if (request.httpVersionMajor < 1) {
    throw new GateError("ERR_NONO_PROTOCOL", "The request has no HTTP version.");
  }
  const defaultPort = destination.secure ? 443 : 80;
  const { host } = destination.endpoint;
  for (const authority of authoritiesOf(request)) {
    if (authority === host.text || authority === formatEndpoint(destination.endpoint)) continue;
    const claimed = parseAuthority(authority, defaultPort);
    // Without a port the client means the port it connected to, as far as anyone can tell.
    const same =
      claimed.host.text === destination.endpoint.host.text &&
      (claimed.port === destination.endpoint.port || !/:\d+$/.test(authority));
    if (!same) throw mismatch(authority, destination);
  }
  const path = url.startsWith("/") || url === "*" ? url : pathOfAbsolute(url, destination);
  // eslint-disable-next-line no-control-regex -- the control characters are what is looked for
  if (path.includes("#") || /[\u0000-\u0020\u007f-\uffff]/.test(path)) {
    throw new GateError("ERR_NONO_PROTOCOL", "The request target has a character no URL has.", {
      value: path,
    });
  }
  return path;
}

function authoritiesOf(request: GateRequest): string[] {
  const hosts = valuesOf(request.rawHeaders, "host");
  const authority = valuesOf(request.rawHeaders, ":authority");
  if (hosts.length > 1 || authority.length > 1) {
    throw new GateError("ERR_NONO_PROTOCOL", "The request names its host more than once.");
  }
  return [...hosts, ...authority];
}

/** RFC 9112 section 3.2.2: a server must accept the absolute form too. */
function pathOfAbsolute(url: string, destination: Destination): string {
  const match = /^(https?):\/\/([^/?#]*)([^#]*)$/i.exec(url);
  const scheme = destination.secure ? "https" : "http";
  if (match?.[1]?.toLowerCase() !== scheme) {
    throw new GateError("ERR_NONO_PROTOCOL", "The request target is malformed.", { value: url });
  }
  const authority = match[2] ?? "";
  const claimed = parseAuthority(authority, destination.secure ? 443 : 80);
  if (formatEndpoint(claimed) !== formatEndpoint(destination.endpoint)) {
    throw mismatch(authority, destination);
  }
  return match[3]?.startsWith("/") ? match[3] : `/${match[3] ?? ""}`;
}

function mismatch(claimed: string, { endpoint }: Destination): GateError {
  return new GateError(
    "ERR_NONO_NAME_MISMATCH",
    `The request names ${claimed}, the connection goes to ${formatEndpoint(endpoint)}.`,
    { value: claimed, remedy: "Open a connection to the host that the request is for." },
  );
}
