//! A list of renames that happens wholly or not at all.
//!
//! Every step is one atomic system call. The whole list is on disk before the first step, with the
//! inode each step expects, so that after a crash [`Transaction::finish`] can tell what was done
//! already and do the rest.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, RenameFlags, Timespec, Timestamps, UTIME_OMIT, fsync, renameat_with, utimensat,
};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::attributes::set_attributes;
use crate::compare::{ChangeKind, is_overlay_note};
use crate::encoding;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::identity::identity;
use crate::meta::{Meta, Time, stat_at};
use crate::plan::Base;
use crate::walk::{open_beneath, open_directory, split};
use crate::xattr::Inode;

/// A name in a directory. `base` is trusted; below it no symbolic link is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    #[serde(with = "encoding::path")]
    pub(crate) base: PathBuf,
    #[serde(with = "encoding::path")]
    pub(crate) path: PathBuf,
}

impl Place {
    pub(crate) fn new(base: &Path, path: impl Into<PathBuf>) -> Self {
        Self { base: base.to_owned(), path: path.into() }
    }

    pub(crate) fn full(&self) -> PathBuf {
        self.base.join(&self.path)
    }

    fn parent(&self) -> io::Result<OwnedFd> {
        let base = open_directory(&self.base).map_err(|error| match error {
            Error::Io { source, .. } => source,
            other => io::Error::other(other),
        })?;
        open_beneath(&base, split(&self.path).0)
    }

    fn identity(&self) -> Result<Option<String>> {
        let parent = self.parent().context("open the directory of", &self.full())?;
        identity(&parent, split(&self.path).1).context("examine", &self.full())
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    /// `a` and `b` change places; each is the identity of what is there before.
    Exchange { a: Place, b: Place, was_a: String, was_b: String },
    /// The entry at `from`, of that identity, moves to `to`, where nothing is.
    Move { from: Place, to: Place, what: String },
    /// The directory's own attributes; its entries stay.
    Directory { at: Place, before: DirectoryState, after: DirectoryState },
}

/// A directory's own attributes, which change without the directory being replaced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DirectoryState {
    mode: u32,
    uid: u32,
    gid: u32,
    seconds: i64,
    nanoseconds: u32,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl DirectoryState {
    /// The attributes of the open directory, as `meta` gives them.
    pub(crate) fn of(dir: &OwnedFd, meta: &Meta) -> io::Result<Self> {
        let Time { seconds, nanoseconds } = meta.mtime;
        let xattrs =
            Inode::Open(dir).read()?.into_iter().filter(|(name, _)| !is_overlay_note(name));
        let (mode, uid, gid) = (meta.mode, meta.uid, meta.gid);
        Ok(Self { mode, uid, gid, seconds, nanoseconds, xattrs: xattrs.collect() })
    }

    /// In what the two differ, apart from the modification time.
    pub(crate) fn difference(&self, other: &Self) -> Option<ChangeKind> {
        if self.mode != other.mode {
            Some(ChangeKind::Mode)
        } else if (self.uid, self.gid) != (other.uid, other.gid) {
            Some(ChangeKind::Owner)
        } else {
            (self.xattrs != other.xattrs).then_some(ChangeKind::Xattr)
        }
    }

    pub(crate) fn meta(&self) -> Meta {
        Meta {
            mode: self.mode,
            uid: self.uid,
            gid: self.gid,
            mtime: Time { seconds: self.seconds, nanoseconds: self.nanoseconds },
            ..Meta::default()
        }
    }

    pub(crate) fn apply(&self, dir: &OwnedFd) -> io::Result<()> {
        set_attributes(&Inode::Open(dir), &self.xattrs.iter().cloned().collect(), &self.meta())
    }
}

impl Step {
    /// Plans an exchange of what is at the two places now.
    pub(crate) fn exchange(a: Place, b: Place) -> Result<Self> {
        let missing = |place: &Place| Error::ChangedMeanwhile(place.full());
        let was_a = a.identity()?.ok_or_else(|| missing(&a))?;
        let was_b = b.identity()?.ok_or_else(|| missing(&b))?;
        Ok(Self::Exchange { a, b, was_a, was_b })
    }

