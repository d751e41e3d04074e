// Two policies made one: what either grants is granted; of single values the later one counts.
import type { GuaranteeName } from "@nono/core";
import { withoutUndefined } from "../without-undefined.ts";
import type { NetworkAccess, Policy, PolicyCredential, PolicyRollback } from "./policy.ts";

/** A policy with nothing left open: no variables, nothing to extend, every path absolute. */
export interface ResolvedPolicy extends Policy {
  readonly read: readonly string[];
  readonly write: readonly string[];
  readonly exec: readonly string[];
  readonly deny: readonly string[];
  readonly unixSockets: readonly string[];
  readonly network: "blocked" | "open" | NetworkAccess;
  readonly localhostPorts: readonly number[];
  readonly publish: readonly number[];
  readonly credentials: readonly PolicyCredential[];
  readonly env: {
    readonly allow: readonly string[];
    readonly set: Readonly<Record<string, string>>;
  };
  readonly limits: NonNullable<Policy["limits"]>;
  readonly rollback: boolean | PolicyRollback;
  readonly allowDegraded: readonly GuaranteeName[];
}

/** What grants nothing. */
export const emptyPolicy: ResolvedPolicy = {
  read: [],
  write: [],
  exec: [],
  deny: [],
  unixSockets: [],
  network: "blocked",
  localhostPorts: [],
  publish: [],
  credentials: [],
  env: { allow: [], set: {} },
  limits: {},
  rollback: false,
  allowDegraded: [],
};

/** `policy` on top of `base`. */
export function mergePolicies(base: ResolvedPolicy, policy: Policy): ResolvedPolicy {
  const single = { ...base, ...withoutUndefined(policy) };
  return {
    read: union(base.read, policy.read),
    write: union(base.write, policy.write),
    exec: union(base.exec, policy.exec),
    deny: union(base.deny, policy.deny),
    unixSockets: union(base.unixSockets, policy.unixSockets),
    network: mergeNetworks(base.network, policy.network),
    localhostPorts: union(base.localhostPorts, policy.localhostPorts),
    publish: union(base.publish, policy.publish),
    credentials: mergeCredentials(base.credentials, policy.credentials),
    env: {
      allow: union(base.env.allow, policy.env?.allow),
      set: { ...base.env.set, ...policy.env?.set },
    },
    limits: { ...base.limits, ...policy.limits },
    rollback: single.rollback,
    allowDegraded: union(base.allowDegraded, policy.allowDegraded),
    ...withoutUndefined({
      protect: single.protect,
      privateTmp: single.privateTmp,
      baseProfile: single.baseProfile,
    }),
  };
}

/** `added` on top of `base`: hosts, denials and rules add up; a word takes the place of what was before it. */
export function mergeNetworks(
  base: ResolvedPolicy["network"],
  added: Policy["network"],
): ResolvedPolicy["network"] {
  if (added === undefined) return base;
  if (typeof base === "string" || typeof added === "string") return added;
  return {
    allow: union(base.allow, added.allow),
    ...((base.deny ?? added.deny) && { deny: union(base.deny, added.deny) }),
    ...((base.rules ?? added.rules) && { rules: [...(base.rules ?? []), ...(added.rules ?? [])] }),
  };
}

function mergeCredentials(
  base: readonly PolicyCredential[],
  added: readonly PolicyCredential[] = [],
): readonly PolicyCredential[] {
  const replaced = new Set(added.map(({ name }) => name));
  return [...base.filter(({ name }) => !replaced.has(name)), ...added];
}

function union<T>(base: readonly T[] = [], added: readonly T[] = []): readonly T[] {
  return [...new Set([...base, ...added])];
}
