use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{
    AtFlags, FileType, RawMode, Statx, StatxAttributes, StatxFlags, StatxTimestamp, statx,
};

/// A point in time as the file system keeps it.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Time {
    /// Seconds since the epoch.
    pub seconds: i64,
    /// Nanoseconds within the second.
    pub nanoseconds: u32,
}

impl Time {
    /// Now, by the clock that file systems use.
    pub(crate) fn now() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
        Self { seconds: now.tv_sec, nanoseconds: now.tv_nsec as u32 }
    }

    /// Now, and not before any time that a file system has given by its clock.
    pub(crate) fn now_exactly() -> Self {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
        Self { seconds: now.tv_sec, nanoseconds: now.tv_nsec as u32 }
    }

    /// In nanoseconds.
    pub(crate) fn since_epoch(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds)
    }
}

impl From<StatxTimestamp> for Time {
    fn from(time: StatxTimestamp) -> Self {
        Self { seconds: time.tv_sec, nanoseconds: time.tv_nsec }
    }
}

/// What the file system says about one entry: enough to tell, without reading it, that it is unchanged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meta {
    /// File type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names of the inode.
    pub nlink: u32,
    /// Length in bytes.
    pub size: u64,
    /// Allocated 512-byte blocks; fewer than the size needs means holes.
    pub blocks: u64,
    /// Device number of a device node, as major << 32 | minor.
    pub rdev: u64,
    /// Inode number.
    pub ino: u64,
    /// Last modification of the contents.
    pub mtime: Time,
    /// Last change of the inode.
    pub ctime: Time,
    /// Birth; zero where the file system doesn't keep it.
    pub btime: Time,
}

impl Meta {
    /// The file type.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode as RawMode)
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type() == FileType::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.file_type() == FileType::RegularFile
    }

    /// The permission bits with set-uid, set-gid and sticky.
    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    /// Whether `other` is the same inode in the same condition: a change of contents, attributes or
    /// extended attributes always moves the ctime, which no program can set.
    pub(crate) fn same_condition(&self, other: &Self) -> bool {
        self.ino == other.ino
            && self.ctime == other.ctime
            && self.mtime == other.mtime
            && self.size == other.size
            && self.mode == other.mode
            && (self.uid, self.gid) == (other.uid, other.gid)
    }

    /// Whether `other` is the same inode, perhaps changed. Inode numbers are reused quickly, births
    /// are not.
    pub(crate) fn same_inode(&self, other: &Self) -> bool {
        self.ino == other.ino && self.btime == other.btime && self.file_type() == other.file_type()
    }

    /// Whether every change after `time` moves the ctime: the kernel's clock for it ticks every 1 to
    /// 10 ms, and some file systems (zfs-fuse, FAT, old NFS servers) keep whole seconds only.
    pub(crate) fn was_settled(&self, time: Time) -> bool {
        let granularity = if self.ctime.nanoseconds == 0 { 2_000_000_000 } else { 20_000_000 };
        self.ctime.since_epoch() < time.since_epoch() - granularity
    }

    fn from_statx(stat: &Statx) -> Self {
        Self {
            mode: u32::from(stat.stx_mode),
            uid: stat.stx_uid,
            gid: stat.stx_gid,
            nlink: stat.stx_nlink,
            size: stat.stx_size,
            blocks: stat.stx_blocks,
            rdev: u64::from(stat.stx_rdev_major) << 32 | u64::from(stat.stx_rdev_minor),
            ino: stat.stx_ino,
            mtime: stat.stx_mtime.into(),
            ctime: stat.stx_ctime.into(),
            btime: stat.stx_btime.into(),
        }
    }
}

/// [`Meta`] with where the entry lives.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stat {
    pub(crate) meta: Meta,
    /// Device number of the file system.
    pub(crate) dev: (u32, u32),
    /// Mount the entry was reached through; 0 before Linux 5.8.
    pub(crate) mount: u64,
    pub(crate) mount_root: bool,
    /// Immutable or append-only (chattr(1)): it can't be renamed, nor what is in it.
    pub(crate) fixed: bool,
}

/// `statx` of `name` in `dir`, never following a symbolic link; an empty name means `dir` itself.
pub(crate) fn stat_at(dir: impl AsFd, name: &OsStr) -> io::Result<Stat> {
    let mask = StatxFlags::BASIC_STATS | StatxFlags::BTIME | StatxFlags::MNT_ID;
    let mut flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    if name.is_empty() {
        flags |= AtFlags::EMPTY_PATH;
    }
    let stat = statx(dir, name, flags, mask)?;
    Ok(Stat {
        meta: Meta::from_statx(&stat),
        dev: (stat.stx_dev_major, stat.stx_dev_minor),
        mount: stat.stx_mnt_id,
        mount_root: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        fixed: stat
            .stx_attributes
            .intersects(StatxAttributes::IMMUTABLE.union(StatxAttributes::APPEND)),
    })
}

/// `statx` of an open file.
pub(crate) fn stat_fd(fd: impl AsFd) -> io::Result<Stat> {
    stat_at(fd, OsStr::new(""))
}