    /// Plans a move of what is at `from` now.
    pub(crate) fn shift(from: Place, to: Place) -> Result<Self> {
        let what = from.identity()?.ok_or_else(|| Error::ChangedMeanwhile(from.full()))?;
        Ok(Self::Move { from, to, what })
    }

    /// Plans an exchange with what will be at `a` by then and now is at `origin`.
    pub(crate) fn exchange_from(a: Place, origin: &Place, b: Place) -> Result<Self> {
        let was_a = origin.identity()?.ok_or_else(|| Error::ChangedMeanwhile(origin.full()))?;
        let was_b = b.identity()?.ok_or_else(|| Error::ChangedMeanwhile(b.full()))?;
        Ok(Self::Exchange { a, b, was_a, was_b })
    }

    /// Plans a move of what will be at `from` by then and now is at `origin`.
    pub(crate) fn shift_from(from: Place, origin: &Place, to: Place) -> Result<Self> {
        let what = origin.identity()?.ok_or_else(|| Error::ChangedMeanwhile(origin.full()))?;
        Ok(Self::Move { from, to, what })
    }

    /// The entry of the tree that the step is about.
    pub(crate) fn path_in(&self, base: &Base) -> Option<PathBuf> {
        self.places().into_iter().find_map(|place| base.path_of(place))
    }

    /// The step that undoes this one.
    pub(crate) fn reversed(&self) -> Self {
        match self.clone() {
            Self::Exchange { a, b, was_a, was_b } => {
                Self::Exchange { a, b, was_a: was_b, was_b: was_a }
            }
            Self::Move { from, to, what } => Self::Move { from: to, to: from, what },
            Self::Directory { at, before, after } => {
                Self::Directory { at, before: after, after: before }
            }
        }
    }

    /// Does the step, or nothing when it is done already.
    fn run(&self) -> Result<()> {
        match self {
            Self::Exchange { a, b, was_a, was_b } => {
                let (at_a, at_b) = (a.identity()?, b.identity()?);
                if at_a.as_ref() == Some(was_b) && at_b.as_ref() == Some(was_a) {
                    return Ok(());
                }
                if at_a.as_ref() != Some(was_a) || at_b.as_ref() != Some(was_b) {
                    return Err(Error::ChangedMeanwhile(a.full()));
                }
                let times = [times(b)?, times(a)?];
                rename(a, b, RenameFlags::EXCHANGE)?;
                set_times(a, times[0])?;
                set_times(b, times[1])
            }
            Self::Move { from, to, what } => {
                let source = from.identity()?;
                if source.is_none() && to.identity()?.as_ref() == Some(what) {
                    return Ok(());
                }
                if source.as_ref() != Some(what) {
                    return Err(Error::ChangedMeanwhile(from.full()));
                }
                match rename(from, to, RenameFlags::NOREPLACE) {
                    Err(Error::Io { source, .. })
                        if Errno::from_io_error(&source) == Some(Errno::EXIST) =>
                    {
                        Err(Error::ChangedMeanwhile(to.full()))
                    }
                    outcome => outcome,
                }
            }
            Self::Directory { at, after, .. } => {
                let base = open_directory(&at.base)?;
                let dir =
                    open_beneath(&base, &at.path).context("open the directory", &at.full())?;
                after.apply(&dir).context("set the attributes of", &at.full())
            }
        }
    }

