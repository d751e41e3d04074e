// Programs for another architecture: built by Debian's own cross compilers in a directory of
// their own, with the sources and cargo's registry of this machine.
import { spawnSync } from "node:child_process";
import { homedir } from "node:os";
import path from "node:path";
import process from "node:process";
import { inChroot } from "./chroot.ts";
import { fetchTree } from "./debian.ts";
import { executablesOf, type TestBinary } from "../../scripts/test-binaries.ts";

const target = "aarch64-unknown-linux-gnu";
const compilers = [
  ["rustc", "cargo", "libstd-rust-dev", "libstd-rust-dev:arm64"],
  ["gcc", "libc6-dev", "gcc-aarch64-linux-gnu", "libc6-dev:arm64", "bash", "coreutils"],
].flat();

const environment = [
  "PATH=/usr/bin",
  "CARGO_HOME=/cargo",
  "CARGO_TARGET_DIR=/built",
  "CARGO_PROFILE_DEV_DEBUG=0",
  // There is no cc: what stands for it is decided when packages are configured.
  "CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=gcc",
  "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc",
];

/** Cargo, as it makes arm64's programs of one of Debian's releases. */
export class CrossCompiler {
  readonly #project = path.resolve(import.meta.dirname, "../..");
  readonly #built: string;
  readonly #command: readonly string[];

  /** @throws Unavailable without the compilers, or a user namespace to run them in */
  constructor(release: string, directory: string) {
    const tree = fetchTree(release, ["amd64", "arm64"], compilers, directory);
    this.#built = path.join(directory, "built");
    const registry = path.join(process.env["CARGO_HOME"] ?? `${homedir()}/.cargo`, "registry");
    must("cargo", ["fetch", "--locked"], this.#project);
    const mounts = [
      { from: this.#project, to: "project" },
      { from: registry, to: "cargo/registry" },
      { from: this.#built, to: "built" },
    ];
    const inside = ["/usr/bin/env", "-i", "-C", "/project", ...environment, "cargo"];
    this.#command = [...inChroot(tree, mounts), ...inside];
  }

  /**
   * The test binaries that `selection` selects, in cargo's words.
   *
   * @throws Error if they do not build; the compiler has said why on stderr
   */
  tests(...selection: string[]): TestBinary[] {
    const messages = this.#run("test", "--no-run", "--message-format=json", ...selection);
    return executablesOf(messages).map(({ executable, directory }) => ({
      executable: executable.replace(/^\/built/, this.#built),
      directory: directory.replace(/^\/project/, this.#project),
    }));
  }

  /** The library of a crate that is one for C, such as an addon. */
  library(crate: string): string {
    this.#run("build", "--lib", "--package", crate);
    return path.join(this.#built, target, "debug", `lib${crate.replaceAll("-", "_")}.so`);
  }

  #run(command: string, ...args: string[]): string {
    const all = [...this.#command, command, "--offline", "--locked", "--target", target, ...args];
    const { status, stdout } = spawnSync("unshare", all, {
      encoding: "utf8",
      stdio: ["ignore", "pipe", "inherit"],
      maxBuffer: 256 * 1024 ** 2,
    });
    if (status !== 0) throw new Error(`cargo ${command} ${args.join(" ")} failed for arm64`);
    return stdout;
  }
}

function must(program: string, args: string[], cwd: string): void {
  const { status, error } = spawnSync(program, args, {
    cwd,
    stdio: ["ignore", "ignore", "inherit"],
  });
  if (error) throw error;
  if (status !== 0) throw new Error(`${program} ${args.join(" ")} failed`);
}
