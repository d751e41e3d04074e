// Packages of Debian's releases: found, downloaded and unpacked by apt and dpkg, never installed.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";

/** As Debian calls it. */
export type Architecture = "amd64" | "arm64";

/** A kernel on disk, with what a machine is made of. */
export interface Kernel {
  readonly architecture: Architecture;
  readonly image: string;
  /** Files of its modules, by name. */
  readonly modules: ReadonlyMap<string, string>;
  /** Statically linked. */
  readonly busybox: string;
}

/** Something that cannot be had here; the message says what and why. */
export class Unavailable extends Error {}

const keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";

/**
 * The kernel of a release, from the mirror that this machine's apt uses. It is downloaded into
 * `directory` once.
 *
 * @throws {@link Unavailable} without apt, a mirror or the package
 */
export function fetchKernel(
  release: string,
  architecture: Architecture,
  directory: string,
): Kernel {
  const root = once(directory, "root", (state) => {
    const apt = aptOf(release, [architecture], state);
    const parts = (name: string) =>
      Array.from(
        apt("apt-cache", "depends", name).matchAll(
          /Depends: (linux-(?:image|binary|modules)-\d\S*)/g,
        ),
        ([, part]) => part ?? "",
      );
    const image = parts(`linux-image-${architecture}`)[0];
    if (image === undefined) throw new Unavailable(`no kernel package in ${release}`);
    // Since forky the image and its modules are in packages of their own.
    apt("apt-get", "download", image, ...parts(image), "busybox-static");
    return state;
  });
  const files = readdirSync(root, { recursive: true }).map((file) => path.join(root, String(file)));
  const image = files.find((file) => /\/vmlinuz(-[^/]*)?$/.test(file));
  const busybox = files.find((file) => file.endsWith("/bin/busybox"));
  if (!image || !busybox) throw new Unavailable(`no kernel in the packages of ${release}`);
  const modules = files.filter((file) => /\.ko(\.xz)?$/.test(file));
  const byName = new Map(modules.map((file) => [moduleName(file), file]));
  return { architecture, image, busybox, modules: byName };
}

/**
 * A directory with packages and all that they depend on, unpacked but not configured: none of their
 * scripts has run. The first architecture is that of packages which do not say theirs.
 *
 * @throws {@link Unavailable} without apt, a mirror or a package
 */
export function fetchTree(
  release: string,
  architectures: readonly Architecture[],
  packages: readonly string[],
  directory: string,
): string {
  return once(directory, "tree", (state) => {
    const apt = aptOf(release, architectures, state);
    apt("apt-get", "--yes", "--no-install-recommends", "--download-only", "install", ...packages);
    return path.join(state, "cache/archives");
  });
}

/** As the kernel knows a module, which its file may spell with dashes. */
export function moduleName(file: string): string {
  return path
    .basename(file)
    .replace(/\.ko(\.xz)?$/, "")
    .replaceAll("-", "_");
}

/** The unpacked archives, from where `download` leaves them: complete, or not there. */
function once(directory: string, name: string, download: (state: string) => string): string {
  const root = path.join(directory, name);
  if (existsSync(root)) return root;
  const state = path.join(directory, "apt");
  for (const place of ["lists/partial", "cache/archives/partial"]) {
    mkdirSync(path.join(state, place), { recursive: true });
  }
  const archives = download(state);
  const unpacked = path.join(state, "unpacked");
  for (const archive of readdirSync(archives).filter((file) => file.endsWith(".deb"))) {
    run("dpkg-deb", ["--extract", path.join(archives, archive), unpacked], state);
  }
  renameSync(unpacked, root);
  rmSync(state, { recursive: true });
  return root;
}

/** Programs of apt that see one release, and nothing installed; after its lists were fetched. */
function aptOf(release: string, architectures: readonly Architecture[], state: string) {
  const sources = path.join(state, "sources.list");
  writeFileSync(sources, `deb [signed-by=${keyring}] ${mirror()} ${release} main\n`);
  writeFileSync(path.join(state, "status"), "");
  const settings = [
    `Dir::State=${state}`,
    `Dir::State::Lists=${state}/lists`,
    `Dir::State::status=${state}/status`,
    `Dir::Cache=${state}/cache`,
    `Dir::Etc::SourceList=${sources}`,
    "Dir::Etc::SourceParts=/dev/null",
    `APT::Architecture=${architectures[0]}`,
    ...architectures.map((architecture) => `APT::Architectures::=${architecture}`),
    "Acquire::Check-Valid-Until=false", // a mirror may be of some day in the past
    "Debug::NoLocking=true",
    "APT::Sandbox::User=", // the other user may not reach this directory
  ].flatMap((setting) => ["-o", setting]);
  const apt = (program: string, ...args: string[]) => run(program, [...settings, ...args], state);
  apt("apt-get", "update");
  return apt;
}

function mirror(): string {
  if (!existsSync(keyring)) throw new Unavailable(`there is no ${keyring}`);
  const format = "$(LABEL) $(REPO_URI)";
  const targets = run("apt-get", ["indextargets", "--format", format, "Created-By: Packages"], "/");
  const found = /^Debian (\S+)$/m.exec(targets)?.[1];
  if (found === undefined) throw new Unavailable("there is no mirror of Debian in apt's sources");
  return found;
}

function run(program: string, args: string[], cwd: string): string {
  const env = { ...process.env, LC_ALL: "C" };
  const { status, stdout, stderr, error } = spawnSync(program, args, {
    cwd,
    env,
    encoding: "utf8",
    maxBuffer: 64 * 1024 ** 2,
  });
  if (error) throw new Unavailable(`${program} does not start: ${error.message}`);
  if (status !== 0) throw new Unavailable(`${program} ${args.at(-1)} failed: ${stderr.trim()}`);
  return stdout;
}
