import { readdirSync } from "node:fs";
import path from "node:path";
import type { Policy } from "../policy/policy.ts";
import { isBelow, stateDirectory } from "../state.ts";
import type { Never } from "./never.ts";

/** Not told by their names: they are made anew for each sandbox, or hold other processes. */
const special = ["/proc", "/dev", "/tmp"];

/**
 * Lets commands read and execute everything but secrets. nono's own records are not even granted and
 * then denied: they are left out.
 */
export function allButSecrets(never: Never, workspace: string): Policy {
  const all = allBut([stateDirectory(), ...special], "/");
  const exec = [...all, workspace];
  return { extends: "scratch", read: all, exec, deny: never.secretPatterns };
}

/**
 * The entries of a directory that are none of `omitted`, nor lead to them; of those, their entries. What can't be
 * looked at (a link to nothing, the mount of a server that is gone, what was deleted meanwhile) is no grant.
 */
function allBut(omitted: readonly string[], directory: string): string[] {
  return readdirSync(directory).flatMap((entry) => {
    const name = path.join(directory, entry);
    if (omitted.some((other) => isBelow(name, other))) return [];
    const leadsThere = omitted.some((other) => isBelow(other, name));
    return leadsThere ? allBut(omitted, name) : [`${name}?`];
  });
}
