import { GateError } from "../errors.ts";
import { type Endpoint, formatEndpoint } from "../net/host.ts";
import type { FlatHeaders } from "../http/headers.ts";
import { type HostPattern, coversHost, defaultPorts, parseHostPattern } from "./allow-list.ts";
import { type RequestPattern, allows, forbids, parseRequestPattern } from "./request-pattern.ts";
import { requestReadings } from "./request-readings.ts";

/**
 * What may be asked of a host. A pattern is a method (or `*`) and a path: `GET /repos/**`; in a path `*` is
 * one segment, `**` any number. GET includes HEAD.
 */
export interface HttpRule {
  /** As in the allow-list: `host[:port]`, `*.suffix[:port]`. */
  readonly host: string;
  /** When given, nothing else may be asked. */
  readonly allow?: readonly string[];
  /** Wins over `allow`, in any case of its letters. */
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
   * Returns the pattern that allowed the request; undefined: no rule speaks of this host. `headers` may make the request
   * another one for the server: all that it could be taken for must be allowed.
   *
   * @throws GateError `ERR_NONO_RULE_DENIED`, `ERR_NONO_RATE_LIMITED`, `ERR_NONO_PROTOCOL`
   */
  check(
    endpoint: Endpoint,
    method: string,
    target: string,
    headers: FlatHeaders,
  ): string | undefined {
    const rules = this.#rulesFor(endpoint);
    if (rules.length === 0) return undefined;
    const readings = requestReadings(method, target, headers);
    let decisive: string | undefined;
    for (const { allow, deny } of rules) {
      const denied = deny.find((rule) => readings.some((reading) => forbids(rule, reading)));
      if (denied) throw ruleDenied(endpoint, method, target, denied.text);
      if (!allow) continue;
      const allowed = readings.map((reading) => allow.find((rule) => allows(rule, reading)));
      if (allowed.includes(undefined)) throw ruleDenied(endpoint, method, target, undefined);
      decisive = allowed[0]?.text;
    }
    for (const { limit, host } of rules) {
      const counts = limit?.of?.some((rule) => readings.some((reading) => forbids(rule, reading)));
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
