//! A description of a tree that is made without any of the crate's own code.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod mount;
pub mod traced;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, CString};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nono_snapshot::{Change, Checkpoint, Mount, Mounter, Options, Store};

/// Everything that a rollback has to bring back, by path.
pub type Fingerprint = BTreeMap<PathBuf, String>;

pub fn fingerprint(root: &Path) -> Fingerprint {
    let (mut found, mut inodes) = (Fingerprint::new(), HashMap::new());
    describe(root, Path::new(""), &mut found, &mut inodes);
    found
}

fn describe(root: &Path, path: &Path, found: &mut Fingerprint, inodes: &mut HashMap<u64, PathBuf>) {
    let full = root.join(path);
    let meta = fs::symlink_metadata(&full).unwrap();
    let mut text = format!(
        "mode {:o} owner {}:{} mtime {}.{:09} rdev {}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec(),
        meta.rdev()
    );
    text += &format!(" xattrs {:?}", xattrs(&full));
    if meta.is_dir() || meta.is_file() {
        text += &format!(" flags {:x}", flags(&full));
    }
    if meta.is_dir() {
        let mut names: Vec<_> =
            fs::read_dir(&full).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        for name in names {
            describe(root, &path.join(name), found, inodes);
        }
    } else {
        let first = inodes.entry(meta.ino()).or_insert_with(|| path.to_owned());
        text += &format!(" links {} first {}", meta.nlink(), first.display());
    }
    if meta.is_symlink() {
        text += &format!(" to {:?}", fs::read_link(&full).unwrap());
    } else if meta.is_file() {
        text += &format!(
            " size {} contents {:?} data {:?}",
            meta.len(),
            digest(&fs::read(&full).unwrap()),
            segments(&full, meta.len())
        );
    }
    found.insert(path.to_owned(), text);
}

fn digest(bytes: &[u8]) -> String {
    if bytes.len() <= 64 {
        format!("{:?}", bytes.escape_ascii().to_string())
    } else {
        format!("crc {:08x}", crc32fast::hash(bytes))
    }
}

/// Where the data lies between the holes, when there are holes of 64 KiB or more.
fn segments(path: &Path, size: u64) -> Vec<(i64, i64)> {
    if size < 128 * 1024 {
        return Vec::new();
    }
    let file = fs::File::open(path).unwrap();
    let (mut found, mut position) = (Vec::new(), 0);
    loop {
        // SAFETY: lseek of a descriptor that is open for the whole call.
        let data = unsafe { libc::lseek(file.as_raw_fd(), position, libc::SEEK_DATA) };
        if data < 0 {
            return found;
        }
        // SAFETY: as above.
        position = unsafe { libc::lseek(file.as_raw_fd(), data, libc::SEEK_HOLE) };
        found.push((data >> 16, position >> 16));
    }
}

pub fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let path = CString::new(path.as_os_str().as_bytes()).unwrap();
    let mut names = vec![0u8; 4096];
    // SAFETY: the buffer is as long as said.
    let length = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let names = &names[..usize::try_from(length).unwrap_or(0)];
    let one = |name: &[u8]| {
        let name = CStr::from_bytes_with_nul(name).unwrap();
        let mut value = vec![0u8; 4096];
        // SAFETY: the buffer is as long as said.
        let length = unsafe {
            libc::lgetxattr(path.as_ptr(), name.as_ptr(), value.as_mut_ptr().cast(), value.len())
        };
        value.truncate(usize::try_from(length).unwrap_or(0));
        (name.to_str().unwrap().to_owned(), value)
    };
    names.split_inclusive(|&byte| byte == 0).map(one).collect()
}

/// Those that chattr(1) sets, without those that tell how the file system stores the inode: EXTENTS, INDEX
/// and INLINE_DATA.
pub fn flags(path: &Path) -> u32 {
    let file = fs::File::open(path).unwrap();
    rustix::fs::ioctl_getflags(file).map_or(0, |flags| flags.bits() & !0x1008_1000)
}

/// Whether the file system, and the user's privilege, permit them.
pub fn set_flags(path: &Path, flags: u32) -> bool {
    let file = fs::File::open(path).unwrap();
    let Ok(stored) = rustix::fs::ioctl_getflags(&file) else { return false };
    let wanted = stored.bits() & 0x1008_1000 | flags;
    rustix::fs::ioctl_setflags(file, rustix::fs::IFlags::from_bits_retain(wanted)).is_ok()
}

pub const IMMUTABLE: u32 = 0x10;
pub const APPEND: u32 = 0x20;
pub const NODUMP: u32 = 0x40;
pub const NOATIME: u32 = 0x80;
pub const NOCOW: u32 = 0x80_0000;
pub const CASEFOLD: u32 = 0x4000_0000;

pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> bool {
    let (path, name) =
        (CString::new(path.as_os_str().as_bytes()).unwrap(), CString::new(name).unwrap());
    // SAFETY: both strings end with NUL and the value is as long as said.
    unsafe {
        libc::lsetxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) == 0
    }
}

/// A scratch directory with a project and a store in it.
pub struct Scratch {
    pub root: tempfile::TempDir,
    pub project: PathBuf,
    pub store: Store,
}

pub fn scratch() -> Scratch {
    scratch_in(&std::env::temp_dir())
}

/// A file system without a disk that can hold an upper layer: tmpfs since Linux 6.6.
pub fn memory() -> PathBuf {
    let probe = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    if set_xattr(probe.path(), "user.x", b"") { "/dev/shm".into() } else { std::env::temp_dir() }
}

pub fn scratch_in(parent: &Path) -> Scratch {
    let root = tempfile::tempdir_in(parent).unwrap();
    let project = root.path().join("project");
    fs::create_dir(&project).unwrap();
    let store = Store::open(&root.path().join("state")).unwrap();
    Scratch { root, project, store }
}

impl Drop for Scratch {
    /// An ordinary user can't empty a directory without write permission, and some trees have one.
    fn drop(&mut self) {
        if !rustix::process::geteuid().is_root() {
            let root = self.root.path();
            let status =
                std::process::Command::new("chmod").args(["-R", "u+rwx"]).arg(root).status();
            assert!(status.is_ok_and(|status| status.success()), "could not unlock {root:?}");
        }
    }
}

impl Scratch {
    pub fn checkpoint(&self, exclude: &[&str]) -> Checkpoint {
        let exclude = exclude.iter().map(|&pattern| pattern.to_owned()).collect();
        let options = Options { exclude, strategy: Some("copy".to_owned()), mounter: None };
        Checkpoint::create(&self.store, std::slice::from_ref(&self.project), &options).unwrap()
    }

    pub fn write(&self, path: &str, contents: &str) {
        let path = self.project.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, contents).unwrap();
    }

    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.project.join(path)).unwrap()
    }
}

/// One of everything a file system can hold.
pub fn furnish(root: &Path) {
    use std::ffi::OsStr;
    use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
    let file = |name: &str, text: &str| fs::write(root.join(name), text).unwrap();
    file("plain", "plain");
    file("empty", "");
    file("script", "#!/bin/sh\n");
    fs::set_permissions(root.join("script"), fs::Permissions::from_mode(0o4751)).unwrap();
    file("read-only", "do not write");
    fs::set_permissions(root.join("read-only"), fs::Permissions::from_mode(0o444)).unwrap();
    fs::write(root.join(OsStr::from_bytes(b"not \xff utf-8 \n %41")), "x").unwrap();
    fs::create_dir_all(root.join("deep/er/est")).unwrap();
    file("deep/er/est/file", &"y".repeat(300_000));
    fs::create_dir(root.join("hollow")).unwrap();
    file(&"n".repeat(255), "a name as long as it can be");
    fs::create_dir(root.join("locked")).unwrap();
    file("locked/inside", "z");
    fs::set_permissions(root.join("locked"), fs::Permissions::from_mode(0o555)).unwrap();
    symlink("plain", root.join("link")).unwrap();
    symlink("/nowhere/at all", root.join("dangling")).unwrap();
    fs::hard_link(root.join("plain"), root.join("deep/second-name")).unwrap();
    fs::hard_link(root.join("plain"), root.join("third-name")).unwrap();
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.write_all_at(b"middle", 1 << 20).unwrap();
    sparse.set_len(4 << 20).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("fifo"),
        rustix::fs::FileType::Fifo,
        0o640.into(),
        0,
    )
    .unwrap();
    drop(std::os::unix::net::UnixListener::bind(root.join("socket")).unwrap());
    // tmpfs has user attributes since Linux 6.6 only.
    set_xattr(&root.join("plain"), "user.note", b"kept\0binary");
    set_xattr(&root.join("hollow"), "user.note", b"on a directory");
    set_flags(&root.join("read-only"), NODUMP);
    set_flags(&root.join("locked"), NODUMP | NOATIME);
    // An ACL (linux/posix_acl_xattr.h): owner rw, user 12345 r, group r, mask rw, others none.
    let entry = |tag: u16, permission: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permission.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let acl = [
        vec![2, 0, 0, 0],
        entry(1, 6, !0),
        entry(2, 4, 12345),
        entry(4, 4, !0),
        entry(16, 6, !0),
        entry(32, 0, !0),
    ]
    .concat();
    set_xattr(&root.join("script"), "system.posix_acl_access", &acl);
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::lchown(root.join("empty"), Some(12345), Some(54321)).unwrap();
        std::os::unix::fs::lchown(root.join("dangling"), Some(12345), None).unwrap();
    }
    let set_time = |name: &str, tv_sec: i64, tv_nsec: i64| {
        let time = rustix::fs::Timespec { tv_sec, tv_nsec };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let follow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        match rustix::fs::utimensat(rustix::fs::CWD, root.join(name), &times, follow) {
            // zfs-fuse has no times before 1901 and after 2038.
            Err(rustix::io::Errno::OVERFLOW) => {}
            set => set.unwrap(),
        }
    };
    for name in ["plain", "link", "deep", "hollow", "fifo"] {
        set_time(name, 1_000_000_000, 123_456_789);
    }
    // Before 1970 and after 2038, where the file system has such times.
    set_time("dangling", -1_000_000_000, 999_999_999);
    set_time("read-only", 4_102_444_800, 999_999_999);
}

