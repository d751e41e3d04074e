//! Moving and exchanging entries, and telling whether that was done already.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::fs::{RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::attributes::set_times;
use crate::error::{Context, Error, Result};
use crate::identity::identity;
use crate::meta::{Meta, stat_at};
use crate::step::Place;
use crate::walk::split;
use crate::xattr::Inode;

/// A place whose directory is open.
pub(crate) struct Spot<'a> {
    place: &'a Place,
    dir: OwnedFd,
}

impl<'a> Spot<'a> {
    pub(crate) fn open(place: &'a Place) -> Result<Self> {
        let dir = place.parent().with_context("open the directory of", || place.full())?;
        Ok(Self { place, dir })
    }

    fn name(&self) -> &OsStr {
        split(&self.place.path).1
    }

    fn full(&self) -> PathBuf {
        self.place.full()
    }

    /// What is there.
    pub(crate) fn look(&self) -> Result<Option<(String, Meta)>> {
        self.look_at(self.name())
    }

    fn look_at(&self, name: &OsStr) -> Result<Option<(String, Meta)>> {
        identity(&self.dir, name).with_context("examine", || self.full())
    }

    /// Refuses what can't be renamed, or is in a directory in which nothing can.
    pub(crate) fn refuse_fixed(&self) -> Result<()> {
        let shown = || self.full();
        let is_fixed = |name: &OsStr| match stat_at(&self.dir, name) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            stat => Ok(stat.with_context("examine", shown)?.fixed),
        };
        match (is_fixed(OsStr::new(""))?, is_fixed(self.name())?) {
            (true, _) => Err(Error::Immutable(split(&shown()).0.to_owned())),
            (_, true) => Err(Error::Immutable(shown())),
            _ => Ok(()),
        }
    }

    fn holds(&self, name: &OsStr, what: &str) -> Result<bool> {
        Ok(self.look_at(name)?.is_some_and(|(there, _)| there == what))
    }

    fn rename_to(&self, to: &Self, flags: RenameFlags) -> Result<(), Errno> {
        renameat_with(&self.dir, self.name(), &to.dir, to.name(), flags)
    }

    /// The directory there keeps its modification time. XFS moves it when an exchange gives the
    /// directory another parent (xfs_cross_rename).
    fn keep_time(&self, was: &Meta) -> Result<()> {
        if !was.is_dir() || self.look()?.is_some_and(|(_, now)| now.mtime == was.mtime) {
            return Ok(());
        }
        set_times(&Inode::Named(&self.dir, self.name()), was.mtime)
            .with_context("set the times of", || self.full())
    }

    /// The name under which what is elsewhere waits to come here, by [`exchange_by_three`].
    fn aside(&self) -> OsString {
        let mut name = self.name().to_owned();
        name.push(".nono-exchange");
        name
    }
}

/// `a` and `b` change places, unless they have done so already.
pub(crate) fn exchange(a: &Place, b: &Place, was_a: &str, was_b: &str) -> Result<()> {
    let (a, b) = (Spot::open(a)?, Spot::open(b)?);
    let (at_a, at_b) = match (a.look()?, b.look()?) {
        (Some((there_a, _)), Some((there_b, _))) if there_a == was_b && there_b == was_a => {
            return Ok(());
        }
        (Some((there_a, at_a)), Some((there_b, at_b))) if there_a == was_a && there_b == was_b => {
            (at_a, at_b)
        }
        (None, _) | (_, None) if b.holds(&b.aside(), was_a)? => {
            return exchange_by_three(&a, &b, was_a, was_b);
        }
        _ => return Err(Error::ChangedMeanwhile(a.full())),
    };
    match a.rename_to(&b, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL) => exchange_by_three(&a, &b, was_a, was_b)?,
        exchanged => exchanged.with_context("rename", || a.full())?,
    }
    a.keep_time(&at_b)?;
    b.keep_time(&at_a)
}

/// For file systems that know no flags of rename: FUSE before protocol 7.23 (zfs-fuse), OpenZFS
/// before 2.2. Goes on from wherever a crash left it.
fn exchange_by_three(a: &Spot<'_>, b: &Spot<'_>, was_a: &str, was_b: &str) -> Result<()> {
    let aside = b.aside();
    let rename = |from: &Spot<'_>, old: &OsStr, to: &Spot<'_>, new: &OsStr| {
        renameat_with(&from.dir, old, &to.dir, new, RenameFlags::empty())
            .map_err(io::Error::from)
            .with_context("rename", || from.full())
    };
    if a.holds(a.name(), was_a)? {
        rename(a, a.name(), b, &aside)?;
    }
    if b.holds(b.name(), was_b)? {
        rename(b, b.name(), a, a.name())?;
    }
    if b.holds(&aside, was_a)? {
        rename(b, &aside, b, b.name())?;
    }
    Ok(())
}

/// `what` moves from `from` to `to`, where nothing is, unless it has done so already.
pub(crate) fn shift(from: &Place, to: &Place, what: &str) -> Result<()> {
    let (from, to) = (Spot::open(from)?, Spot::open(to)?);
    match from.look()? {
        Some((there, _)) if there == what => {}
        None if to.holds(to.name(), what)? => return Ok(()),
        _ => return Err(Error::ChangedMeanwhile(from.full())),
    }
    let moved = match from.rename_to(&to, RenameFlags::NOREPLACE) {
        // A file system that knows no flags.
        Err(Errno::INVAL) if to.look()?.is_none() => from.rename_to(&to, RenameFlags::empty()),
        Err(Errno::INVAL | Errno::EXIST) => return Err(Error::ChangedMeanwhile(to.full())),
        moved => moved,
    };
    moved.with_context("rename", || from.full())
}
