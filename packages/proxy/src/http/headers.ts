/** Header fields as Node and undici carry them: name, value, name, value ... in the order they came. */
export type FlatHeaders = string[];

/** RFC 9110 section 7.6.1, and fields that two hops negotiate with each other. */
const hopByHop = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authenticate",
  "proxy-authorization",
  "te",
  "transfer-encoding",
  "upgrade",
  "http2-settings",
]);

const none: ReadonlySet<string> = new Set();

/** The values of a field, whose name is lower-case, in order. */
export function valuesOf(headers: FlatHeaders, name: string): string[] {
  const values: string[] = [];
  for (let i = 0; i < headers.length; i += 2) {
    const field = headers[i] ?? "";
    if (field.length === name.length && field.toLowerCase() === name) {
      values.push(headers[i + 1] ?? "");
    }
  }
  return values;
}

/** The headers without the fields named, which are lower-case. */
export function withoutFields(headers: FlatHeaders, names: readonly string[]): FlatHeaders {
  const kept: FlatHeaders = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] ?? "";
    if (!names.includes(name.toLowerCase())) kept.push(name, headers[i + 1] ?? "");
  }
  return kept;
}

/** What of the headers goes on to the next hop; pseudo-headers of HTTP/2 do not. */
export function endToEnd(headers: FlatHeaders, extra: readonly string[] = []): FlatHeaders {
  const options = valuesOf(headers, "connection").join().toLowerCase();
  const listed = options === "" ? none : new Set(options.split(",").map((name) => name.trim()));
  const kept: FlatHeaders = [];
  for (let i = 0; i < headers.length; i += 2) {
    const name = headers[i] ?? "";
    const lower = name.toLowerCase();
    if (lower.startsWith(":") || hopByHop.has(lower)) continue;
    if (listed.has(lower) || extra.includes(lower)) continue;
    kept.push(name, headers[i + 1] ?? "");
  }
  return kept;
}

/** RFC 9110 section 6.5.1: what frames, routes, selects or authenticates a message means nothing behind its body. */
const notInTrailers = [
  "authorization",
  "content-encoding",
  "content-length",
  "content-range",
  "content-type",
  "cookie",
  "expect",
  "host",
  "range",
  "set-cookie",
  "trailer",
];

/** What of a message's trailers goes on to the next hop. */
export function trailersToPass(trailers: FlatHeaders): FlatHeaders {
  return endToEnd(trailers, notInTrailers);
}

/** HTTP/2 may split Cookie into crumbs (RFC 9113 section 8.2.3); HTTP/1.1 wants one field. */
export function joinCookies(headers: FlatHeaders): FlatHeaders {
  const cookies = valuesOf(headers, "cookie");
  if (cookies.length < 2) return headers;
  return [...withoutFields(headers, ["cookie"]), "cookie", cookies.join("; ")];
}

/** Sets a field to one value, whatever was there. */
export function withField(headers: FlatHeaders, name: string, value: string): FlatHeaders {
  return [...withoutFields(headers, [name.toLowerCase()]), name, value];
}

/** The fields as pairs of name and value. */
export function pairsOf(headers: FlatHeaders): [string, string][] {
  const pairs: [string, string][] = [];
  for (let i = 0; i < headers.length; i += 2) pairs.push([headers[i] ?? "", headers[i + 1] ?? ""]);
  return pairs;
}

/** Node's HTTP/2 wants an object; repeated fields become arrays. */
export function grouped(headers: FlatHeaders): Record<string, string | string[]> {
  // A field may be called `constructor` or `__proto__`: the object inherits none.
  const groups = Object.create(null) as Record<string, string | string[]>;
  for (let i = 0; i < headers.length; i += 2) {
    const name = (headers[i] ?? "").toLowerCase();
    const value = headers[i + 1] ?? "";
    const known = groups[name];
    groups[name] =
      known === undefined ? value : [...(Array.isArray(known) ? known : [known]), value];
  }
  return groups;
}