/// Does to a furnished tree what an agent gone wrong does.
pub fn wreck(root: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(root.join("plain"), "overwritten in place").unwrap();
    fs::remove_file(root.join("third-name")).unwrap();
    fs::remove_dir_all(root.join("deep/er")).unwrap();
    fs::rename(root.join("deep"), root.join("moved")).unwrap();
    fs::remove_file(root.join("link")).unwrap();
    fs::create_dir(root.join("link")).unwrap();
    fs::write(root.join("link/new"), "new").unwrap();
    fs::set_permissions(root.join("script"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(root.join("locked"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::remove_file(root.join("locked/inside")).unwrap();
    fs::remove_dir(root.join("hollow")).unwrap();
    fs::write(root.join("sparse"), "not sparse").unwrap();
    fs::remove_file(root.join("fifo")).unwrap();
    set_xattr(&root.join("empty"), "user.new", b"new");
    fs::write(root.join("added"), "added").unwrap();
    fs::write(root.join("n".repeat(255)), "changed").unwrap();
}

/// Runs `script` in the project with the overlay mounted, the way a sandbox does.
pub fn in_overlay(mount: &Mount, mounter: Mounter, script: &str) {
    let options = match mounter {
        Mounter::Privileged => "redirect_dir=on,metacopy=off,index=off",
        Mounter::Unprivileged | Mounter::Supervised => "userxattr",
    };
    let paths = [&mount.lower, &mount.upper, &mount.work].map(|path| path.display().to_string());
    let layers =
        format!("lowerdir={},upperdir={},workdir={},{options}", paths[0], paths[1], paths[2]);
    let target = mount.target.display();
    let script = format!(
        "mount -t overlay nono -o '{layers}' '{target}' && cd '{target}' && {{ {script}\n}}"
    );
    let mut unshare = Command::new("unshare");
    if mounter != Mounter::Privileged {
        unshare.args(["--user", "--map-root-user"]);
    }
    let status = unshare.args(["--mount", "sh", "-ec", &script]).status().unwrap();
    assert!(status.success(), "{status}");
}

pub fn namespaces_work() -> bool {
    let worked =
        Command::new("unshare").args(["--user", "--map-root-user", "--mount", "true"]).status();
    if worked.is_ok_and(|status| status.success()) {
        return true;
    }
    println!("SKIPPED: unprivileged overlay: user namespaces are not available");
    false
}

/// Runs `work` in a thread without the capability CAP_SYS_ADMIN, which threads it starts lack as well.
pub fn without_admin<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            // linux/capability.h: the header of version 3, and effective, permitted and inheritable sets.
            let (header, mut sets) = ([0x2008_0522_u32, 0], [0_u32; 6]);
            // SAFETY: both arrays are as long as version 3 says and live across the calls.
            unsafe {
                assert_eq!(libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()), 0);
                sets[0] &= !(1 << 21);
                assert_eq!(libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()), 0);
            }
            work()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// What has changed on btrfs: the generations of its trees, which root may read, and a walk say the same.
pub fn searched_and_walked(checkpoint: &mut Checkpoint) -> Vec<Change> {
    let searched = checkpoint.changes().unwrap();
    let walked = without_admin(|| checkpoint.changes().unwrap());
    assert_eq!(searched, walked);
    searched
}

/// Runs `work` in a thread with the user and group 65534. The system calls themselves, unlike libc's
/// functions, change the calling thread only, and threads and processes it starts.
pub fn as_nobody(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            const NOBODY: u32 = 65534;
            // SAFETY: the three calls take numbers, and an empty list that is not read.
            unsafe {
                assert_eq!(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<u32>()), 0);
                assert_eq!(libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY), 0);
                assert_eq!(libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY), 0);
            }
            work();
        });
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    });
}
