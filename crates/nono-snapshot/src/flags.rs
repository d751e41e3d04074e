//! The flags of an inode that chattr(1) sets, and its project, to which quotas are counted. Of what can be
//! opened, files and directories have them.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::OnceLock;

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

/// Those that can be set, of linux/fs.h. The others say how the file system stores the inode.
const SETTABLE: IFlags = AT_BIRTH.union(FIXED).union(IFlags::from_bits_retain(
    0x0000_0001 // SECRM
        | 0x0000_0002 // UNRM
        | 0x0000_0008 // SYNC
        | 0x0000_0040 // NODUMP
        | 0x0000_0080 // NOATIME
        | 0x0000_4000 // JOURNAL_DATA
        | 0x0000_8000 // NOTAIL
        | 0x0001_0000 // DIRSYNC
        | 0x0002_0000, // TOPDIR
));
/// They concern what is written later, or can only be set while nothing is in it.
const AT_BIRTH: IFlags = IFlags::from_bits_retain(
    0x0000_0004 // COMPR
        | 0x0000_0400 // NOCOMP
        | 0x0080_0000 // NOCOW
        | 0x0200_0000 // DAX
        | 0x2000_0000 // PROJINHERIT
        | 0x4000_0000, // CASEFOLD
);
/// Nothing else can be changed once they are set: IMMUTABLE and APPEND.
const FIXED: IFlags = IFlags::from_bits_retain(0x10 | 0x20);
/// They protect contents, and only the kernel's own tools can give them: ENCRYPT and VERITY.
const PROTECTED: IFlags = IFlags::from_bits_retain(0x0000_0800 | 0x0010_0000);

/// What chattr(1) has set.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Flags {
    bits: u32,
    project: u32,
}

impl Flags {
    /// None on file systems without.
    pub(crate) fn of(fd: impl AsFd) -> io::Result<Self> {
        let project = extended(&fd)?.map_or(0, |extended| extended.project);
        Ok(Self { project, ..Self::without_project(fd)? })
    }

    fn without_project(fd: impl AsFd) -> io::Result<Self> {
        let bits = present(fd)?.intersection(SETTABLE | PROTECTED).bits();
        Ok(Self { bits, project: 0 })
    }

    /// Whether what has them can't be renamed, nor anything in it.
    pub(crate) fn are_fixed(self) -> bool {
        self.bits().intersects(FIXED)
    }

    fn bits(self) -> IFlags {
        IFlags::from_bits_retain(self.bits)
    }

    /// Gives an empty file or directory those that it must have while it is empty. Returns whether it
    /// has all of them then.
    pub(crate) fn give_at_birth(self, fd: impl AsFd) -> io::Result<bool> {
        self.give_project(&fd)?;
        let is = present(&fd)?;
        let wanted = is.difference(AT_BIRTH) | self.bits().intersection(AT_BIRTH);
        if wanted != is {
            set(fd, wanted)?;
        }
        Ok(wanted.intersection(SETTABLE | PROTECTED) == self.bits())
    }

    /// Gives all of them, last of all attributes.
    pub(crate) fn give(self, fd: impl AsFd) -> io::Result<()> {
        self.give_project(&fd)?;
        let is = present(&fd)?;
        if self.bits().difference(is).intersects(PROTECTED) {
            let what = "it is encrypted or has fs-verity, which a copy would not have";
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        let wanted = is.difference(SETTABLE) | self.bits().intersection(SETTABLE);
        if wanted == is { Ok(()) } else { set(fd, wanted) }
    }

    fn give_project(self, fd: impl AsFd) -> io::Result<()> {
        match extended(&fd)? {
            Some(is) if is.project != self.project => {
                let wanted = Extended { project: self.project, ..is };
                // SAFETY: the structure is as long as the request says and lives across the call.
                let status = unsafe {
                    libc::ioctl(fd.as_fd().as_raw_fd(), FSSETXATTR as _, &raw const wanted)
                };
                if status < 0 {
                    let source = io::Error::last_os_error();
                    let what = format!("its project can't be set to {}: {source}", self.project);
                    return Err(io::Error::new(source.kind(), what));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Takes off what keeps everything else from being changed. Returns what was there.
    pub(crate) fn loosen(fd: impl AsFd) -> io::Result<Self> {
        let had = Self::of(&fd)?;
        if had.are_fixed() {
            set(&fd, present(&fd)?.difference(FIXED))?;
        }
        Ok(had)
    }
}

/// With how few calls a copy of many files gets to know of their flags.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking {
    has_projects: bool,
    /// What a new file gets depends on its directory and on nothing else. On f2fs, for one, also on its
    /// name (`compress_extension`).
    is_uniform: bool,
}

impl Asking {
    /// On the file system of that name.
    pub(crate) fn on(file_system: &str) -> Self {
        let has_none = matches!(file_system, "btrfs" | "tmpfs");
        Self {
            has_projects: !has_none,
            is_uniform: has_none || matches!(file_system, "ext4" | "xfs"),
        }
    }

    pub(crate) fn of(self, file: &File) -> io::Result<Flags> {
        if self.has_projects { Flags::of(file) } else { Flags::without_project(file) }
    }

    /// [`Flags::give_at_birth`] to a file just made in a directory about whose new files `newborn` tells,
    /// once one was looked at.
    pub(crate) fn give_at_birth(
        self,
        flags: Flags,
        file: &File,
        newborn: &OnceLock<Flags>,
    ) -> io::Result<bool> {
        if !self.is_uniform {
            return flags.give_at_birth(file);
        }
        let has = match newborn.get() {
            Some(has) => *has,
            None => {
                let has = self.of(file)?;
                *newborn.get_or_init(|| has)
            }
        };
        let at_birth = |of: Flags| (of.project, of.bits().intersection(AT_BIRTH));
        if at_birth(has) == at_birth(flags) {
            return Ok(has == flags);
        }
        flags.give_at_birth(file)
    }
}

fn present(fd: impl AsFd) -> io::Result<IFlags> {
    match ioctl_getflags(fd) {
        // The last is what some FUSE file systems say.
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(IFlags::empty()),
        flags => Ok(flags?),
    }
}

/// `struct fsxattr` of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Extended {
    flags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    copied_extent_size: u32,
    padding: [u8; 8],
}

/// `FS_IOC_FSGETXATTR`, `_IOR('X', 31, struct fsxattr)`
const FSGETXATTR: u64 = 0x801c_581f;
/// `FS_IOC_FSSETXATTR`, `_IOW('X', 32, struct fsxattr)`
const FSSETXATTR: u64 = 0x401c_5820;

/// `None`: the file system has no projects.
fn extended(fd: impl AsFd) -> io::Result<Option<Extended>> {
    let mut extended = Extended::default();
    // SAFETY: the structure is as long as the request says and lives across the call.
    let status = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), FSGETXATTR as _, &raw mut extended) };
    if status == 0 {
        return Ok(Some(extended));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::ENOTTY | libc::EOPNOTSUPP | libc::EINVAL | libc::ENOSYS) => Ok(None),
        _ => Err(error),
    }
}

fn set(fd: impl AsFd, flags: IFlags) -> io::Result<()> {
    ioctl_setflags(fd, flags).map_err(|errno| {
        let source = io::Error::from(errno);
        let what = format!("its flags (see lsattr) can't be set to {:#x}: {source}", flags.bits());
        io::Error::new(source.kind(), what)
    })
}
