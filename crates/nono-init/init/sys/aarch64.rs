//! System calls on AArch64.

use core::arch::asm;

/// Numbers from `include/uapi/asm-generic/unistd.h`.
pub mod nr {
    pub const FCNTL: u64 = 25;
    pub const DUP3: u64 = 24;
    pub const PIPE2: u64 = 59;
    pub const IOCTL: u64 = 29;
    pub const MKDIRAT: u64 = 34;
    pub const SYMLINKAT: u64 = 36;
    pub const MOUNT: u64 = 40;
    pub const CHDIR: u64 = 49;
    pub const FCHDIR: u64 = 50;
    pub const OPENAT: u64 = 56;
    pub const CLOSE: u64 = 57;
    pub const READ: u64 = 63;
    pub const WRITE: u64 = 64;
    pub const PPOLL: u64 = 73;
    pub const SIGNALFD4: u64 = 74;
    pub const FSTAT: u64 = 80;
    pub const CAPSET: u64 = 91;
    pub const CLOCK_GETTIME: u64 = 113;
    pub const EXIT: u64 = 93;
    pub const KILL: u64 = 129;
    pub const RT_SIGACTION: u64 = 134;
    pub const RT_SIGPROCMASK: u64 = 135;
    pub const SETSID: u64 = 157;
    pub const PRCTL: u64 = 167;
    pub const SOCKET: u64 = 198;
    pub const BIND: u64 = 200;
    pub const LISTEN: u64 = 201;
    pub const SENDTO: u64 = 206;
    pub const RECVFROM: u64 = 207;
    pub const SETSOCKOPT: u64 = 208;
    pub const SENDMSG: u64 = 211;
    pub const RECVMSG: u64 = 212;
    pub const MUNMAP: u64 = 215;
    pub const CLONE: u64 = 220;
    pub const PRLIMIT64: u64 = 261;
    pub const EXECVE: u64 = 221;
    pub const MMAP: u64 = 222;
    pub const WAIT4: u64 = 260;
    pub const SECCOMP: u64 = 277;
    pub const OPEN_TREE: u64 = 428;
    pub const MOVE_MOUNT: u64 = 429;
    pub const OPENAT2: u64 = 437;
    pub const MOUNT_SETATTR: u64 = 442;
    pub const LANDLOCK_CREATE_RULESET: u64 = 444;
    pub const LANDLOCK_ADD_RULE: u64 = 445;
    pub const LANDLOCK_RESTRICT_SELF: u64 = 446;
}

/// # Safety
/// Pointers among the arguments must be valid for what the call does with them.
pub unsafe fn syscall(number: u64, a: [u64; 6]) -> isize {
    let result: isize;
    // SAFETY: the registers are those of the AArch64 system call convention.
    unsafe {
        asm!("svc #0", in("x8") number, inlateout("x0") a[0] as isize => result, in("x1") a[1],
            in("x2") a[2], in("x3") a[3], in("x4") a[4], in("x5") a[5], options(nostack));
    }
    result
}
