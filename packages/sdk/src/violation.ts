// What a sandbox refused: to the kernel's calls, or at the gate.
import type { Violation } from "@nono/core";
import type { Gate } from "@nono/proxy";

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

/** One line for people: what was refused, and what would let it pass. */
export function describeViolation(violation: PolicyViolation): string {
  if (violation.layer === "gate") {
    return `${violation.operation} ${violation.value ?? ""}: ${violation.message}`;
  }
  const { operation, path, address, systemCall, rule, suggestion } = violation;
  const object = path === undefined ? (address ?? systemCall ?? "") : String(path);
  const remedy = suggestion === undefined ? "" : ` (would pass with ${suggestion.call})`;
  return `${operation} ${object}: ${rule}${remedy}`;
}
