//! Settling into a new user namespace, before execve, in memory shared with the owner: system calls
//! only, on prepared buffers.

use std::ffi::CStr;

/// Maps the user and group to themselves, and makes the capabilities of the new namespace survive
/// the execve of `nono-init`, which builds the sandbox with them and then drops them.
pub(crate) fn settle(uid_map: &str, gid_map: &str) -> Result<(), i32> {
    // A process may map its own group only after giving up setgroups (`user_namespaces(7)`).
    write_file(c"/proc/self/setgroups", "deny")?;
    write_file(c"/proc/self/uid_map", uid_map)?;
    write_file(c"/proc/self/gid_map", gid_map)?;
    keep_capabilities()
}

fn write_file(path: &CStr, contents: &str) -> Result<(), i32> {
    // SAFETY: a C string, and a buffer of the length that is told.
    unsafe {
        let file = libc::open(path.as_ptr(), libc::O_WRONLY | libc::O_CLOEXEC);
        if file < 0 {
            return Err(errno());
        }
        let written = libc::write(file, contents.as_ptr().cast(), contents.len());
        let result = if written == contents.len() as isize { Ok(()) } else { Err(errno()) };
        libc::close(file);
        result
    }
}

/// A user other than root loses all capabilities at execve, but for ambient ones, which must be
/// inheritable first (`capabilities(7)`).
fn keep_capabilities() -> Result<(), i32> {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    // Two blocks of effective, permitted and inheritable, each for 32 capabilities.
    let mut sets = [0u32; 6];
    // SAFETY: the arrays have the layout and length of `struct __user_cap_header_struct` and of two
    // `struct __user_cap_data_struct`.
    unsafe {
        if libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()) != 0 {
            return Err(errno());
        }
        (sets[2], sets[5]) = (sets[1], sets[4]);
        if libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) != 0 {
            return Err(errno());
        }
        let permitted = u64::from(sets[4]) << 32 | u64::from(sets[1]);
        for capability in 0..64 {
            if permitted & 1 << capability != 0 {
                libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, capability, 0, 0);
            }
        }
    }
    Ok(())
}

fn errno() -> i32 {
    // SAFETY: always valid on the calling thread.
    unsafe { *libc::__errno_location() }
}
