// Kernels of Debian's releases: found, downloaded and unpacked by apt and dpkg, never installed.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import process from "node:process";

/** A kernel on disk, with what a machine is made of. */
export interface Kernel {
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
export function fetchKernel(release: string, directory: string): Kernel {
  const root = path.join(directory, "root");
  if (!existsSync(root)) download(release, directory, root);
  const files = readdirSync(root, { recursive: true }).map((file) => path.join(root, String(file)));
  const image = files.find((file) => /\/boot\/vmlinuz-/.test(file));
  const busybox = files.find((file) => file.endsWith("/bin/busybox"));
  if (!image || !busybox) throw new Unavailable(`no kernel in the packages of ${release}`);
  const modules = files.filter((file) => /\.ko(\.xz)?$/.test(file));
  return { image, busybox, modules: new Map(modules.map((file) => [moduleName(file), file])) };
}

/** As the kernel knows a module, which its file may spell with dashes. */
export function moduleName(file: string): string {
  return path
    .basename(file)
    .replace(/\.ko(\.xz)?$/, "")
    .replaceAll("-", "_");
}

function download(release: string, directory: string, root: string): void {
  const state = path.join(directory, "apt");
  for (const place of ["lists/partial", "cache/archives/partial"]) {
    mkdirSync(path.join(state, place), { recursive: true });
  }
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
    "APT::Architecture=amd64",
    "APT::Sandbox::User=", // the other user may not reach this directory
  ].flatMap((setting) => ["-o", setting]);
  run("apt-get", [...settings, "update"], state);
  const depends = run("apt-cache", [...settings, "depends", "linux-image-amd64"], state);
  const image = /Depends: (linux-image-\d\S*)/.exec(depends)?.[1];
  if (image === undefined) throw new Unavailable(`no kernel package in ${release}`);
  run("apt-get", [...settings, "download", image, "busybox-static"], state);
  for (const archive of readdirSync(state).filter((file) => file.endsWith(".deb"))) {
    run("dpkg-deb", ["--extract", archive, "root"], state);
  }
  renameSync(path.join(state, "root"), root); // complete, or not there
  rmSync(state, { recursive: true });
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
  });
  if (error) throw new Unavailable(`${program} does not start: ${error.message}`);
  if (status !== 0) throw new Unavailable(`${program} ${args.at(-1)} failed: ${stderr.trim()}`);
  return stdout;
}
