import type { Explanation } from "@nono/core";
import type { Running } from "./running.ts";

/** Whether a host may be reached. */
export interface HostQuestion {
  /** A name or an address. */
  readonly host: string;
  /** Default: 443. */
  readonly port?: number;
}

/** What the gate, or the lack of one, says of a host. */
export function explainHost(
  { host, port = 443 }: HostQuestion,
  { core, gate }: Running,
): Explanation {
  // Without a gate, the network is blocked or open for every host alike.
  if (gate === undefined) return core.explain({ port });
  const { allowed, reason, rule } = gate.explain(host, port);
  if (allowed) return { allowed, rule: reason };
  const value = `${host}:${port}`;
  const call = `allowNetwork(${JSON.stringify(value)})`;
  return {
    allowed,
    rule: reason,
    // What a rule denies is not to be allowed by another.
    ...(rule === undefined && { suggestion: { capability: "network", value, call } }),
  };
}
