use std::io;
use std::path::{Path, PathBuf};

/// What can go wrong, each with a stable [`code`](Error::code).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("could not {action} {}: {source}: {}", path.display(), remedy(source))]
    Io {
        /// What was being done, as an infinitive.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// The operating system's answer.
        source: io::Error,
    },
    /// The path is not an existing directory.
    #[error("{} is not a directory: a checkpoint covers whole directories", .0.display())]
    NotADirectory(PathBuf),
    /// Two of the directories contain each other, or the store lies inside one of them.
    #[error("{} lies inside {}: name only the outer one, and keep the store outside of both", inner.display(), outer.display())]
    Nested {
        /// The inner directory.
        inner: PathBuf,
        /// The directory around it.
        outer: PathBuf,
    },
    /// The directory is itself a mount point, so that it can't be exchanged by a rename.
    #[error("{} is a mount point and the kernel refuses to rename it: checkpoint the directories below it", .0.display())]
    MountPoint(PathBuf),
    /// Another file system (or btrfs subvolume) is mounted inside the directory.
    #[error("another file system is mounted at {}: unmount it, or checkpoint the directories beside it", .0.display())]
    SpansFilesystems(PathBuf),
    /// The strategy asked for can't serve this directory.
    #[error("strategy {strategy} can't serve {}: {reason}", path.display())]
    StrategyUnsupported {
        /// The strategy's name.
        strategy: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// No place for the pre-image: it must be on the same mount as the directory.
    #[error("no usable place for the checkpoint of {}: {reason}", path.display())]
    StoreUnusable {
        /// The directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// No checkpoint of that id.
    #[error("there is no checkpoint {id} in {}: `nono checkpoints` lists them", store.display())]
    UnknownCheckpoint {
        /// The id.
        id: String,
        /// The store that was searched.
        store: PathBuf,
    },
    /// The checkpoint's state doesn't allow the operation.
    #[error("checkpoint {id} is {state}: {operation} is no longer possible")]
    State {
        /// The id.
        id: String,
        /// The state it is in.
        state: String,
        /// What was asked.
        operation: &'static str,
    },
    /// Another process works on the checkpoint.
    #[error("checkpoint {0} is in use by another process: wait for it to finish")]
    Busy(String),
    /// A directory lies below so many others that even listing it would cost too much.
    #[error("{}… is too deep: its path below the checkpoint's directory has more than {limit} bytes; delete it, or exclude a directory above it", path.display())]
    TooDeep {
        /// The start of its path.
        path: PathBuf,
        /// The longest path that is listed.
        limit: usize,
    },
    /// A file kept changing while it was read.
    #[error("{} changed while it was being copied: stop the programs that write to it, or exclude it", .0.display())]
    Changing(PathBuf),
    /// Something moved under a running rollback or commit; everything was put back.
    #[error("{} was replaced while the checkpoint worked on it; nothing was changed: stop the programs that use the directory and retry", .0.display())]
    ChangedMeanwhile(PathBuf),
    /// The flags of an entry (chattr(1)) forbid to rename it, or anything in it.
    #[error("{} is immutable or append-only, so that nothing can take its place; nothing was changed: take the flag off first (chattr -ia)", .0.display())]
    Immutable(PathBuf),
    /// An excluded entry lives where the checkpoint has no directory.
    #[error("{} is excluded, yet at the checkpoint a directory above it was not one: move it away first", .0.display())]
    ExcludedConflict(PathBuf),
    /// A file of the store is damaged, or was never completely written to disk.
    #[error("checkpoint data {} can't be trusted: {reason}", path.display())]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// An exclusion pattern can't be read.
    #[error("bad exclusion pattern {pattern:?}: {reason}")]
    BadPattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A path that is not below any directory of the checkpoint.
    #[error("{} is not inside a directory of this checkpoint", .0.display())]
    PathOutside(PathBuf),
    /// Single paths can't be selected because a directory above them was renamed, or is not one on both sides.
    #[error("{} was renamed or replaced as a directory: roll back or commit everything instead of single paths in it", .0.display())]
    RenamedDirectory(PathBuf),
    /// Only a part of what was applied could be withdrawn.
    #[error("single paths of {} were committed or rolled back after the changes were applied: roll back or commit the rest", .0.display())]
    Divided(PathBuf),
    /// What the checkpoint keeps is the way back for an earlier one.
    #[error(
        "checkpoint {id} keeps what {earlier}, made before it, needs to be rolled back: commit or roll back that one first"
    )]
    Needed {
        /// The checkpoint.
        id: String,
        /// The earlier one.
        earlier: String,
    },
    /// Processes hold files in the directory and the caller asked to refuse then.
    #[error("{} is in use by process {pid} ({command}): stop it first", path.display())]
    Held {
        /// The file, or the directory it works in.
        path: PathBuf,
        /// The process.
        pid: i32,
        /// Its name.
        command: String,
    },
}

