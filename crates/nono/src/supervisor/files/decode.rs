//! The calls that name a file, old and new, as what they ask for.

use std::io;
use std::os::fd::RawFd;

use super::super::notif::Notification;
use super::super::place::errno;

/// A path argument: where it starts from, and where the caller's memory has it.
pub(super) struct At {
    pub(super) base: RawFd,
    pub(super) pointer: u64,
    /// A symbolic link at its end is followed.
    pub(super) follow: bool,
    /// An empty path means the descriptor itself (AT_EMPTY_PATH).
    pub(super) or_descriptor: bool,
}

/// An object: by path or by descriptor.
pub(super) enum Object {
    At(At),
    Descriptor(RawFd),
}

/// A change of attributes. Pointers are into the caller's memory.
pub(super) enum Change {
    Mode(libc::mode_t),
    Owner(u32, u32),
    /// Null: now.
    Times {
        pointer: u64,
        format: TimeFormat,
    },
    SetAttribute {
        name: u64,
        value: u64,
        size: u64,
        flags: i32,
    },
    RemoveAttribute {
        name: u64,
    },
}

/// How times are given.
#[derive(Clone, Copy)]
pub(super) enum TimeFormat {
    /// Two of seconds and nanoseconds.
    Nanoseconds,
    /// Two of seconds and microseconds.
    #[cfg(target_arch = "x86_64")]
    Microseconds,
    /// Two of seconds.
    #[cfg(target_arch = "x86_64")]
    Seconds,
}

/// What a call asks for.
pub(super) enum Request {
    Open { at: At, flags: i32, mode: libc::mode_t },
    Truncate { at: At, length: i64 },
    MakeDirectory { at: At, mode: libc::mode_t },
    MakeNode { at: At, mode: libc::mode_t, device: u64 },
    Symlink { target: u64, at: At },
    Link { from: At, to: At, flags: i32 },
    Rename { from: At, to: At, flags: u32 },
    Remove { at: At, directory: bool },
    Change { of: Object, change: Change },
    Watch { instance: RawFd, at: At, mask: u32 },
}

pub(crate) const SYS_FCHMODAT2: i64 = 452; // Linux 6.6

/// The calls that [`request`] knows and that change something, but open and mknod and their like, which
/// are parked by their flags.
pub(crate) const PARKED: &[i64] = &[
    libc::SYS_truncate,
    libc::SYS_mkdirat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    SYS_FCHMODAT2,
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_utimensat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_creat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_symlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_link,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
];

/// A path from the working directory.
fn here(pointer: u64, follow: bool) -> At {
    At { base: libc::AT_FDCWD, pointer, follow, or_descriptor: false }
}

/// A path from a descriptor, with `AT_` flags.
fn from(base: u64, pointer: u64, flags: u64) -> At {
    At {
        base: base as RawFd,
        pointer,
        follow: flags as i32 & libc::AT_SYMLINK_NOFOLLOW == 0,
        or_descriptor: flags as i32 & libc::AT_EMPTY_PATH != 0,
    }
}

/// The program that an execve() or execveat() names.
pub(super) fn executed(call: &Notification) -> At {
    match call.arguments {
        [base, pointer, _, _, flags, _] if call.number == libc::SYS_execveat => {
            from(base, pointer, flags)
        }
        [pointer, ..] => here(pointer, true),
    }
}

