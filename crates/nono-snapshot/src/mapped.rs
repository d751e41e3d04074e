//! Which files a process has mapped so that what it writes to memory reaches them.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags, openat};

/// `struct procmap_query` of linux/fs.h.
#[repr(C)]
#[derive(Default)]
struct Query {
    size: u64,
    flags: u64,
    address: u64,
    start: u64,
    end: u64,
    vma_flags: u64,
    page_size: u64,
    offset: u64,
    inode: u64,
    dev_major: u32,
    dev_minor: u32,
    name_size: u32,
    build_id_size: u32,
    name: u64,
    build_id: u64,
}

/// `PROCMAP_QUERY`, `_IOWR('f', 17, struct procmap_query)`, since Linux 6.11.
const PROCMAP_QUERY: u64 = 0xc068_6611;
/// `PROCMAP_QUERY_VMA_WRITABLE | _VMA_SHARED | _COVERING_OR_NEXT_VMA | _FILE_BACKED_VMA`
const SHARED_WRITABLE_FILES: u64 = 0x02 | 0x08 | 0x10 | 0x20;

/// A file that is mapped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    /// The name it was opened by.
    pub(crate) path: PathBuf,
    pub(crate) ino: u64,
}

/// `process` is its directory in procfs.
pub(crate) fn mapped(process: &OwnedFd) -> Vec<Mapped> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    match openat(process, "maps", flags, Mode::empty()) {
        Ok(maps) => asked(&maps).unwrap_or_else(|| listed(&mut File::from(maps))),
        Err(_) => Vec::new(),
    }
}

/// Asks the kernel for exactly those mappings: a browser has thousands of others. `None`: it is
/// older than that question.
fn asked(maps: &OwnedFd) -> Option<Vec<Mapped>> {
    let (mut found, mut address) = (Vec::new(), 0);
    loop {
        let mut name = [0u8; libc::PATH_MAX as usize];
        let mut query = Query {
            size: size_of::<Query>() as u64,
            flags: SHARED_WRITABLE_FILES,
            address,
            name_size: name.len() as u32,
            name: name.as_mut_ptr() as u64,
            ..Query::default()
        };
        // SAFETY: the structure is as large as it says and the buffer it names as long as it says;
        // both live across the call.
        let status = unsafe { libc::ioctl(maps.as_raw_fd(), PROCMAP_QUERY as _, &raw mut query) };
        if status < 0 {
            let none_left = std::io::Error::last_os_error().raw_os_error() == Some(libc::ENOENT);
            return none_left.then_some(found);
        }
        // The size includes the NUL at the end.
        let name = name.get(..(query.name_size as usize).saturating_sub(1))?;
        found.push(Mapped { path: PathBuf::from(OsStr::from_bytes(name)), ino: query.inode });
        address = query.end;
    }
}

/// Reads the whole list.
fn listed(maps: &mut File) -> Vec<Mapped> {
    let mut text = Vec::with_capacity(64 * 1024);
    // What can no longer be read belongs to a process that has ended.
    let _ = maps.read_to_end(&mut text);
    let shared = text.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.splitn(6, |&byte| byte == b' ');
        let permissions = fields.nth(1)?;
        let ino = std::str::from_utf8(fields.nth(2)?).ok()?.parse().ok()?;
        let path = fields.next()?.trim_ascii_start();
        (permissions.get(1) == Some(&b'w')
            && permissions.last() == Some(&b's')
            && path.starts_with(b"/"))
        .then(|| Mapped { path: PathBuf::from(OsStr::from_bytes(path)), ino })
    });
    shared.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_name_a_shared_mapping_and_no_private_one() {
        let dir = tempfile::tempdir().unwrap();
        let map = |name: &str, flags: i32| {
            let path = dir.path().join(name);
            std::fs::write(&path, [1; 4096]).unwrap();
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: a fresh mapping of a file that stays as long as the test.
            let at = unsafe {
                libc::mmap(std::ptr::null_mut(), 4096, protection, flags, file.as_raw_fd(), 0)
            };
            assert_ne!(at, libc::MAP_FAILED);
            path
        };
        let shared = map("shared", libc::MAP_SHARED);
        map("private", libc::MAP_PRIVATE);
        let process = File::open(format!("/proc/{}", std::process::id())).unwrap().into();
        let within = |found: Vec<Mapped>| {
            found.into_iter().filter(|file| file.path.starts_with(dir.path())).collect::<Vec<_>>()
        };
        let ino = std::os::unix::fs::MetadataExt::ino(&shared.metadata().unwrap());
        let wanted = [Mapped { path: shared, ino }];
        assert_eq!(within(mapped(&process)), wanted);
        assert_eq!(within(listed(&mut File::open("/proc/self/maps").unwrap())), wanted);
    }
}