/// Result with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// The stable code, `ERR_NONO_...`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io { .. } => "ERR_NONO_ROLLBACK_IO",
            Self::NotADirectory(_) => "ERR_NONO_NOT_A_DIRECTORY",
            Self::Nested { .. } => "ERR_NONO_NESTED_DIRECTORIES",
            Self::MountPoint(_) => "ERR_NONO_MOUNT_POINT",
            Self::SpansFilesystems(_) => "ERR_NONO_SPANS_FILESYSTEMS",
            Self::StrategyUnsupported { .. } => "ERR_NONO_STRATEGY_UNSUPPORTED",
            Self::StoreUnusable { .. } => "ERR_NONO_STORE_UNUSABLE",
            Self::UnknownCheckpoint { .. } => "ERR_NONO_UNKNOWN_CHECKPOINT",
            Self::State { .. } => "ERR_NONO_CHECKPOINT_STATE",
            Self::Busy(_) => "ERR_NONO_CHECKPOINT_BUSY",
            Self::TooDeep { .. } => "ERR_NONO_TOO_DEEP",
            Self::Changing(_) => "ERR_NONO_FILE_CHANGING",
            Self::ChangedMeanwhile(_) => "ERR_NONO_CHANGED_MEANWHILE",
            Self::Immutable(_) => "ERR_NONO_IMMUTABLE",
            Self::ExcludedConflict(_) => "ERR_NONO_EXCLUDED_CONFLICT",
            Self::Corrupt { .. } => "ERR_NONO_CHECKPOINT_CORRUPT",
            Self::BadPattern { .. } => "ERR_NONO_BAD_PATTERN",
            Self::PathOutside(_) => "ERR_NONO_PATH_OUTSIDE",
            Self::RenamedDirectory(_) => "ERR_NONO_RENAMED_DIRECTORY",
            Self::Divided(_) => "ERR_NONO_CHECKPOINT_DIVIDED",
            Self::Needed { .. } => "ERR_NONO_CHECKPOINT_NEEDED",
            Self::Held { .. } => "ERR_NONO_FILES_HELD",
        }
    }

    /// The path the error is about, if it is about one.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Io { path, .. }
            | Self::StrategyUnsupported { path, .. }
            | Self::StoreUnusable { path, .. }
            | Self::Corrupt { path, .. }
            | Self::Held { path, .. }
            | Self::TooDeep { path, .. }
            | Self::NotADirectory(path)
            | Self::MountPoint(path)
            | Self::SpansFilesystems(path)
            | Self::Changing(path)
            | Self::ChangedMeanwhile(path)
            | Self::Immutable(path)
            | Self::ExcludedConflict(path)
            | Self::PathOutside(path)
            | Self::RenamedDirectory(path)
            | Self::Divided(path)
            | Self::Nested { inner: path, .. } => Some(path),
            Self::UnknownCheckpoint { .. }
            | Self::State { .. }
            | Self::Needed { .. }
            | Self::Busy(_)
            | Self::BadPattern { .. } => None,
        }
    }
}

/// What to do about a system call that failed.
fn remedy(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EACCES) => {
            "do it as a user who has the permission, give it back (chmod u+rwx), or exclude what is there"
        }
        Some(libc::EPERM) => "do it as its owner or as root, or take off what forbids it (lsattr)",
        Some(libc::ENOSPC) => "free some space on its file system and retry",
        Some(libc::EDQUOT) => "free some of what the quota counts and retry",
        Some(libc::EROFS) => "mount its file system for writing (findmnt -T) and retry",
        Some(libc::EIO) => {
            "the disk, or what is below it, fails: see dmesg, and retry once it works"
        }
        Some(libc::EMFILE | libc::ENFILE) => "permit more open files (ulimit -n) and retry",
        Some(libc::ENOMEM) => "free some memory and retry",
        Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP) => {
            "put what was there back, or stop the programs that move it, and retry"
        }
        Some(libc::EBUSY) => "unmount what is mounted there, or stop who uses it, and retry",
        _ => "retry once the cause is gone, after `nono recover` if something was interrupted",
    }
}

/// Gives a failed system call its context.
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, path: &Path) -> Result<T>;

    /// The same for a path that is only put together when it is needed.
    fn with_context(self, action: &'static str, path: impl FnOnce() -> PathBuf) -> Result<T>;
}

impl<T, E: Into<io::Error>> Context<T> for std::result::Result<T, E> {
    fn context(self, action: &'static str, path: &Path) -> Result<T> {
        self.with_context(action, || path.to_owned())
    }

    fn with_context(self, action: &'static str, path: impl FnOnce() -> PathBuf) -> Result<T> {
        self.map_err(|source| Error::Io { action, path: path(), source: source.into() })
    }
}
