// What a sandbox refused: to the kernel's calls, or at the gate.
import type { Suggestion, Violation } from "@nono/core";
import type { Gate } from "@nono/proxy";
import { printable } from "./printable.ts";

/** A connection, request or DNS query that the gate refused. */
export interface GateViolation {
  /** Tells it from a {@link Violation}. */
  readonly layer: "gate";
  /** As of a {@link Violation}. */
  readonly verdict: "denied";
  /** `"net.connect"`, `"net.dns"`, `"http.request"` … */
  readonly operation: Gate["violations"][number]["type"];
  /** The gate's own code, such as `"ERR_NONO_HOST_DENIED"`. */
  readonly code: string;
  /** What happened, and why. */
  readonly message: string;
  /** The host, address or path that was refused. */
  readonly value: string | undefined;
  /** The rule that decided, as it was written. */
  readonly rule: string | undefined;
  /** When, in milliseconds since 1970. */
  readonly time: number;
}

/** What was refused; `layer` says by what. */
export type PolicyViolation = Violation | GateViolation;

/** The gate's refusal in the terms of this package. */
export function gateViolation(refused: Gate["violations"][number]): GateViolation {
  const { type: operation, code, message, value, rule, time } = refused;
  return { layer: "gate", verdict: "denied", operation, code, message, value, rule, time };
}

/**
 * One line for people: what was refused, by which rule, and what to do about it.
 *
 * @param advise The last of these, in words.
 */
export function describeViolation(
  violation: PolicyViolation,
  advise: (violation: PolicyViolation) => string | undefined = remedyFor,
): string {
  const { operation, rule } = violation;
  const [object, reason] =
    violation.layer === "gate" ? [violation.value, violation.message] : [objectOf(violation), rule];
  const advice = advise(violation);
  return printable(
    `${operation} ${object ?? ""}: ${reason}${advice === undefined ? "" : ` (${advice})`}`,
  );
}

function remedyFor(violation: PolicyViolation): string | undefined {
  const suggestion = suggestionFor(violation);
  return suggestion && wouldPass(suggestion);
}

/** What was attempted on what, in words; as the command has chosen them, so not yet for a terminal. */
export function objectOf({ path, to, address, systemCall }: Violation): string {
  const object = path === undefined ? (address ?? systemCall ?? "") : String(path);
  return to === undefined ? object : `${object} to ${String(to)}`;
}

/** Whether a system call makes a socket for TCP or UDP: what is refused of them where no host is allowed. */
export function isForInternet(systemCall: string): boolean {
  return /^socket\(AF_INET6?, SOCK_(STREAM|DGRAM)(, (6|17))?\)$/.test(systemCall);
}

/**
 * Whether it was about a process in /proc: of those the tier `flat` shows none but the one that asks, and that
 * only in part. Nothing grants it, and the number is another one in every run.
 */
export function isAboutProcess(violation: PolicyViolation): boolean {
  return violation.layer !== "gate" && /^\/proc\/\d+(\/|$)/.test(String(violation.path));
}

/** In words, such as `would pass with allowRead("/etc/issue")`. */
export function wouldPass({ capability, call }: Suggestion): string {
  // What takes something back begins with "without".
  return `would pass ${capability === "deny" ? "" : "with "}${call}`;
}

/** The narrowest grant that would let it pass, if there is a narrow one. */
export function suggestionFor(violation: PolicyViolation): Suggestion | undefined {
  if (isAboutProcess(violation)) return undefined;
  if (violation.layer !== "gate") return violation.suggestion;
  const { code, value, rule } = violation;
  // What a rule denies is not to be allowed by another.
  if (code !== "ERR_NONO_HOST_DENIED" || value === undefined || rule !== undefined)
    return undefined;
  return { capability: "network", value, call: `allowNetwork(${JSON.stringify(value)})` };
}
