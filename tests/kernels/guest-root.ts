// The root directory of a machine of another architecture, where this machine's own cannot serve.
import { copyFileSync, mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fetchTree, type Architecture } from "./debian.ts";

/** What a small system has, and what the tests run. */
const packages = [
  ["base-files", "base-passwd", "bash", "coreutils", "dash", "diffutils", "findutils", "grep"],
  ["hostname", "libc-bin", "mawk", "mount", "procps", "sed", "tar", "util-linux"],
  [
    "acl",
    "attr",
    "btrfs-progs",
    "xfsprogs",
    "curl",
    "e2fsprogs",
    "git",
    "iproute2",
    "nodejs",
    "perl",
    "python3",
    "strace",
  ],
].flat();

/** Unpacks it into `directory` once. What the packages' own scripts would write is written here. */
export function fetchGuestRoot(
  release: string,
  architecture: Architecture,
  directory: string,
): string {
  const root = fetchTree(release, [architecture], packages, directory);
  const etc = path.join(root, "etc");
  mkdirSync(etc, { recursive: true });
  for (const name of ["passwd", "group"]) {
    copyFileSync(path.join(root, `usr/share/base-passwd/${name}.master`), path.join(etc, name));
  }
  copyFileSync(
    path.join(root, "usr/share/libc-bin/nsswitch.conf"),
    path.join(etc, "nsswitch.conf"),
  );
  writeFileSync(path.join(etc, "hostname"), "guest\n");
  writeFileSync(path.join(etc, "hosts"), "127.0.0.1 localhost guest\n::1 localhost\n");
  return root;
}
