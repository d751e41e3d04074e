//! What a rollback or commit does, one atomic system call at a time.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::attributes::{set_attributes, set_times};
use crate::beneath::Directories;
use crate::compare::{ChangeKind, is_overlay_note};
use crate::encoding;
use crate::error::{Context, Error, Result};
use crate::flags::Flags;
use crate::meta::{Meta, Time, stat_fd};
use crate::plan::Base;
use crate::rename::{Spot, exchange, shift};
use crate::strategy::zfs;
use crate::walk::split;
use crate::xattr::{Inode, Xattrs};

/// A name in a directory. `base` is trusted; below it no symbolic link is followed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

    /// The directory it is in.
    pub(crate) fn around(&self) -> Self {
        Self::new(&self.base, split(&self.path).0)
    }

    /// The directory there, open.
    pub(crate) fn open(&self, dirs: &Directories) -> io::Result<Rc<OwnedFd>> {
        dirs.open(&self.base, &self.path)
    }

    /// A directory's own attributes.
    pub(crate) fn directory_state(&self, dirs: &Directories) -> Result<DirectoryState> {
        let state = self.open(dirs).and_then(|dir| DirectoryState::of(&dir, &stat_fd(&dir)?.meta));
        state.with_context("examine", || self.full())
    }

    /// A directory's modification time.
    pub(crate) fn time(&self, dirs: &Directories) -> io::Result<Time> {
        Ok(stat_fd(self.open(dirs)?)?.meta.mtime)
    }

    /// Sets a directory's modification time.
    pub(crate) fn set_time(&self, dirs: &Directories, time: Time) -> Result<()> {
        let set = self.open(dirs).and_then(|dir| set_times(&Inode::Open(&dir), time));
        set.with_context("set the times of", || self.full())
    }

    pub(crate) fn identity(&self) -> Result<Option<String>> {
        self.identity_in(&Directories::default())
    }

    fn identity_in(&self, dirs: &Directories) -> Result<Option<String>> {
        Ok(Spot::open(self, dirs)?.look()?.map(|(identity, _)| identity))
    }

    /// What is going to be renamed: refused where the kernel would refuse that.
    pub(crate) fn movable(&self, dirs: &Directories) -> Result<Option<Item>> {
        let spot = Spot::open(self, dirs)?;
        spot.refuse_fixed()?;
        Ok(spot.look()?.map(Item::new))
    }

    /// The same of what must be there.
    fn present(&self, dirs: &Directories) -> Result<Item> {
        self.movable(dirs)?.ok_or_else(|| Error::ChangedMeanwhile(self.full()))
    }
}

/// What is going to be renamed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Item {
    /// That of [`identity`](crate::identity::identity).
    pub(crate) identity: String,
    /// The permissions of a directory in which its owner may not write. To get another parent it has to be
    /// writable, for everybody but root (rename(2)).
    pub(crate) locked: Option<u32>,
}

impl Item {
    fn new((identity, meta): (String, Meta)) -> Self {
        let is_locked = meta.is_dir() && meta.permissions() & 0o200 == 0;
        Self { identity, locked: is_locked.then(|| meta.permissions()) }
    }

    /// Whether it is what is found there, with its own permissions.
    fn is(&self, (identity, meta): &(String, Meta)) -> bool {
        *identity == self.identity && self.locked.is_none_or(|mode| mode == meta.permissions())
    }
}

/// One step.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Step {
    /// `a` and `b` change places; before, each of the items is at its own.
    Exchange { a: Place, b: Place, was_a: Item, was_b: Item },
    /// The item at `from` moves to `to`, where nothing is.
    Move { from: Place, to: Place, what: Item },
    /// The directory's own attributes; its entries stay.
    Directory { at: Place, before: DirectoryState, after: DirectoryState },
    /// A ZFS dataset goes back to a snapshot. Always the only step about its directory, and the last.
    Revert { snapshot: String },
}

/// A directory's own attributes, which change without the directory being replaced.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct DirectoryState {
    mode: u32,
    uid: u32,
    gid: u32,
    seconds: i64,
    nanoseconds: u32,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    flags: Flags,
}

impl DirectoryState {
    /// The attributes of the open directory, as `meta` gives them.
    pub(crate) fn of(dir: &OwnedFd, meta: &Meta) -> io::Result<Self> {
        let Time { seconds, nanoseconds } = meta.mtime;
        let xattrs =
            Inode::Open(dir).read()?.into_iter().filter(|(name, _)| !is_overlay_note(name));
        let (mode, uid, gid) = (meta.mode, meta.uid, meta.gid);
        let (xattrs, flags) = (xattrs.collect(), Flags::of(dir)?);
        Ok(Self { mode, uid, gid, seconds, nanoseconds, xattrs, flags })
    }

