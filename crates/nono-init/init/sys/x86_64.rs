//! System calls on x86-64.

use core::arch::asm;

/// Numbers from `arch/x86/entry/syscalls/syscall_64.tbl`.
pub mod nr {
    pub const READ: u64 = 0;
    pub const WRITE: u64 = 1;
    pub const CLOSE: u64 = 3;
    pub const MMAP: u64 = 9;
    pub const MUNMAP: u64 = 11;
    pub const RT_SIGACTION: u64 = 13;
    pub const RT_SIGPROCMASK: u64 = 14;
    pub const IOCTL: u64 = 16;
    pub const SOCKET: u64 = 41;
    pub const SENDTO: u64 = 44;
    pub const RECVFROM: u64 = 45;
    pub const SENDMSG: u64 = 46;
    pub const RECVMSG: u64 = 47;
    pub const BIND: u64 = 49;
    pub const LISTEN: u64 = 50;
    pub const SETSOCKOPT: u64 = 54;
    pub const CLONE: u64 = 56;
    pub const PRLIMIT64: u64 = 302;
    pub const EXECVE: u64 = 59;
    pub const WAIT4: u64 = 61;
    pub const KILL: u64 = 62;
    pub const FCNTL: u64 = 72;
    pub const CHDIR: u64 = 80;
    pub const FCHDIR: u64 = 81;
    pub const SETSID: u64 = 112;
    pub const CAPSET: u64 = 126;
    pub const PRCTL: u64 = 157;
    pub const MOUNT: u64 = 165;
    pub const CLOCK_GETTIME: u64 = 228;
    pub const EXIT: u64 = 60;
    pub const OPENAT: u64 = 257;
    pub const MKDIRAT: u64 = 258;
    pub const SYMLINKAT: u64 = 266;
    pub const PPOLL: u64 = 271;
    pub const FSTAT: u64 = 5;
    pub const SIGNALFD4: u64 = 289;
    pub const DUP3: u64 = 292;
    pub const PIPE2: u64 = 293;
    pub const SECCOMP: u64 = 317;
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
    // SAFETY: the registers are those of the x86-64 system call convention; rcx and r11 are lost.
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a[0], in("rsi") a[1],
            in("rdx") a[2], in("r10") a[3], in("r8") a[4], in("r9") a[5],
            lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    result
}
