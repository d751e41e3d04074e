import { type Dirent, readdirSync, realpathSync } from "node:fs";
import path from "node:path";
import type { Host } from "../host.ts";
import { below, developerTools } from "./installation.ts";
import type { Preset } from "./preset.ts";

const programs = ["cargo", "rustc", "rustdoc?", "rustfmt?", "cargo-clippy?", "clippy-driver?"];

const linker = [
  "cc",
  "gcc?",
  "clang?",
  "ld",
  "ld.lld?",
  "lld?",
  "as?",
  "ar?",
  "strip?",
  "/usr/lib/gcc?",
  "/usr/libexec/gcc?",
  ...developerTools,
];

/**
 * Cargo and rustc, with the system's linker. Build scripts and tests are programs that the build has
 * made, so what is in `$WORKSPACE` may be executed. What cargo fetches needs `crates-io` besides.
 */
export const rust: Preset = {
  summary: "cargo, rustc and the system's linker; executes what it builds",
  policy: (host) => {
    const rustup = host.named("RUSTUP_HOME") ?? path.join(host.home, ".rustup");
    const toolchains = [`${rustup}/toolchains?`, ...linked(host, `${rustup}/toolchains`)];
    const sysroot = host.askPath("rustc", ["--print", "sysroot"], { RUSTUP_AUTO_INSTALL: "0" });
    return {
      extends: "scratch",
      exec: [
        ...programs,
        ...linker,
        ...toolchains,
        ...(sysroot === undefined ? [] : [`${sysroot}/lib/rustlib?`]),
        "$WORKSPACE",
      ],
      read: [
        ...toolchains,
        `${rustup}/settings.toml?`,
        ...(sysroot === undefined ? [] : below(host, sysroot)),
        ...developerTools,
        "$WORKSPACE",
      ],
      env: {
        allow: ["RUSTUP_TOOLCHAIN"],
        set: {
          // Not the user's: its registry is source code that later builds outside would run.
          CARGO_HOME: "$SCRATCH/cargo",
          RUSTUP_HOME: rustup,
          RUSTUP_AUTO_INSTALL: "0",
        },
      },
    };
  },
};

/** What `rustup toolchain link` has put there. */
function linked(host: Host, toolchains: string): string[] {
  return entriesOf(toolchains)
    .filter((entry) => entry.isSymbolicLink())
    .map((entry) => path.join(toolchains, entry.name))
    .filter((link) => host.exists(link))
    .map((link) => realpathSync(link))
    .filter((toolchain) => !host.isTooWide(toolchain))
    .map((toolchain) => `${toolchain}?`);
}

/** None, where there is no such directory for this user. */
function entriesOf(directory: string): Dirent[] {
  try {
    return readdirSync(directory, { withFileTypes: true });
  } catch {
    return [];
  }
}
