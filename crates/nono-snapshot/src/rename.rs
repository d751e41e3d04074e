//! Moving and exchanging entries, and telling whether that was done already.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::rc::Rc;

use rustix::fs::{FileType, Mode, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::attributes::{set_mode_of_named, set_times};
use crate::beneath::Directories;
use crate::error::{Context, Error, Result};
use crate::identity::identity;
use crate::meta::{Meta, stat_at};
use crate::step::{Item, Place};
use crate::walk::split;
use crate::xattr::Inode;

/// A place whose directory is open.
pub(crate) struct Spot<'a> {
    place: &'a Place,
    dir: Rc<OwnedFd>,
}

impl<'a> Spot<'a> {
    pub(crate) fn open(place: &'a Place, dirs: &Directories) -> Result<Self> {
        let dir = dirs.open(&place.base, split(&place.path).0);
        let dir = dir.with_context("open the directory of", || place.full())?;
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
        let is_fixed = |name: &OsStr| match stat_at(&*self.dir, name) {
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

    /// Makes the directory there writable, if it is not: see [`Item::locked`].
    fn unlock(&self, item: &Item) -> Result<()> {
        item.locked.map_or(Ok(()), |mode| self.set_mode(mode | 0o200))
    }

    /// The directory there has its own permissions again, also those that a crash had kept it from.
    fn lock(&self, item: &Item) -> Result<()> {
        match (item.locked, self.look()?) {
            (Some(mode), Some((_, is))) if is.permissions() != mode => self.set_mode(mode),
            _ => Ok(()),
        }
    }

    fn set_mode(&self, mode: u32) -> Result<()> {
        let mode = Mode::from_raw_mode(mode);
        set_mode_of_named(&*self.dir, self.name(), FileType::Directory, mode)
            .with_context("set the mode of", || self.full())
    }

    fn rename_to(&self, to: &Self, flags: RenameFlags) -> Result<(), Errno> {
        renameat_with(&*self.dir, self.name(), &*to.dir, to.name(), flags)
    }

    /// The directory there keeps its modification time. XFS moves it when an exchange gives the
    /// directory another parent (xfs_cross_rename).
    fn keep_time(&self, was: &Meta) -> Result<()> {
        if !was.is_dir() || self.look()?.is_some_and(|(_, now)| now.mtime == was.mtime) {
            return Ok(());
        }
        set_times(&Inode::Named(&*self.dir, self.name()), was.mtime)
            .with_context("set the times of", || self.full())
    }
}

/// `a` and `b` change places, unless they have done so already.
pub(crate) fn exchange(
    dirs: &Directories,
    (a, was_a): (&Place, &Item),
    (b, was_b): (&Place, &Item),
) -> Result<()> {
    let (a, b) = (Spot::open(a, dirs)?, Spot::open(b, dirs)?);
    let (one, other) = (&was_a.identity, &was_b.identity);
    let (at_a, at_b) = match (a.look()?, b.look()?) {
        (Some((there_a, _)), Some((there_b, _))) if there_a == *other && there_b == *one => {
            a.lock(was_b)?;
            return b.lock(was_a);
        }
        (Some((there_a, at_a)), Some((there_b, at_b))) if there_a == *one && there_b == *other => {
            (at_a, at_b)
        }
        (None, _) | (_, None) if b.holds(aside(one).as_ref(), one)? => {
            exchange_by_three(&a, &b, one, other)?;
            a.lock(was_b)?;
            return b.lock(was_a);
        }
        _ => return Err(Error::ChangedMeanwhile(a.full())),
    };
    match a.rename_to(&b, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL) => exchange_by_three(&a, &b, one, other)?,
        Err(Errno::ACCESS) => {
            a.unlock(was_a)?;
            b.unlock(was_b)?;
            let exchanged = a.rename_to(&b, RenameFlags::EXCHANGE);
            if exchanged.is_err() {
                a.lock(was_a)?;
                b.lock(was_b)?;
            }
            exchanged.with_context("rename", || a.full())?;
        }
        exchanged => exchanged.with_context("rename", || a.full())?,
    }
    a.lock(was_b)?;
    b.lock(was_a)?;
    a.keep_time(&at_b)?;
    b.keep_time(&at_a)
}

/// The name under which an item waits beside its new place. A name made of that of the place could be too long.
fn aside(identity: &str) -> String {
    format!(".nono-exchange-{}", identity.replace(' ', "-"))
}

/// For file systems that know no flags of rename: FUSE before protocol 7.23 (zfs-fuse), OpenZFS
/// before 2.2. Goes on from wherever a crash left it.
fn exchange_by_three(a: &Spot<'_>, b: &Spot<'_>, was_a: &str, was_b: &str) -> Result<()> {
    let aside = aside(was_a);
    let aside = OsStr::new(&aside);
    let rename = |from: &Spot<'_>, old: &OsStr, to: &Spot<'_>, new: &OsStr| {
        renameat_with(&*from.dir, old, &*to.dir, new, RenameFlags::empty())
            .map_err(io::Error::from)
            .with_context("rename", || from.full())
    };
    if a.holds(a.name(), was_a)? {
        rename(a, a.name(), b, aside)?;
    }
    if b.holds(b.name(), was_b)? {
        rename(b, b.name(), a, a.name())?;
    }
    if b.holds(aside, was_a)? {
        rename(b, aside, b, b.name())?;
    }
    Ok(())
}

/// `what` moves from `from` to `to`, where nothing is, unless it has done so already.
pub(crate) fn shift(dirs: &Directories, from: &Place, to: &Place, what: &Item) -> Result<()> {
    let (from, to) = (Spot::open(from, dirs)?, Spot::open(to, dirs)?);
    match from.look()? {
        Some((there, _)) if there == what.identity => {}
        None if to.holds(to.name(), &what.identity)? => return to.lock(what),
        _ => return Err(Error::ChangedMeanwhile(from.full())),
    }
    let moved = match from.rename_to(&to, RenameFlags::NOREPLACE) {
        // A file system that knows no flags.
        Err(Errno::INVAL) if to.look()?.is_none() => from.rename_to(&to, RenameFlags::empty()),
        Err(Errno::INVAL | Errno::EXIST) => return Err(Error::ChangedMeanwhile(to.full())),
        Err(Errno::ACCESS) => {
            from.unlock(what)?;
            let moved = from.rename_to(&to, RenameFlags::NOREPLACE);
            if moved.is_err() {
                from.lock(what)?;
            }
            moved
        }
        moved => moved,
    };
    moved.with_context("rename", || from.full())?;
    to.lock(what)
}
