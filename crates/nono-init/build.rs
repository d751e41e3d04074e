//! Compiles the `nono-init` program and leaves it where `src/lib.rs` embeds it.
//!
//! It is a `no_std` program without start files, which Cargo cannot build next to ordinary crates
//! (one profile, one panic strategy for all). One rustc call can.

use std::{env, path::PathBuf, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=init");
    println!("cargo::rerun-if-changed=src/protocol.rs");

    let variable = |name: &str| env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    if variable("CARGO_CFG_TARGET_OS") != "linux" {
        let out = PathBuf::from(variable("OUT_DIR")).join("nono-init");
        return std::fs::write(out, []).expect("OUT_DIR is writable");
    }

    let mut rustc = Command::new(variable("RUSTC"));
    rustc
        .args(["--edition", "2024", "--crate-type", "bin", "--crate-name", "nono_init"])
        .args(["--target", &variable("TARGET")])
        .args(["-C", "panic=abort", "-C", "opt-level=s", "-C", "strip=symbols"])
        .args(["-C", "relocation-model=static", "-C", "target-feature=+crt-static"])
        .args(["-C", "link-arg=-nostartfiles", "-C", "link-arg=-nostdlib"])
        .args(["-C", "link-arg=-static", "-C", "link-arg=-no-pie"])
        .arg("-o")
        .arg(PathBuf::from(variable("OUT_DIR")).join("nono-init"))
        .arg("init/main.rs");
    if variable("CARGO_CFG_TARGET_ENV") == "musl" {
        // rustc would add its own start files all the same. (Elsewhere the linker is part of what it
        // contains.)
        rustc.args(["-C", "link-self-contained=no"]);
    }
    if let Ok(linker) = env::var("RUSTC_LINKER") {
        rustc.args(["-C", &format!("linker={linker}")]);
    }
    let status = rustc.status().expect("rustc starts");
    assert!(status.success(), "nono-init did not compile");
}
