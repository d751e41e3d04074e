//! The flags of an inode that chattr(1) sets. Of what can be opened, files and directories have them.

use std::io;
use std::os::fd::AsFd;

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
pub(crate) struct Flags(u32);

impl Flags {
    /// None on file systems without.
    pub(crate) fn of(fd: impl AsFd) -> io::Result<Self> {
        Ok(Self(present(fd)?.intersection(SETTABLE | PROTECTED).bits()))
    }

    /// Whether what has them can't be renamed, nor anything in it.
    pub(crate) fn are_fixed(self) -> bool {
        self.bits().intersects(FIXED)
    }

    fn bits(self) -> IFlags {
        IFlags::from_bits_retain(self.0)
    }

    /// Gives an empty file or directory those that it must have while it is empty. Returns whether it
    /// has all of them then.
    pub(crate) fn give_at_birth(self, fd: impl AsFd) -> io::Result<bool> {
        let is = present(&fd)?;
        let wanted = is.difference(AT_BIRTH) | self.bits().intersection(AT_BIRTH);
        if wanted != is {
            set(fd, wanted)?;
        }
        Ok(wanted.intersection(SETTABLE | PROTECTED) == self.bits())
    }

    /// Gives all of them, last of all attributes.
    pub(crate) fn give(self, fd: impl AsFd) -> io::Result<()> {
        let is = present(&fd)?;
        if self.bits().difference(is).intersects(PROTECTED) {
            let what = "it is encrypted or has fs-verity, which a copy would not have";
            return Err(io::Error::new(io::ErrorKind::Unsupported, what));
        }
        let wanted = is.difference(SETTABLE) | self.bits().intersection(SETTABLE);
        if wanted == is { Ok(()) } else { set(fd, wanted) }
    }

    /// Takes off what keeps everything else from being changed. Returns what was there.
    pub(crate) fn loosen(fd: impl AsFd) -> io::Result<Self> {
        let is = present(&fd)?;
        if is.intersects(FIXED) {
            set(fd, is.difference(FIXED))?;
        }
        Ok(Self(is.intersection(SETTABLE | PROTECTED).bits()))
    }
}

fn present(fd: impl AsFd) -> io::Result<IFlags> {
    match ioctl_getflags(fd) {
        // The last is what some FUSE file systems say.
        Err(Errno::NOTTY | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => Ok(IFlags::empty()),
        flags => Ok(flags?),
    }
}

fn set(fd: impl AsFd, flags: IFlags) -> io::Result<()> {
    ioctl_setflags(fd, flags).map_err(|errno| {
        let source = io::Error::from(errno);
        let what = format!("its flags (see lsattr) can't be set to {:#x}: {source}", flags.bits());
        io::Error::new(source.kind(), what)
    })
}