/// What a parked call asks for.
pub(super) fn request(call: &Notification) -> io::Result<Request> {
    let [a, b, c, d, e, _] = call.arguments;
    let mode = |value: u64| value as libc::mode_t & 0o7777;
    let change = |of, change| Request::Change { of: Object::At(of), change };
    let change_open = |change| Request::Change { of: Object::Descriptor(a as RawFd), change };
    let nanoseconds = |pointer| Change::Times { pointer, format: TimeFormat::Nanoseconds };
    let set = |flags| Change::SetAttribute { name: b, value: c, size: d, flags: flags as i32 };
    Ok(match call.number {
        libc::SYS_openat => Request::Open { at: from(a, b, 0), flags: c as i32, mode: mode(d) },
        libc::SYS_truncate => Request::Truncate { at: here(a, true), length: b as i64 },
        libc::SYS_mkdirat => Request::MakeDirectory { at: from(a, b, 0), mode: mode(c) },
        libc::SYS_mknodat => {
            Request::MakeNode { at: from(a, b, 0), mode: c as libc::mode_t, device: d }
        }
        libc::SYS_symlinkat => Request::Symlink { target: a, at: from(b, c, 0) },
        libc::SYS_linkat => {
            let follow = e as i32 & libc::AT_SYMLINK_FOLLOW != 0;
            let source = At { follow, ..from(a, b, e) };
            Request::Link { from: source, to: from(c, d, 0), flags: e as i32 }
        }
        libc::SYS_renameat => Request::Rename { from: from(a, b, 0), to: from(c, d, 0), flags: 0 },
        libc::SYS_renameat2 => {
            Request::Rename { from: from(a, b, 0), to: from(c, d, 0), flags: e as u32 }
        }
        libc::SYS_unlinkat => Request::Remove {
            at: from(a, b, 0),
            directory: match c as i32 {
                0 => false,
                libc::AT_REMOVEDIR => true,
                _ => return Err(errno(libc::EINVAL)),
            },
        },
        libc::SYS_fchmod => change_open(Change::Mode(mode(b))),
        libc::SYS_fchmodat => change(from(a, b, 0), Change::Mode(mode(c))),
        SYS_FCHMODAT2 => change(from(a, b, d), Change::Mode(mode(c))),
        libc::SYS_fchown => change_open(Change::Owner(b as u32, c as u32)),
        libc::SYS_fchownat => change(from(a, b, e), Change::Owner(c as u32, d as u32)),
        // A null path means the descriptor: how futimens() is made.
        libc::SYS_utimensat if b == 0 => change_open(nanoseconds(c)),
        libc::SYS_utimensat => change(from(a, b, d), nanoseconds(c)),
        libc::SYS_setxattr => change(here(a, true), set(e)),
        libc::SYS_lsetxattr => change(here(a, false), set(e)),
        libc::SYS_fsetxattr => change_open(set(e)),
        libc::SYS_removexattr => change(here(a, true), Change::RemoveAttribute { name: b }),
        libc::SYS_lremovexattr => change(here(a, false), Change::RemoveAttribute { name: b }),
        libc::SYS_fremovexattr => change_open(Change::RemoveAttribute { name: b }),
        libc::SYS_inotify_add_watch => Request::Watch {
            instance: a as RawFd,
            at: here(b, c as u32 & libc::IN_DONT_FOLLOW == 0),
            mask: c as u32,
        },
        #[cfg(target_arch = "x86_64")]
        number => return legacy(number, call.arguments),
        #[cfg(not(target_arch = "x86_64"))]
        _ => return Err(errno(libc::ENOSYS)),
    })
}

/// Calls that newer architectures do without.
#[cfg(target_arch = "x86_64")]
fn legacy(number: i64, [a, b, c, ..]: [u64; 6]) -> io::Result<Request> {
    let mode = |value: u64| value as libc::mode_t & 0o7777;
    let change = |of, change| Request::Change { of: Object::At(of), change };
    let owner = Change::Owner(b as u32, c as u32);
    let times = |pointer, format| Change::Times { pointer, format };
    Ok(match number {
        libc::SYS_open => Request::Open { at: here(a, true), flags: b as i32, mode: mode(c) },
        libc::SYS_creat => Request::Open {
            at: here(a, true),
            flags: libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC,
            mode: mode(b),
        },
        libc::SYS_mkdir => Request::MakeDirectory { at: here(a, true), mode: mode(b) },
        libc::SYS_mknod => {
            Request::MakeNode { at: here(a, true), mode: b as libc::mode_t, device: c }
        }
        libc::SYS_symlink => Request::Symlink { target: a, at: here(b, true) },
        libc::SYS_link => Request::Link { from: here(a, false), to: here(b, true), flags: 0 },
        libc::SYS_rename => Request::Rename { from: here(a, true), to: here(b, true), flags: 0 },
        libc::SYS_unlink => Request::Remove { at: here(a, true), directory: false },
        libc::SYS_rmdir => Request::Remove { at: here(a, true), directory: true },
        libc::SYS_chmod => change(here(a, true), Change::Mode(mode(b))),
        libc::SYS_chown => change(here(a, true), owner),
        libc::SYS_lchown => change(here(a, false), owner),
        libc::SYS_utime => change(here(a, true), times(b, TimeFormat::Seconds)),
        libc::SYS_utimes => change(here(a, true), times(b, TimeFormat::Microseconds)),
        libc::SYS_futimesat if b == 0 => Request::Change {
            of: Object::Descriptor(a as RawFd),
            change: times(c, TimeFormat::Microseconds),
        },
        libc::SYS_futimesat => change(from(a, b, 0), times(c, TimeFormat::Microseconds)),
        _ => return Err(errno(libc::ENOSYS)),
    })
}
