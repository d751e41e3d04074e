#!/bin/sh
# nono-init is compiled by its crate's build script, where cargo's own checks do not see it.
set -eu
main=crates/nono-init/init/main.rs
rustfmt --edition 2024 --check --config-path rustfmt.toml "$main"
clippy-driver --edition 2024 --crate-type bin --crate-name nono_init -C panic=abort --emit=metadata \
  -o "$(mktemp -d)/nono-init.rmeta" "$main" -D warnings -D clippy::undocumented_unsafe_blocks
