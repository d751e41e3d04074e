import { GateError } from "../errors.ts";
import type { Reading } from "./request-readings.ts";

/** A method and a path of a rule: `GET /repos/**`. */
export interface RequestPattern {
  /** As the user wrote it. */
  readonly text: string;
  readonly method: string;
  readonly segments: readonly string[];
}

/** @throws GateError `ERR_NONO_INVALID_OPTION` */
export function parseRequestPattern(text: string): RequestPattern {
  const match = /^(\*|[A-Z][A-Z-]*) \/(\S*)$/.exec(text);
  if (!match) {
    throw new GateError("ERR_NONO_INVALID_OPTION", `${JSON.stringify(text)} is no request rule.`, {
      value: text,
      remedy: 'Write a method and a path, such as "GET /repos/**".',
    });
  }
  const [, method = "", path = ""] = match;
  return { text, method, segments: path.split("/") };
}

/** Whether a request is exactly what the pattern names. */
export function allows({ method, segments }: RequestPattern, asked: Reading): boolean {
  return sameMethod(method, asked.method) && samePath(segments, asked.path);
}

/** The same for what must not slip through: servers may take `delete` for DELETE, `/Admin` and `/admin/` for `/admin`. */
export function forbids({ method, segments }: RequestPattern, asked: Reading): boolean {
  if (!sameMethod(method, asked.method.toUpperCase())) return false;
  const lower = segments.map((segment) => segment.toLowerCase());
  const path = asked.path.toLowerCase();
  return samePath(lower, path) || samePath(lower, path.replace(/(?<=.)\/$/, ""));
}

function sameMethod(method: string, asked: string): boolean {
  return method === "*" || method === asked || (method === "GET" && asked === "HEAD");
}

function samePath(segments: readonly string[], path: string): boolean {
  if (!path.startsWith("/")) return false;
  return fits(segments, path.slice(1).split("/"), "**", (pattern, segment) =>
    fits(pattern, segment, "*", (a, b) => a === b),
  );
}

/**
 * Whether items fit a pattern in which a star stands for any number of them. It goes back to the latest star only, so that
 * the product of the two lengths bounds it: a regular expression with some stars is not bounded by anything useful.
 */
function fits(
  pattern: ArrayLike<string>,
  items: ArrayLike<string>,
  star: string,
  same: (pattern: string, item: string) => boolean,
): boolean {
  let at = 0;
  let afterStar = -1;
  let taken = 0;
  for (let i = 0; i < items.length;) {
    if (at < pattern.length && pattern[at] === star) {
      at += 1;
      afterStar = at;
      taken = i;
    } else if (at < pattern.length && same(pattern[at] as string, items[i] as string)) {
      at += 1;
      i += 1;
    } else if (afterStar >= 0) {
      taken += 1;
      i = taken;
      at = afterStar;
    } else return false;
  }
  while (at < pattern.length && pattern[at] === star) at += 1;
  return at === pattern.length;
}
