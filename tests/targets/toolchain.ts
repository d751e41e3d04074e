// What releases are built with, for every platform from one machine: the linker of release.yml (zig, which
// has every platform's C library) from PyPI, and Debian's Rust with the sources of its standard library,
// of which each target's is built here. It is left where rustup would put it, so that the commands are
// those of a release.
import { spawnSync } from "node:child_process";
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import path from "node:path";
import process from "node:process";
import { inChroot } from "../kernels/chroot.ts";
import { fetchTree, Unavailable } from "../kernels/debian.ts";
import { fetchWheel } from "./wheel.ts";

const project = path.resolve(import.meta.dirname, "../..");
const release = "forky"; // has a Rust that is new enough
const packages = [
  ["rustc", "cargo", "rust-src", "gcc", "libc6-dev", "coreutils", "dash"],
  ["musl", "busybox-static"], // for the system that the addons are tried on
].flat();

/** A platform that release.yml builds for. */
export interface Target {
  /** As Rust calls it. */
  readonly triple: string;
  /** The oldest glibc that it is to load on, as cargo-zigbuild takes it; empty for other C libraries. */
  readonly glibc: string;
  /** Nothing is published for it as long as it does not build. */
  readonly isOptional: boolean;
}

const workflow = readFileSync(path.join(project, ".github/workflows/release.yml"), "utf8");

/** The matrix of release.yml. */
export const targets: readonly Target[] = Array.from(
  workflow.matchAll(/- \{ target: ([\w-]+)(.*) \}/g),
  ([, triple = "", rest = ""]) => ({
    triple,
    glibc: /glibc: ([\d.]+)/.exec(rest)?.[1] ?? "",
    isOptional: rest.includes("optional: true"),
  }),
);

/** Cargo with zig as its linker, in Debian's tree. */
export class Toolchain {
  readonly tree: string;
  readonly #built: string;
  readonly #command: readonly string[];

  /** @throws {@link Unavailable} without the packages, or a user namespace to run them in */
  constructor(directory: string) {
    this.tree = fetchTree(release, ["amd64"], packages, directory);
    this.#built = path.join(directory, "built");
    const zig = fetchWheel(
      { name: "ziglang", version: version(/setup-zig@[^]*?version: ([\d.]+)/), program: "*/zig" },
      directory,
    );
    const zigbuild = fetchWheel(
      {
        name: "cargo-zigbuild",
        version: version(/cargo-zigbuild@([\d.]+)/),
        program: "*/*/cargo-zigbuild",
      },
      directory,
    );
    // Debian's alternatives would make it, when packages are configured.
    if (!existsSync(path.join(this.tree, "usr/bin/cc")))
      symlinkSync("gcc", path.join(this.tree, "usr/bin/cc"));
    const registry = path.join(process.env["CARGO_HOME"] ?? `${homedir()}/.cargo`, "registry");
    for (const manifest of [project, `${this.tree}/usr/lib/rustlib/src/rust/library`])
      fetch(manifest);
    const mounts = [
      { from: project, to: "src" },
      { from: registry, to: "root/.cargo/registry" },
      { from: this.#built, to: "target" },
      { from: path.dirname(zig), to: "opt/zig" },
      { from: path.dirname(zigbuild), to: "opt/cargo-zigbuild" },
    ];
    const environment = [
      "PATH=/usr/bin:/opt/cargo-zigbuild",
      "HOME=/root",
      "CARGO_HOME=/root/.cargo",
      "CARGO_TARGET_DIR=/target",
      "CARGO_ZIGBUILD_ZIG_PATH=/opt/zig/zig",
      // Whether it builds and works does not depend on it, and it takes most of the time.
      "CARGO_PROFILE_RELEASE_LTO=off",
      "CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16",
    ];
    this.#command = [
      ...inChroot(this.tree, mounts),
      "/usr/bin/env",
      "-i",
      "-C",
      "/src",
      ...environment,
    ];
  }

  /** Builds a crate's addon as release.yml does; undefined if it does not build: the compiler has said why. */
  addon({ triple, glibc }: Target, crate: string): string | undefined {
    this.#standardLibrary(triple);
    // What napi adds for musl: the addon is loaded by a program that brings the C library.
    const isMusl = triple.endsWith("musl");
    const environment = isMusl ? ["RUSTFLAGS=-C target-feature=-crt-static"] : [];
    const target = ["--target", `${triple}${glibc}`, "--package", crate];
    if (!this.#cargo(environment, "zigbuild", "--release", "--locked", ...target)) return undefined;
    const suffix = triple.endsWith("darwin") ? "dylib" : "so";
    const library = `lib${crate.replaceAll("-", "_")}.${suffix}`;
    return path.join(this.#built, triple, "release", library);
  }

  #standardLibrary(triple: string): void {
    const place = path.join(this.tree, "usr/lib/rustlib", triple, "lib");
    if (existsSync(place)) return;
    const crate = path.join(this.#built, "standard-library");
    mkdirSync(path.join(crate, "src"), { recursive: true });
    writeFileSync(path.join(crate, "src/lib.rs"), "");
    const manifest = '[package]\nname = "standard-library"\nedition = "2024"\n[workspace]\n';
    writeFileSync(path.join(crate, "Cargo.toml"), manifest);
    const environment = ["RUSTC_BOOTSTRAP=1", "CARGO_TARGET_DIR=/target/standard-library/target"];
    const from = ["--manifest-path", "/target/standard-library/Cargo.toml"];
    const std = ["-Zbuild-std=std,panic_abort", "--target", triple];
    if (!this.#cargo(environment, "build", "--release", ...from, ...std))
      throw new Unavailable(`Rust's standard library does not build for ${triple}`);
    const built = path.join(crate, "target", triple, "release/deps");
    const unfinished = `${place}.unfinished`;
    for (const name of readdirSync(built).filter((one) => one.endsWith(".rlib"))) {
      if (!name.startsWith("libstandard_library"))
        cpSync(path.join(built, name), path.join(unfinished, name));
    }
    renameSync(unfinished, place);
  }

  #cargo(environment: readonly string[], command: string, ...args: string[]): boolean {
    const inside = [...environment, "cargo", command, "--offline", ...args];
    const { status } = spawnSync("unshare", [...this.#command, ...inside], {
      stdio: ["ignore", "inherit", "inherit"],
    });
    return status === 0;
  }
}

function version(pattern: RegExp): string {
  const found = pattern.exec(workflow)?.[1];
  if (found === undefined) throw new Error(`release.yml has nothing like ${pattern}`);
  return found;
}

function fetch(manifest: string): void {
  const args = ["fetch", "--locked", "--manifest-path", path.join(manifest, "Cargo.toml")];
  const env = { ...process.env, RUSTC_BOOTSTRAP: "1" }; // the standard library's names unstable features
  const { status, stderr, error } = spawnSync("cargo", args, { env, encoding: "utf8" });
  if (error) throw new Unavailable(`cargo does not start: ${error.message}`);
  if (status !== 0) throw new Unavailable(`cargo fetch failed: ${stderr.trim()}`);
}
