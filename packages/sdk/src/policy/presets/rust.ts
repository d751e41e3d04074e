import type { Preset } from "./preset.ts";

const toolchain = [
  "cargo",
  "rustc",
  "rustdoc?",
  "rustfmt?",
  "cargo-clippy?",
  "clippy-driver?",
  "$HOME/.rustup/toolchains?",
];

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
];

/**
 * Cargo and rustc, with the system's linker. Build scripts and tests are programs that the build has
 * made, so what is in `$WORKSPACE` may be executed. What cargo fetches needs `crates-io` besides.
 */
export const rust: Preset = {
  summary: "cargo, rustc and the system's linker; executes what it builds",
  policy: () => ({
    extends: "scratch",
    exec: [...toolchain, ...linker, "$WORKSPACE"],
    read: ["$HOME/.rustup?", "$WORKSPACE"],
    env: {
      set: {
        // Not the user's: its registry is source code that later builds outside would run.
        CARGO_HOME: "$SCRATCH/cargo",
        RUSTUP_HOME: "$HOME/.rustup",
        RUSTUP_AUTO_INSTALL: "0",
      },
    },
  }),
};
