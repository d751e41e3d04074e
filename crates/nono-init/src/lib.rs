//! The first process of every nono sandbox.
//!
//! This crate carries two things: [`PROGRAM`], the `nono-init` program as bytes, and [`protocol`],
//! what its owner and it say to each other over one `SOCK_SEQPACKET` socket.
//!
//! `nono-init` is a static program of a few kilobytes without libc. It never allocates: requests
//! arrive as memory files that it maps and uses in place. It
//!
//! 1. builds the sandbox from a plan (mounts, network, limits), locks itself in (Landlock, seccomp,
//!    no capabilities) and only then says that it is ready;
//! 2. starts commands on request, so that each one is born inside, and waits for none of them;
//! 3. reaps, and reports how each command ended;
//! 4. takes everything with it when its owner closes the socket or dies.
//!
//! The program lives in `init/`, outside `src/`, because it is compiled on its own (see `build.rs`).

#[allow(dead_code)]
pub mod protocol;

/// The `nono-init` program: a static ELF executable for the target this crate was built for.
/// Empty on systems other than Linux.
pub static PROGRAM: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/nono-init"));
