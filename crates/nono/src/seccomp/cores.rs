//! No command has a core written, and none brings it about again.
//!
//! Where a program of the machine takes cores, it is run for each process that crashes, as root and outside
//! (`core(5)`, piping core dumps to a program). It looks at processes that an attacker has made, and has
//! been a way out of sandboxes before. No limit keeps it from being run but one of exactly 1
//! (`coredump_pipe` in fs/coredump.c), below which a process could go.

use super::filter::{Action, Rules, argument, upper_half};

/// The limit that each process starts with, in bytes.
pub(crate) const LIMIT: u64 = 1;

/// Has the limit seem to be set: programs that set it want no cores, or get none.
pub(super) fn keep_limit(rules: &mut Rules) {
    let seemingly = Action::Errno(0);
    let cores = |index: usize| argument(index).is(libc::RLIMIT_CORE as i32);
    rules.decide_first(libc::SYS_setrlimit, [(vec![cores(0)], seemingly)]);
    // With a null pointer it is only asked for.
    let halves = [argument(2), upper_half(2)].map(|half| half.is_not(0));
    let clauses = halves.map(|pointer| (vec![cores(1), pointer], seemingly));
    rules.decide_first(libc::SYS_prlimit64, clauses);
}
