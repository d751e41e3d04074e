import { GateError } from "../errors.ts";
import { type FlatHeaders, valuesOf } from "../http/headers.ts";

/** A request as a server may understand it. */
export interface Reading {
  readonly method: string;
  /** Decoded once. */
  readonly path: string;
}

/** Fields by which frameworks take another method than the request line's (Google's APIs, Rails, Symfony, OData). */
const methodFields = ["x-http-method-override", "x-http-method", "x-method-override"];
/** Fields by which servers take another target (Symfony, IIS's URL Rewrite). */
const targetFields = ["x-original-url", "x-rewrite-url"];
/** Other methods and targets that one request may name: each is judged with each. */
const maxOthers = 4;
/** The query's parameter for the former; the form's is in the body, which rules do not look into. */
const methodParameter = "_method";

/**
 * All that a server could take the request for.
 *
 * @throws GateError `ERR_NONO_PROTOCOL` for a target in which servers disagree
 */
export function requestReadings(method: string, target: string, headers: FlatHeaders): Reading[] {
  const methods = [
    method,
    ...methodFields.flatMap((name) => valuesOf(headers, name)).flatMap((value) => value.split(",")),
    ...new URLSearchParams(target.replace(/^[^?]*/, "")).getAll(methodParameter),
  ];
  const targets = [target, ...targetFields.flatMap((name) => valuesOf(headers, name)).map(pathIn)];
  if (methods.length > 1 + maxOthers || targets.length > 1 + maxOthers) {
    throw new GateError(
      "ERR_NONO_PROTOCOL",
      "The request names more methods or targets beside its own than anyone needs.",
      { remedy: "Name one at most." },
    );
  }
  const paths = new Set(targets.flatMap(pathReadings));
  const names = new Set(methods.map((name, i) => (i === 0 ? name : name.trim().toUpperCase())));
  return [...names].flatMap((name) => [...paths].map((path) => ({ method: name, path })));
}

/** The path of a URL, or the path that it is already. */
function pathIn(value: string): string {
  const path = value.trim().replace(/^https?:\/\/[^/?#]*/i, "");
  return path.startsWith("/") ? path : `/${path}`;
}

/** Nothing is encoded and no segment is empty or begins with a dot: all servers read it alike. */
const plainPath = /^\/(?:[\w~-][\w.~-]*(?:\/|$))*$/;

/**
 * The path, decoded once, in the ways a server may read it: an encoded slash is a character to one and a
 * separator to another.
 *
 * @throws GateError `ERR_NONO_PROTOCOL` where servers disagree about the rest
 */
export function pathReadings(target: string): string[] {
  const path = target.replace(/\?.*$/s, "");
  if (path === "*" || plainPath.test(path)) return [path];
  const refuse = (why: string): GateError =>
    new GateError("ERR_NONO_PROTOCOL", `The path has ${why}, which servers read differently.`, {
      value: path,
      remedy: "Send the path in its normal form.",
    });
  if (/%(?![0-9a-f]{2})/i.test(path)) throw refuse("a broken percent sign");
  if (/%25[0-9a-f]{2}/i.test(path)) throw refuse("a doubly encoded character");
  if (/\\|%5c/i.test(path)) throw refuse("a backslash");
  if (/%[01][0-9a-f]|%7f/i.test(path)) throw refuse("an encoded control character");
  let literal: string;
  let separated: string;
  try {
    literal = decodeURIComponent(path.replaceAll(/%2f/gi, "%252F"));
    separated = decodeURIComponent(path);
  } catch {
    throw refuse("bytes that are not UTF-8");
  }
  for (const reading of [literal, separated]) {
    if (reading.includes("//")) throw refuse("an empty segment");
    // `;x` after a segment is a parameter to some servers: "..;" climbs there.
    if (reading.split("/").some((segment) => /^\.{1,2}(;.*)?$/.test(segment))) {
      throw refuse("a dot segment");
    }
  }
  return literal === separated ? [literal] : [literal, separated];
}
