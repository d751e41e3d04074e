// A directory with another system's programs, to run them in, by any user.
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import path from "node:path";
import { Unavailable } from "./debian.ts";

/** A directory of this machine, and where it is seen below the other one. */
export interface Mount {
  readonly from: string;
  readonly to: string;
}

/**
 * The arguments with which unshare(1) runs a command, which is to follow them, with `tree` as its root.
 *
 * @throws {@link Unavailable} where this user can make no user namespace
 */
export function inChroot(tree: string, mounts: readonly Mount[]): string[] {
  for (const { from, to } of mounts) {
    mkdirSync(from, { recursive: true });
    mkdirSync(path.join(tree, to), { recursive: true });
  }
  const script = [
    'set -e; cd "$0"',
    ...mounts.map(({ from, to }) => `mount --bind '${from}' ${to}`),
    "mount --rbind /proc proc; mount --rbind /dev dev",
    'exec chroot . "$@"',
  ].join("\n");
  const isolated = ["--map-root-user", "--mount"];
  if (spawnSync("unshare", [...isolated, "true"]).status !== 0)
    throw new Unavailable("this user can make no user namespace to compile in");
  return [...isolated, "sh", "-c", script, tree];
}
