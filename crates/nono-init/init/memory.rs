//! What the compiler expects of a C library, and what keeps others out of this process's memory.

use crate::sys;

/// Commands run under the same user as `nono-init`. Not being dumpable makes the kernel ask for
/// CAP_SYS_PTRACE before it lets them trace it or open its `/proc` files (`ptrace(2)`,
/// `PR_SET_DUMPABLE` in `prctl(2)`).
pub fn become_undumpable() {
    sys::prctl(sys::PR_SET_DUMPABLE, 0, 0, 0, 0);
}

/// SAFETY (of all four): the compiler calls them with valid ranges, as it would call a C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    let mut at = 0;
    while at < length {
        // SAFETY: both ranges are `length` bytes long by contract.
        unsafe { *to.add(at) = *from.add(at) };
        at += 1;
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    if (to as usize) <= from as usize {
        // SAFETY: copying upwards never reads what it has overwritten when `to` is below `from`.
        return unsafe { memcpy(to, from, length) };
    }
    let mut at = length;
    while at > 0 {
        at -= 1;
        // SAFETY: both ranges are `length` bytes long by contract.
        unsafe { *to.add(at) = *from.add(at) };
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
    let mut at = 0;
    while at < length {
        // SAFETY: the range is `length` bytes long by contract.
        unsafe { *to.add(at) = byte as u8 };
        at += 1;
    }
    to
}

#[unsafe(no_mangle)]
unsafe extern "C" fn memcmp(a: *const u8, b: *const u8, length: usize) -> i32 {
    let mut at = 0;
    while at < length {
        // SAFETY: both ranges are `length` bytes long by contract.
        let (x, y) = unsafe { (*a.add(at), *b.add(at)) };
        if x != y {
            return i32::from(x) - i32::from(y);
        }
        at += 1;
    }
    0
}
