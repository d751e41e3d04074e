//! What the supervisor's threads give up. All of it belongs to the calling thread alone.

use std::io;

/// `CAP_SYS_PTRACE`: looking at processes of root, which the supervisor does if its owner is root.
pub(super) const SYS_PTRACE: u32 = 19;

/// Drops all capabilities but those listed: an owner that is root would otherwise reach, on a
/// command's behalf, what a root without capabilities cannot.
pub(super) fn drop_capabilities(kept: &[u32]) -> io::Result<()> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    let mask = kept.iter().fold(0u64, |mask, capability| mask | 1 << capability);
    let halves = [mask as u32, (mask >> 32) as u32];
    // Two blocks of effective, permitted and inheritable, each for 32 capabilities.
    let mut sets = [0u32; 6];
    // SAFETY: the arrays have the layout and length of `struct __user_cap_header_struct` and of two
    // `struct __user_cap_data_struct`.
    unsafe {
        if libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        for (block, half) in halves.into_iter().enumerate() {
            sets[3 * block] &= half;
            sets[3 * block + 1] &= half;
            sets[3 * block + 2] = 0;
        }
        if libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Gives this thread a file mode mask and a working directory of its own (`unshare(2)`, CLONE_FS).
pub(super) fn keep_own_directory_and_mask() -> io::Result<()> {
    // SAFETY: no memory is involved.
    match unsafe { libc::unshare(libc::CLONE_FS) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
