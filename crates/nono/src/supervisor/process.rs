//! A process whose call is parked: what of it can be looked at, and taken.
//!
//! All of this names the process by its number, so it is worth something only if the call is still
//! parked afterwards ([`super::notif::Listener::is_parked`]).

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::descriptor::{self, owned};

/// Bytes of a thread's memory, copied once.
pub(super) fn read_memory(thread: i32, address: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    if copy_memory(thread, address, &mut bytes)? < length {
        return Err(io::Error::from_raw_os_error(libc::EFAULT));
    }
    Ok(bytes)
}

/// A NUL-terminated string of a thread's memory of at most `limit` bytes with its end, copied once:
/// a second, longer copy is made only of what had no end in the first, which is then forgotten.
pub(super) fn read_string(thread: i32, address: u64, limit: usize) -> io::Result<Vec<u8>> {
    const USUALLY: usize = 256;
    for length in [USUALLY.min(limit), limit] {
        let mut bytes = vec![0; length];
        // Less than that arrives where the memory ends before it.
        let copied = copy_memory(thread, address, &mut bytes)?;
        if let Some(end) = bytes[..copied].iter().position(|byte| *byte == 0) {
            bytes.truncate(end);
            return Ok(bytes);
        }
    }
    Err(io::Error::from_raw_os_error(libc::EINVAL))
}

/// Copies as much of a thread's memory as there is, and returns how much that was.
fn copy_memory(thread: i32, address: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: address as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: the local vector is the slice; the remote one is the other process's matter.
    let copied =
        unsafe { libc::process_vm_readv(thread, &raw const local, 1, &raw const remote, 1, 0) };
    if copied >= 0 {
        return Ok(copied as usize);
    }
    // Some containers refuse that call, which is a matter of this file too.
    File::open(format!("/proc/{thread}/mem"))?
        .read_at(bytes, address)
        .map_err(|_| io::Error::from_raw_os_error(libc::EFAULT))
}

/// A duplicate of a thread's descriptor: the same open file (`pidfd_getfd(2)`).
pub(super) fn take_descriptor(thread: i32, fd: RawFd) -> io::Result<OwnedFd> {
    const PIDFD_THREAD: i32 = libc::O_EXCL; // Linux 6.9
    let pidfd = pidfd_open(thread, PIDFD_THREAD)
        .or_else(|_| pidfd_open(leader(thread).unwrap_or(thread), 0))?;
    // SAFETY: no memory is involved, and a new descriptor is made.
    unsafe { owned(libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0)) }
}

/// Whether descriptors of processes can be taken here: some containers refuse it to all.
pub(crate) fn can_take_descriptors() -> bool {
    let own = pidfd_open(std::process::id() as i32, 0);
    own.is_ok_and(|pidfd| {
        let fd = pidfd.as_raw_fd();
        // SAFETY: no memory is involved, and a new descriptor is made.
        unsafe { owned(libc::syscall(libc::SYS_pidfd_getfd, fd, fd, 0)) }.is_ok()
    })
}

/// A file of `/proc`, as text, of which there is not much. What a process calls itself, and paths, can hold
/// bytes that are none.
pub(super) fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LONGEST_TEXT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// So much of `/proc/PID/maps` is told of 10,000 mappings; a process can have more.
const LONGEST_TEXT: u64 = 1 << 20;

/// The process that a thread belongs to.
pub(super) fn leader(thread: i32) -> Option<i32> {
    // A descriptor is to be had for leaders only (`pidfd_open(2)`), and much faster than the text.
    if pidfd_open(thread, 0).is_ok() {
        return Some(thread);
    }
    let status = read_text(format!("/proc/{thread}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Tgid:"))?.trim().parse().ok()
}

/// The device number of a thread's controlling terminal, and the leader of its session.
pub(super) fn controlling_terminal(thread: i32) -> Option<(libc::dev_t, i32)> {
    let stat = read_text(format!("/proc/{thread}/stat")).ok()?;
    let after_name = stat.rsplit_once(')')?.1; // the name can hold anything
    let mut numbers =
        after_name.split_whitespace().skip(3).map_while(|word| word.parse::<i32>().ok());
    let (session, number) = (numbers.next()?, numbers.next()? as u32);
    // The kernel's encoding of a device number (`new_encode_dev`, linux/kdev_t.h).
    let (major, minor) = ((number & 0xf_ff00) >> 8, (number & 0xff) | ((number >> 12) & 0xf_ff00));
    (number != 0).then(|| (libc::makedev(major, minor), session))
}

pub(super) fn pidfd_open(pid: i32, flags: i32) -> io::Result<OwnedFd> {
    // SAFETY: no memory is involved, and a new descriptor is made.
    unsafe { owned(libc::syscall(libc::SYS_pidfd_open, pid, flags)) }
}

/// Opens what `path` names to a thread, as a place only (`O_PATH`): in its own root, from its own
/// working directory, with symbolic links followed there. Links of `/proc` into processes are not
/// followed: to us they would mean this process.
pub(super) fn open_place(thread: i32, path: &Path) -> io::Result<OwnedFd> {
    let process = format!("/proc/{thread}");
    let root = descriptor::open_place(format!("{process}/root"), libc::O_DIRECTORY)?;
    // The link's text is the directory's path in the mount namespace of the process, whose root
    // nothing inside can change.
    let cwd = std::fs::read_link(format!("{process}/cwd"))?;
    let path = CString::new(cwd.join(path).into_os_string().into_vec())?;
    descriptor::openat2(
        root.as_raw_fd(),
        &path,
        libc::O_PATH,
        libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS,
    )
}

/// The path of a place, as the mount namespace that it is in has it.
pub(super) fn path_of(place: &OwnedFd) -> String {
    let link = std::fs::read_link(format!("/proc/self/fd/{}", place.as_raw_fd()));
    link.unwrap_or_default().display().to_string()
}

/// The path of a pathname socket address: what follows the family, up to a NUL.
pub(super) fn socket_path(address: &[u8]) -> Option<&Path> {
    let path = address.get(2..)?.split(|byte| *byte == 0).next()?;
    (!path.is_empty()).then(|| Path::new(std::ffi::OsStr::from_bytes(path)))
}