    /// In what the two differ, apart from the modification time.
    pub(crate) fn difference(&self, other: &Self) -> Option<ChangeKind> {
        if self.mode != other.mode {
            Some(ChangeKind::Mode)
        } else if (self.uid, self.gid) != (other.uid, other.gid) {
            Some(ChangeKind::Owner)
        } else {
            let same = (&self.xattrs, self.flags) == (&other.xattrs, other.flags);
            (!same).then_some(ChangeKind::Xattr)
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
        let mut xattrs: Xattrs = self.xattrs.iter().cloned().collect();
        // Those of the directory itself, which may be a layer of somebody's, stay.
        let notes = Inode::Open(dir).read()?.into_iter().filter(|(name, _)| is_overlay_note(name));
        xattrs.extend(notes);
        set_attributes(&Inode::Open(dir), &xattrs, self.flags, &self.meta())
    }

    /// Refuses a directory in which nothing can be renamed.
    pub(crate) fn refuse_fixed(&self, path: impl FnOnce() -> PathBuf) -> Result<()> {
        if self.flags.are_fixed() { Err(Error::Immutable(path())) } else { Ok(()) }
    }
}

impl Step {
    /// Plans an exchange of what is at the two places now.
    pub(crate) fn exchange(dirs: &Directories, a: Place, b: Place) -> Result<Self> {
        let missing = |place: &Place| Error::ChangedMeanwhile(place.full());
        let was_a = a.movable(dirs)?.ok_or_else(|| missing(&a))?;
        let was_b = b.movable(dirs)?.ok_or_else(|| missing(&b))?;
        Ok(Self::Exchange { a, b, was_a, was_b })
    }

    /// Plans a move of what is at `from` now.
    pub(crate) fn shift(dirs: &Directories, from: Place, to: Place) -> Result<Self> {
        let what = from.present(dirs)?;
        Ok(Self::Move { from, to, what })
    }

    /// Plans an exchange with what will be at `a` by then and now is at `origin`.
    pub(crate) fn exchange_from(
        dirs: &Directories,
        a: Place,
        origin: &Place,
        b: Place,
    ) -> Result<Self> {
        let was_a = origin.present(dirs)?;
        let was_b = b.present(dirs)?;
        Ok(Self::Exchange { a, b, was_a, was_b })
    }

    /// Plans a move of what will be at `from` by then and now is at `origin`.
    pub(crate) fn shift_from(
        dirs: &Directories,
        from: Place,
        origin: &Place,
        to: Place,
    ) -> Result<Self> {
        let what = origin.present(dirs)?;
        Ok(Self::Move { from, to, what })
    }

    /// The entry of the tree that the step is about.
    pub(crate) fn path_in(&self, base: &Base) -> Option<PathBuf> {
        self.places().into_iter().find_map(|place| base.path_of(place))
    }

    /// The step with its places replaced.
    pub(crate) fn with_places(self, replace: impl Fn(Place) -> Place) -> Self {
        match self {
            Self::Exchange { a, b, was_a, was_b } => {
                Self::Exchange { a: replace(a), b: replace(b), was_a, was_b }
            }
            Self::Move { from, to, what } => {
                Self::Move { from: replace(from), to: replace(to), what }
            }
            Self::Directory { at, before, after } => {
                Self::Directory { at: replace(at), before, after }
            }
            revert @ Self::Revert { .. } => revert,
        }
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
            // There is no way back: the journal leads forward.
            revert @ Self::Revert { .. } => revert,
        }
    }

    /// Whether the step was done, and no later one has touched what it moved.
    pub(crate) fn is_done(&self, dirs: &Directories) -> bool {
        let holds = |place: &Place, what: &Item| {
            let found = Spot::open(place, dirs).and_then(|spot| spot.look());
            found.is_ok_and(|found| found.is_some_and(|found| what.is(&found)))
        };
        match self {
            Self::Exchange { a, b, was_a, was_b } => holds(a, was_b) && holds(b, was_a),
            Self::Move { to, what, .. } => holds(to, what),
            // These do no harm a second time.
            Self::Directory { .. } | Self::Revert { .. } => false,
        }
    }

    /// Undoes the step, or does nothing when it was not done.
    pub(crate) fn undo(&self, dirs: &Directories) -> Result<()> {
        match self {
            Self::Move { from, what, .. }
                if from.identity_in(dirs)?.as_ref() == Some(&what.identity) =>
            {
                Ok(())
            }
            Self::Revert { .. } => Ok(()),
            step => step.reversed().run(dirs),
        }
    }

    /// Does the step, or nothing when it is done already.
    pub(crate) fn run(&self, dirs: &Directories) -> Result<()> {
        let done = match self {
            Self::Exchange { a, b, was_a, was_b } => exchange(dirs, (a, was_a), (b, was_b)),
            Self::Move { from, to, what } => shift(dirs, from, to, what),
            Self::Directory { at, after, .. } => {
                let dir = at.open(dirs).with_context("open the directory", || at.full())?;
                return after.apply(&dir).with_context("set the attributes of", || at.full());
            }
            Self::Revert { snapshot } => return zfs::revert(snapshot),
        };
        self.places().into_iter().for_each(|place| dirs.forget(place));
        done
    }

    pub(crate) fn places(&self) -> Vec<&Place> {
        match self {
            Self::Exchange { a, b, .. } => vec![a, b],
            Self::Move { from, to, .. } => vec![from, to],
            Self::Directory { at, .. } => vec![at],
            Self::Revert { .. } => Vec::new(),
        }
    }
}
