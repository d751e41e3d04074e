//! What `nono-init` gives up before it serves. Commands inherit all of it; none of it can be undone.

use crate::failure::Failure;
use crate::payload::Payload;
use crate::protocol::{self, Limit, Plan};
use crate::sys::{self, Result, call};

/// Limits, capabilities, privileges, file access, system calls, in this order: each step needs what
/// a later one takes away. Returns the seccomp listener if the plan asks for one.
pub fn lock_down(
    payload: &Payload,
    plan: &Plan,
    ruleset: i32,
) -> core::result::Result<Option<i32>, Failure> {
    set_limits(payload, plan).map_err(Failure::at(protocol::STAGE_LIMITS))?;
    drop_capabilities().map_err(Failure::at(protocol::STAGE_CAPABILITIES))?;
    if sys::prctl(sys::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
        return Err(Failure { stage: protocol::STAGE_NO_NEW_PRIVS, errno: sys::EINVAL });
    }
    if plan.flags & protocol::PLAN_LANDLOCK != 0 {
        call!(LANDLOCK_RESTRICT_SELF, ruleset, 0).map_err(Failure::at(protocol::STAGE_LANDLOCK))?;
        sys::close(ruleset);
    }
    install_filter(payload, plan).map_err(Failure::at(protocol::STAGE_SECCOMP))
}

fn set_limits(payload: &Payload, plan: &Plan) -> Result<()> {
    raise_own_open_files()?;
    let mut at = 0;
    while at < plan.limit_count as usize {
        let limit: Limit = payload.read(plan.limits as usize + at * size_of::<Limit>());
        let pair = [limit.soft, limit.hard];
        call!(PRLIMIT64, 0, limit.resource, pair.as_ptr(), 0)?;
        at += 1;
    }
    Ok(())
}

/// As far as the kernel lets us: as many descriptors as this limit says may be on their way in messages of the
/// same user (`too_many_unix_fds` in net/core/scm.c), and commands have a lower one.
fn raise_own_open_files() -> Result<()> {
    let mut pair = [0u64; 2];
    call!(PRLIMIT64, 0, sys::RLIMIT_NOFILE, 0, pair.as_mut_ptr())?;
    pair[0] = pair[1];
    call!(PRLIMIT64, 0, sys::RLIMIT_NOFILE, pair.as_ptr(), 0).map(|_| ())
}

/// All sets empty. That alone holds under `no_new_privs`, which keeps execve from adding to the
/// permitted set, for root too (`cap_bprm_creds_from_file`, security/commoncap.c). The bounding set
/// and secure bits are a second lock where we may turn it (CAP_SETPCAP).
fn drop_capabilities() -> Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    const PR_CAP_AMBIENT_CLEAR_ALL: u64 = 4;
    /// NOROOT, NO_SETUID_FIXUP and NO_CAP_AMBIENT_RAISE with their locks, KEEP_CAPS locked off.
    const SECUREBITS: u64 = 0b1110_1111;
    let mut capability = 0;
    while sys::prctl(sys::PR_CAPBSET_DROP, capability, 0, 0, 0) != -(sys::EINVAL as isize)
        && capability < 64
    {
        capability += 1;
    }
    sys::prctl(sys::PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    sys::prctl(sys::PR_SET_SECUREBITS, SECUREBITS, 0, 0, 0);
    let header = [VERSION_3, 0];
    let none = [0u32; 6];
    call!(CAPSET, header.as_ptr(), none.as_ptr()).map(|_| ())
}

#[repr(C)]
struct FilterProgram {
    length: u16,
    instructions: *const u8,
}

fn install_filter(payload: &Payload, plan: &Plan) -> Result<Option<i32>> {
    const SET_MODE_FILTER: u64 = 1;
    const NEW_LISTENER: u64 = 8;
    const WAIT_KILLABLE_RECV: u64 = 32;
    if plan.filter_count == 0 {
        return Ok(None);
    }
    let program = FilterProgram {
        length: plan.filter_count as u16,
        instructions: payload.string(plan.filter),
    };
    if plan.flags & protocol::PLAN_LISTENER == 0 {
        return call!(SECCOMP, SET_MODE_FILTER, 0, &raw const program).map(|_| None);
    }
    // WAIT_KILLABLE_RECV (5.19): a signal does not make the kernel forget a call that the
    // supervisor is already answering. Older kernels may repeat such a call.
    let flags = NEW_LISTENER | WAIT_KILLABLE_RECV;
    let listener = call!(SECCOMP, SET_MODE_FILTER, flags, &raw const program)
        .or_else(|_| call!(SECCOMP, SET_MODE_FILTER, NEW_LISTENER, &raw const program))?;
    Ok(Some(sys::move_high(listener as i32)))
}
