import type { Host } from "../host.ts";
import type { Policy } from "../policy.ts";

/** A policy that comes with nono, for a tool as it is installed on this machine. */
export interface Preset {
  /** One line for `nono policy list`. */
  readonly summary: string;
  policy(host: Host): Policy;
}
