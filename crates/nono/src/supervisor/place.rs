//! What a parked call means by a path: found in the caller's own view of the file system, and held.
//!
//! A path is read once and resolved once, to a descriptor that only names a place (`O_PATH`). What
//! is then judged is the name that the kernel gives that place, and what is then opened or changed is
//! the place itself, so there is nothing left that the caller could change in between.

use std::ffi::{CStr, CString, OsStr};
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use super::own_process::{Expanded, expand};
use crate::descriptor::{self, open_place};

/// An object that exists.
pub(super) struct Place {
    pub(super) file: File,
    /// What the kernel calls it; not absolute if it has no path (a pipe, a socket).
    pub(super) path: PathBuf,
    /// Its name there, if it is in the caller's own directory of `/proc`: only the supervisor can open
    /// that.
    pub(super) own_process: Option<PathBuf>,
}

/// A name in a directory, whether anything has it or not.
pub(super) struct Entry {
    pub(super) directory: File,
    pub(super) name: CString,
    /// The directory's path and the name.
    pub(super) path: PathBuf,
    /// The path ended in a slash.
    pub(super) is_directory: bool,
}

impl Entry {
    /// The name as it was given: the kernel has a say about a slash at its end.
    pub(super) fn given_name(&self) -> io::Result<CString> {
        let mut name = self.name.as_bytes().to_vec();
        name.extend(self.is_directory.then_some(b'/'));
        Ok(CString::new(name)?)
    }

