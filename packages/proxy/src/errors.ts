/** Every reason for which the gate refuses, and the HTTP status the agent reads where HTTP is spoken. */
const statusOf = {
  /** A host that is not a canonical name or address. */
  ERR_NONO_INVALID_HOST: 400,
  /** A malformed option: an allow-list entry, a rule, a credential. Thrown by `createGate`. */
  ERR_NONO_INVALID_OPTION: 400,
  /** The host and port are on no allow-list, or on the deny-list. */
  ERR_NONO_HOST_DENIED: 403,
  /** The name is allowed, the address it resolves to is not (private, loopback, metadata ...). */
  ERR_NONO_ADDRESS_DENIED: 403,
  /** TLS server name, Host header and destination disagree. */
  ERR_NONO_NAME_MISMATCH: 421,
  /** The client offered Encrypted Client Hello, which would hide the server name from the check. */
  ERR_NONO_ECH_REFUSED: 403,
  /** Bytes that are not the protocol this port speaks, or that are ambiguous (smuggling). */
  ERR_NONO_PROTOCOL: 400,
  /** A method the gate never forwards (TRACE). */
  ERR_NONO_METHOD_REFUSED: 405,
  /** The explicit proxy was used without this sandbox's token. */
  ERR_NONO_PROXY_AUTH: 407,
  /** A method and path rule forbids the request. */
  ERR_NONO_RULE_DENIED: 403,
  /** A rule's rate limit is used up. */
  ERR_NONO_RATE_LIMITED: 429,
  /** A phantom token was sent to a host that its credential is not bound to. */
  ERR_NONO_PHANTOM_MISUSED: 403,
  /** The upstream could not be reached or broke off. */
  ERR_NONO_UPSTREAM: 502,
  /** The upstream's certificate does not verify against its real name. */
  ERR_NONO_UPSTREAM_TLS: 502,
  /** The upstream did not answer in time. */
  ERR_NONO_UPSTREAM_TIMEOUT: 504,
  /** The upstream's response cannot be scrubbed (unknown content coding), so it is not delivered. */
  ERR_NONO_UNSCRUBBABLE: 502,
  /** The event sink did not accept the record of an intent, so the action did not happen. */
  ERR_NONO_NOT_RECORDED: 503,
  /** A limit of the gate: connections, header size, time. */
  ERR_NONO_LIMIT: 503,
  /** A listener that cannot be served as it is. */
  ERR_NONO_LISTENER: 500,
  /** The credential's source has no value under that name. */
  ERR_NONO_CREDENTIAL_MISSING: 503,
  /** The credential's store is locked. */
  ERR_NONO_CREDENTIAL_LOCKED: 503,
  /** The credential's store cannot be reached at all. */
  ERR_NONO_CREDENTIAL_STORE: 503,
  /** The credential's value cannot be used as declared (too short, not the JSON a scheme needs ...). */
  ERR_NONO_CREDENTIAL_INVALID: 503,
} as const;

/** Refusals that are nobody's attempt at anything: a server, a store or the log failed. */
const failures: ReadonlySet<string> = new Set([
  "ERR_NONO_UPSTREAM",
  "ERR_NONO_UPSTREAM_TLS",
  "ERR_NONO_UPSTREAM_TIMEOUT",
  "ERR_NONO_UNSCRUBBABLE",
  "ERR_NONO_NOT_RECORDED",
  "ERR_NONO_CREDENTIAL_MISSING",
  "ERR_NONO_CREDENTIAL_LOCKED",
  "ERR_NONO_CREDENTIAL_STORE",
  "ERR_NONO_CREDENTIAL_INVALID",
]);

/** The stable codes of {@link GateError}. */
export type GateErrorCode = keyof typeof statusOf;

/** What a {@link GateError} carries beside its code and message. */
export interface GateErrorDetails {
  /** The offending value (a host, a rule, a path), never a secret. */
  readonly value?: string;
  /** The rule that decided, as the user wrote it. */
  readonly rule?: string;
  /** What to do about it, in one sentence. */
  readonly remedy?: string;
  readonly cause?: unknown;
}

/**
 * The one error class of the gate: `code` is stable, `message` says what happened and why, `remedy` what
 * to do, `value` is the offending input.
 *
 * @example
 * try { createGate({ allow: ["https://api.github.com"] }) }
 * catch (error) { if (error instanceof GateError) console.error(error.code, error.remedy) }
 */
export class GateError extends Error {
  readonly code: GateErrorCode;
  readonly value: string | undefined;
  readonly rule: string | undefined;
  readonly remedy: string | undefined;

  constructor(code: GateErrorCode, message: string, details: GateErrorDetails = {}) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause });
    this.name = "GateError";
    this.code = code;
    this.value = details.value;
    this.rule = details.rule;
    this.remedy = details.remedy;
  }

  /** The HTTP status this refusal is answered with where the client speaks HTTP. */
  get status(): number {
    return statusOf[this.code];
  }

  /** Whether the policy refused something, rather than that something failed. */
  get isViolation(): boolean {
    return !failures.has(this.code);
  }

  /** What the agent reads: no stack, no cause, no secret. */
  toJSON(): Record<string, string> {
    const body: Record<string, string> = { error: this.code, message: this.message };
    if (this.value !== undefined) body["value"] = this.value;
    if (this.rule !== undefined) body["rule"] = this.rule;
    body["hint"] = this.remedy ?? "`nono why` shows the policy that decided this.";
    return body;
  }
}