    fn places(&self) -> Vec<&Place> {
        match self {
            Self::Exchange { a, b, .. } => vec![a, b],
            Self::Move { from, to, .. } => vec![from, to],
            Self::Directory { at, .. } => vec![at],
        }
    }
}

/// The modification time of a directory. XFS moves it when an exchange gives the directory another
/// parent (xfs_cross_rename); elsewhere setting it again changes nothing.
fn times(place: &Place) -> Result<Option<Time>> {
    let stat = place.parent().and_then(|parent| stat_at(parent, split(&place.path).1));
    let meta = stat.context("examine", &place.full())?.meta;
    Ok(meta.is_dir().then_some(meta.mtime))
}

fn set_times(place: &Place, was: Option<Time>) -> Result<()> {
    let Some(was) = was.filter(|&was| times(place).is_ok_and(|now| now != Some(was))) else {
        return Ok(());
    };
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: was.seconds, tv_nsec: was.nanoseconds.into() },
    };
    let set = place.parent().and_then(|parent| {
        Ok(utimensat(parent, split(&place.path).1, &times, AtFlags::SYMLINK_NOFOLLOW)?)
    });
    set.context("set the times of", &place.full())
}

fn rename(from: &Place, to: &Place, flags: RenameFlags) -> Result<()> {
    let renamed = (|| {
        let (old, new) = (from.parent()?, to.parent()?);
        Ok::<_, io::Error>(renameat_with(old, split(&from.path).1, new, split(&to.path).1, flags)?)
    })();
    renamed.context("rename", &from.full())
}

/// Steps, and the state the checkpoint is in once they are done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transaction<T> {
    pub(crate) steps: Vec<Step>,
    pub(crate) then: T,
}

impl<T: Serialize + for<'de> Deserialize<'de>> Transaction<T> {
    /// Writes the journal to `journal`, does the steps, and makes them durable. When a step fails,
    /// the steps done are undone and the journal is removed: nothing has happened.
    ///
    /// The caller removes the journal once it has recorded `then`.
    pub(crate) fn run(&self, journal: &Path) -> Result<()> {
        write_durably(
            journal,
            &serde_json::to_vec(self).map_err(io::Error::from).context("encode", journal)?,
        )?;
        for (done, step) in self.steps.iter().enumerate() {
            let outcome = fault::point("step")
                .context("rename", &step.places()[0].full())
                .and_then(|()| step.run());
            if let Err(error) = outcome {
                for step in self.steps[..done].iter().rev() {
                    // A step that can't be undone leaves the journal for recovery to go forward.
                    step.reversed().run()?;
                }
                remove_durably(journal)?;
                return Err(error);
            }
        }
        self.sync()
    }

    /// After a crash: does what is left to do.
    pub(crate) fn finish(&self) -> Result<()> {
        for step in &self.steps {
            step.run()?;
        }
        self.sync()
    }

    /// Reads the journal a crash left behind, if it did.
    pub(crate) fn left_at(journal: &Path) -> Result<Option<Self>> {
        let bytes = match std::fs::read(journal) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.context("read", journal)?,
        };
        let transaction = serde_json::from_slice(&bytes).map_err(|error| Error::Corrupt {
            path: journal.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Some(transaction))
    }

    /// fsync of each directory that a step changed, once.
    fn sync(&self) -> Result<()> {
        let mut seen = std::collections::HashSet::new();
        for place in self.steps.iter().flat_map(Step::places) {
            let dir = split(&place.path).0;
            if !seen.insert((place.base.clone(), dir.to_owned())) {
                continue;
            }
            fault::point("sync").context("flush", &place.full())?;
            // A later step may have moved the directory itself: its own parent is in the list too.
            match place.parent() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                parent => {
                    let parent = parent.context("open the directory of", &place.full())?;
                    fsync(parent).context("flush", &place.full())?;
                }
            }
        }
        Ok(())
    }
}

/// Writes a file so that after a crash it is there wholly or not at all.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    let write = || {
        fault::point("write")?;
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        fault::point("fsync")?;
        file.sync_all()?;
        fault::point("publish")?;
        std::fs::rename(&temporary, path)?;
        sync_parent(path)
    };
    write().context("write", path)
}

/// Removes a file, durably.
pub(crate) fn remove_durably(path: &Path) -> Result<()> {
    let remove = || {
        fault::point("remove")?;
        std::fs::remove_file(path)?;
        sync_parent(path)
    };
    remove().context("remove", path)
}

fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}