    /// What has the name, if anything does; a symbolic link is not followed.
    pub(super) fn found(&self) -> io::Result<libc::stat> {
        // SAFETY: all-zero is a valid stat.
        let mut found: libc::stat = unsafe { std::mem::zeroed() };
        let (directory, name) = (self.directory.as_raw_fd(), self.name.as_ptr());
        // SAFETY: a C string, and the kernel fills the structure.
        match unsafe { libc::fstatat(directory, name, &raw mut found, libc::AT_SYMLINK_NOFOLLOW) } {
            0 => Ok(found),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// The sandbox's file system as its processes see it.
pub(super) struct View {
    root: File,
}

impl View {
    /// As `thread` sees it, which is how all in the sandbox do: neither roots nor mounts can be
    /// changed inside.
    pub(super) fn of(thread: i32) -> io::Result<Self> {
        let root = open_place(format!("/proc/{thread}/root"), libc::O_DIRECTORY)?;
        Ok(View { root })
    }

    /// What `path`, as [`full_path`] gives it, leads to; a symbolic link at its end is followed or not.
    pub(super) fn place(&self, thread: i32, path: &Path, follow: bool) -> io::Result<Place> {
        let mut path = path.to_owned();
        for _ in 0..MAX_LINKS {
            match expand(self, thread, &path)? {
                // To the caller it is a link, of which nothing but what it leads to can be had here.
                Expanded::Place(place) if !follow && place.own_process.is_none() => {
                    return Err(errno(libc::ELOOP));
                }
                Expanded::Place(place) => return Ok(place),
                Expanded::Path(plain) => path = plain,
            }
            let flags = if follow { libc::O_PATH } else { libc::O_PATH | libc::O_NOFOLLOW };
            match self.open(&path, flags) {
                Ok(file) => {
                    let place = Place::new(file, None)?;
                    if !is_of_this_process(&place.path) || !self.leads_over_links(&path, flags) {
                        return Ok(place);
                    }
                }
                // A link into the middle of a process, somewhere on the way; or one to the caller's own
                // directory of /proc, which to this process is its own, or is not there.
                Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {}
                Err(error)
                    if error.raw_os_error() == Some(libc::ENOENT)
                        && self.leads_over_links(&path, flags) => {}
                Err(error) => return Err(error),
            }
            path = self.first_link_followed(&path, follow)?; // go there step by step
        }
        Err(errno(libc::ELOOP))
    }

    /// The directory and the name that `path` ends in.
    pub(super) fn entry(&self, thread: i32, path: &Path) -> io::Result<Entry> {
        let bytes = path.as_os_str().as_bytes();
        let trimmed = bytes.iter().rposition(|byte| *byte != b'/').map_or(0, |last| last + 1);
        let (bytes, is_directory) = (&bytes[..trimmed], trimmed < bytes.len());
        let slash = bytes.iter().rposition(|byte| *byte == b'/').ok_or(errno(libc::EBUSY))?;
        let (parent, name) = (&bytes[..slash.max(1)], &bytes[slash + 1..]);
        let mut directory = parent.to_vec();
        directory.push(b'/'); // so that anything else is refused (ENOTDIR)
        let parent = self.place(thread, Path::new(OsStr::from_bytes(&directory)), true)?;
        if matches!(name, b"" | b"." | b"..") {
            return Err(errno(libc::EBUSY)); // always there, and never to be moved or deleted
        }
        let path = parent.path.join(OsStr::from_bytes(name));
        let name = CString::new(name)?;
        Ok(Entry { directory: parent.file, name, path, is_directory })
    }

    /// `path` with the first symbolic link on it replaced by what it says.
    fn first_link_followed(&self, path: &Path, follow: bool) -> io::Result<PathBuf> {
        // Then the kernel follows the last one in any case.
        let names_directory = names_directory(path);
        let mut walked = PathBuf::from("/");
        let mut rest = path.components();
        rest.next(); // the root
        while let Some(component) = rest.next() {
            walked.push(component);
            let rest = rest.as_path().as_os_str();
            if rest.is_empty() && !follow && !names_directory {
                break;
            }
            let file = self.open(&walked, libc::O_PATH | libc::O_NOFOLLOW)?;
            if !file.metadata()?.is_symlink() {
                continue;
            }
            let target = if is_process_file(&file) {
                let link = Place::new(file, None)?.path;
                match link.to_str() {
                    Some("/proc/self" | "/proc/thread-self") => link,
                    Some("/proc/mounts") => PathBuf::from("/proc/self/mounts"),
                    Some("/proc/net") => PathBuf::from("/proc/self/net"),
                    _ => break, // of another process: not followed on anybody's behalf
                }
            } else {
                read_link_at(&file, c"")?
            };
            walked.pop();
            walked.push(target);
            if !rest.is_empty() {
                walked.push(rest);
            }
            if names_directory {
                walked.push("");
            }
            return Ok(walked);
        }
        Err(errno(libc::EACCES))
    }

    pub(super) fn open(&self, path: &Path, flags: i32) -> io::Result<File> {
        self.open_by(path, flags, libc::RESOLVE_NO_MAGICLINKS)
    }

    fn open_by(&self, path: &Path, flags: i32, resolve: u64) -> io::Result<File> {
        let path = CString::new(path.as_os_str().as_bytes())?;
        let resolve = resolve | libc::RESOLVE_IN_ROOT;
        descriptor::openat2(self.root.as_raw_fd(), &path, flags, resolve).map(File::from)
    }

    /// Whether there is a symbolic link on the way, as far as that goes.
    fn leads_over_links(&self, path: &Path, flags: i32) -> bool {
        let opened = self.open_by(path, flags, libc::RESOLVE_NO_SYMLINKS);
        opened.is_err_and(|error| error.raw_os_error() == Some(libc::ELOOP))
    }
}

/// As many symbolic links as the kernel follows (`path_resolution(7)`).
pub(super) const MAX_LINKS: usize = 40;

impl Place {
    fn new(file: File, own_process: Option<PathBuf>) -> io::Result<Self> {
        /// The kernel adds this to the name of what has been deleted (`proc_pid_fd(5)`).
        const DELETED: &[u8] = b" (deleted)";
        let mut path = read_link_at(own_descriptors()?, &own_name(&file))?;
        if let Some(name) = path.as_os_str().as_bytes().strip_suffix(DELETED)
            && file.metadata()?.nlink() == 0
        {
            path = Path::new(OsStr::from_bytes(name)).to_owned();
        }
        Ok(Place { file, path, own_process })
    }

    /// What a descriptor of `thread` stands for, if it is open, as opposed to a mere place (`O_PATH`).
    pub(super) fn of_open_descriptor(thread: i32, fd: RawFd) -> io::Result<Self> {
        let info = std::fs::read_to_string(format!("/proc/{thread}/fdinfo/{fd}"))?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|octal| i32::from_str_radix(octal.trim(), 8).ok());
        match flags.ok_or(errno(libc::EIO))? & libc::O_PATH {
            0 => Place::of_descriptor(thread, fd),
            _ => Err(errno(libc::EBADF)),
        }
    }

    /// What a descriptor of `thread` stands for.
    pub(super) fn of_descriptor(thread: i32, fd: RawFd) -> io::Result<Self> {
        Place::of_magic_link(Path::new(&format!("/proc/{thread}/fd/{fd}")))
    }

    /// Where one of the kernel's links leads to what a process has open.
    pub(super) fn of_magic_link(link: &Path) -> io::Result<Self> {
        Place::new(open_place(link, 0)?, None)
    }

    /// A file that the caller's directory of `/proc` has under a name.
    pub(super) fn about_caller(file: File, name: PathBuf) -> io::Result<Self> {
        Place::new(file, Some(name))
    }

    /// Whether it is on any path.
    pub(super) fn has_path(&self) -> bool {
        self.path.is_absolute() && !self.path.starts_with("/memfd:")
    }
}

/// The directory of this process's descriptors: links from it need no walk through `/proc`.
pub(super) fn own_descriptors() -> io::Result<&'static File> {
    static DESCRIPTORS: OnceLock<File> = OnceLock::new();
    if let Some(directory) = DESCRIPTORS.get() {
        return Ok(directory);
    }
    let directory = open_place("/proc/self/fd", libc::O_DIRECTORY)?;
    Ok(DESCRIPTORS.get_or_init(|| directory))
}

/// The name of an open file in that directory.
pub(super) fn own_name(file: &File) -> CString {
    CString::new(file.as_raw_fd().to_string()).unwrap_or_default()
}

/// Where this process finds an open file under a path.
pub(super) fn own_link(file: &File) -> CString {
    CString::new(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_default()
}

/// A file, whatever its path.
pub(super) type Inode = (u64, u64);

pub(super) fn inode(file: &Metadata) -> Inode {
    (file.dev(), file.ino())
}

/// A path as a caller gave it, from the root on: relative to its working directory or a descriptor.
pub(super) fn full_path(thread: i32, base: RawFd, given: &[u8]) -> io::Result<PathBuf> {
    let given = Path::new(OsStr::from_bytes(given));
    if given.as_os_str().is_empty() {
        return Err(errno(libc::ENOENT));
    }
    if given.is_absolute() {
        return Ok(given.to_owned());
    }
    // The link's text is the directory's path in the caller's mount namespace.
    let base = match base {
        libc::AT_FDCWD => std::fs::read_link(format!("/proc/{thread}/cwd"))?,
        fd => {
            let link = format!("/proc/{thread}/fd/{fd}");
            let base = std::fs::read_link(&link).map_err(|_| errno(libc::EBADF))?;
            if !std::fs::metadata(&link)?.is_dir() {
                return Err(errno(libc::ENOTDIR)); // also a symbolic link, as a place (O_PATH)
            }
            base
        }
    };
    if !base.is_absolute() {
        return Err(errno(libc::ENOTDIR));
    }
    let mut path = base.into_os_string();
    path.push("/");
    path.push(given);
    Ok(path.into())
}

/// Where a symbolic link leads, by its text.
pub(super) fn read_link_at(directory: &File, name: &CStr) -> io::Result<PathBuf> {
    let mut text = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most as many bytes as the buffer has.
    let length = unsafe {
        libc::readlinkat(directory.as_raw_fd(), name.as_ptr(), text.as_mut_ptr().cast(), text.len())
    };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(PathBuf::from(OsStr::from_bytes(&text[..length as usize])))
}

/// Whether a path says by its end that a directory is meant, which components do not tell.
pub(super) fn names_directory(path: &Path) -> bool {
    let bytes = path.as_os_str().as_bytes();
    bytes.ends_with(b"/") || bytes.ends_with(b"/.")
}

/// Whether it is in this process's own directory of `/proc`.
fn is_of_this_process(path: &Path) -> bool {
    let number = path.as_os_str().as_bytes().strip_prefix(b"/proc/");
    number.is_some_and(|rest| {
        let name = rest.split(|byte| *byte == b'/').next().unwrap_or_default();
        std::str::from_utf8(name).is_ok_and(|name| name.parse() == Ok(std::process::id()))
    })
}

pub(super) fn is_process_file(file: &File) -> bool {
    // SAFETY: all-zero is a valid statfs, and the kernel fills it.
    let mut system: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: as above.
    let told = unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut system) };
    told == 0 && system.f_type == libc::PROC_SUPER_MAGIC as _
}

pub(super) fn errno(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// The device number of `/dev/tty`: whichever terminal controls the one that opens it.
pub(super) fn is_controlling_terminal(file: &Metadata) -> bool {
    file.rdev() == libc::makedev(5, 0)
}
