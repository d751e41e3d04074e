//! The two places where Rust cannot say what must happen: the first instruction of the program, and
//! a clone whose child continues on another stack.

use core::arch::global_asm;

#[cfg(target_arch = "x86_64")]
global_asm!(
    ".global _start",
    "_start:",
    "xor ebp, ebp",
    "and rsp, -16",
    "call nono_init_main",
    "ud2",
    // nono_clone(flags, stack_top, function, argument) -> pid or -errno
    ".global nono_clone",
    "nono_clone:",
    "sub rsi, 16",
    "mov [rsi], rdx",
    "mov [rsi + 8], rcx",
    "xor edx, edx",
    "xor r10d, r10d",
    "xor r8d, r8d",
    "mov eax, 56",
    "syscall",
    "test rax, rax",
    "jnz 1f",
    "xor ebp, ebp",
    "pop rax",
    "pop rdi",
    "call rax",
    "ud2",
    "1: ret",
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".global _start",
    "_start:",
    "mov x29, xzr",
    "mov x30, xzr",
    "mov x0, sp",
    "and sp, x0, #-16",
    "bl nono_init_main",
    "brk #1",
    ".global nono_clone",
    "nono_clone:",
    "stp x2, x3, [x1, #-16]!",
    "mov x2, xzr",
    "mov x3, xzr",
    "mov x4, xzr",
    "mov x8, #220",
    "svc #0",
    "cbnz x0, 1f",
    "mov x29, xzr",
    "ldp x1, x0, [sp], #16",
    "blr x1",
    "brk #1",
    "1: ret",
);

unsafe extern "C" {
    /// `clone(flags, stack)`, whose child calls `function(argument)` on the new stack.
    pub fn nono_clone(
        flags: u64,
        stack_top: *mut u8,
        function: extern "C" fn(usize) -> !,
        argument: usize,
    ) -> isize;
}
