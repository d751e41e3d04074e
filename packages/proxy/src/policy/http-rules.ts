import { GateError } from "../errors.ts";
import { type Endpoint, formatEndpoint } from "../net/host.ts";
import { type HostPattern, coversHost, defaultPorts, parseHostPattern } from "./allow-list.ts";

/**
 * What may be asked of a host. A pattern is a method (or `*`) and a path: `GET /repos/**`; in a path `*` is
 * one segment, `**` any number. GET includes HEAD.
 */
export interface HttpRule {
  /** As in the allow-list: `host[:port]`, `*.suffix[:port]`. */
  readonly host: string;
  /** When given, nothing else may be asked. */
  readonly allow?: readonly string[];
  /** Wins over `allow`. */
  readonly deny?: readonly string[];
  /**
   * Requests per `perSeconds` seconds over all hosts that this rule covers; default: no limit. `of` says which requests
   * count, in the form of `allow`; default: all. Several rules of a host have a limit each.
   */
  readonly rateLimit?: {
    readonly requests: number;
    readonly perSeconds: number;
    readonly of?: readonly string[];
  };
}

interface RequestPattern {
  readonly text: string;
  readonly method: string;
  readonly path: RegExp;
}

interface CompiledRule {
  readonly host: HostPattern;
  readonly allow: readonly RequestPattern[] | undefined;
  readonly deny: readonly RequestPattern[];
  readonly limit: RateLimit | undefined;
}

interface RateLimit {
  readonly bucket: TokenBucket;
  /** undefined: every request counts. */
  readonly of: readonly RequestPattern[] | undefined;
}

/** The method and path rules of a gate. */
export class HttpRules {
  readonly #rules: readonly CompiledRule[];

  /** @throws GateError `ERR_NONO_INVALID_OPTION` */
  constructor(rules: readonly HttpRule[]) {
    this.#rules = rules.map(({ host, allow, deny = [], rateLimit }) => ({
      host: parseHostPattern(host),
      allow: allow?.map(parseRequestPattern),
      deny: deny.map(parseRequestPattern),
      limit: rateLimit && {
        bucket: new TokenBucket(rateLimit.requests, rateLimit.perSeconds),
        of: rateLimit.of?.map(parseRequestPattern),
      },
    }));
  }

  /** Whether requests to this endpoint must be seen to be judged. */
  covers(endpoint: Endpoint): boolean {
    return this.#rulesFor(endpoint).length > 0;
  }

  /**
   * Returns the pattern that allowed the request; undefined: no rule speaks of this host.
   *
   * @throws GateError `ERR_NONO_RULE_DENIED`, `ERR_NONO_RATE_LIMITED`, `ERR_NONO_PROTOCOL`
   */
  check(endpoint: Endpoint, method: string, target: string): string | undefined {
    const rules = this.#rulesFor(endpoint);
    if (rules.length === 0) return undefined;
    const readings = pathReadings(target);
    let decisive: string | undefined;
    for (const { allow, deny } of rules) {
      const denied = deny.find((rule) => readings.some((path) => matches(rule, method, path)));
      if (denied) throw ruleDenied(endpoint, method, target, denied.text);
      if (!allow) continue;
      // Where a path can be read in two ways, both must be allowed.
      const allowed = readings.map((path) => allow.find((rule) => matches(rule, method, path)));
      if (allowed.includes(undefined)) throw ruleDenied(endpoint, method, target, undefined);
      decisive = allowed[0]?.text;
    }
    for (const { limit, host } of rules) {
      const counts = limit?.of?.some((rule) =>
        readings.some((path) => matches(rule, method, path)),
      );
      if (limit && counts !== false && !limit.bucket.take()) {
        throw new GateError("ERR_NONO_RATE_LIMITED", `The rate limit of ${host.text} is used up.`, {
          rule: host.text,
          remedy: "Wait a moment and ask again.",
        });
      }
    }
    return decisive;
  }

  #rulesFor({ host, port }: Endpoint): CompiledRule[] {
    return this.#rules.filter(
      (rule) =>
        coversHost(rule.host, host) &&
        (rule.host.port === undefined ? defaultPorts.includes(port) : rule.host.port === port),
    );
  }
}

function parseRequestPattern(text: string): RequestPattern {
  const match = /^(\*|[A-Z][A-Z-]*) (\/\S*)$/.exec(text);
  if (!match) {
    throw new GateError("ERR_NONO_INVALID_OPTION", `${JSON.stringify(text)} is no request rule.`, {
      value: text,
      remedy: 'Write a method and a path, such as "GET /repos/**".',
    });
  }
  const [, method = "", path = ""] = match;
  const source = path
    .slice(1)
    .split("/")
    .map((segment) => (segment === "**" ? "(?:/.*)?" : `/${segmentPattern(segment)}`))
    .join("");
  return { text, method, path: new RegExp(`^${source}$`, "s") };
}

function segmentPattern(segment: string): string {
  return segment.replace(/[.+?^${}()|[\]\\]/g, String.raw`\$&`).replaceAll("*", "[^/]*");
}

function matches({ method, path }: RequestPattern, asked: string, normal: string): boolean {
  const sameMethod = method === "*" || method === asked || (method === "GET" && asked === "HEAD");
  return sameMethod && path.test(normal);
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

function ruleDenied(
  endpoint: Endpoint,
  method: string,
  target: string,
  rule: string | undefined,
): GateError {
  const path = target.replace(/\?.*$/s, "");
  const why =
    rule === undefined ? "no rule allows it" : `the rule ${JSON.stringify(rule)} forbids it`;
  return new GateError(
    "ERR_NONO_RULE_DENIED",
    `${method} ${path} on ${formatEndpoint(endpoint)} was refused: ${why}.`,
    { value: `${method} ${path}`, ...(rule === undefined ? {} : { rule }) },
  );
}

/** Up to `size` requests at once, refilled evenly over the period. */
class TokenBucket {
  readonly #size: number;
  readonly #perMillisecond: number;
  #tokens: number;
  #filled = performance.now();

  constructor(requests: number, perSeconds: number) {
    if (!(requests > 0) || !(perSeconds > 0)) {
      throw new GateError("ERR_NONO_INVALID_OPTION", "A rate limit needs positive numbers.", {
        value: `${requests} per ${perSeconds} s`,
      });
    }
    this.#size = requests;
    this.#tokens = requests;
    this.#perMillisecond = requests / (perSeconds * 1_000);
  }

  take(): boolean {
    const now = performance.now();
    const refill = (now - this.#filled) * this.#perMillisecond;
    this.#tokens = Math.min(this.#size, this.#tokens + refill);
    this.#filled = now;
    if (this.#tokens < 1) return false;
    this.#tokens -= 1;
    return true;
  }
}
