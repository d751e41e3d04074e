import { type FlatHeaders, valuesOf, withField } from "../http/headers.ts";
import type { CredentialScheme } from "./credential.ts";

interface Presented {
  readonly path: string;
  readonly headers: FlatHeaders;
}

/**
 * Presents a value as its scheme says. What the client put in the same place gives way: a request to a bound host
 * never carries a credential that the sandbox brought along.
 */
export function applyScheme(
  scheme: CredentialScheme,
  value: string,
  request: Presented,
): Presented {
  const { path, headers } = request;
  switch (scheme.type) {
    case "bearer":
    case "oauth2":
      return { path, headers: withField(headers, "authorization", `Bearer ${value}`) };
    case "header": {
      const text = (scheme.template ?? "{}").replaceAll("{}", () => value);
      return { path, headers: withField(headers, scheme.header, text) };
    }
    case "basic": {
      const pair = scheme.username === undefined ? value : `${scheme.username}:${value}`;
      const encoded = Buffer.from(pair).toString("base64");
      return { path, headers: withField(headers, "authorization", `Basic ${encoded}`) };
    }
    case "query":
      return { path: withParameter(path, scheme.parameter, value), headers };
    case "path": {
      const prefix = scheme.prefix.replaceAll("{}", () => encodeURIComponent(value));
      return { path: path.startsWith(prefix) ? path : `${prefix}${path}`, headers };
    }
    case "cookie":
      return { path, headers: withCookie(headers, scheme.cookie, value) };
    default: // AWS signatures are made elsewhere, over the whole request
      return request;
  }
}

function withParameter(path: string, name: string, value: string): string {
  const [before = "", query = ""] = splitOnce(path, "?");
  const key = encodeURIComponent(name);
  const others = query.split("&").filter((pair) => {
    return pair !== "" && decoded(pair.split("=")[0] ?? "") !== name;
  });
  return `${before}?${[...others, `${key}=${encodeURIComponent(value)}`].join("&")}`;
}

function withCookie(headers: FlatHeaders, name: string, value: string): FlatHeaders {
  const others = valuesOf(headers, "cookie")
    .flatMap((line) => line.split(";"))
    .map((pair) => pair.trim())
    .filter((pair) => pair !== "" && !pair.startsWith(`${name}=`));
  return withField(headers, "cookie", [...others, `${name}=${value}`].join("; "));
}

function splitOnce(text: string, separator: string): string[] {
  const at = text.indexOf(separator);
  return at < 0 ? [text] : [text.slice(0, at), text.slice(at + separator.length)];
}

function decoded(text: string): string {
  try {
    return decodeURIComponent(text.replaceAll("+", " "));
  } catch {
    return text;
  }
}
