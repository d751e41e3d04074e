//! btrfs snapshots.

mod changed;
mod ioctl;

use std::ffi::OsStr;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use ioctl::Info;

use super::{Placement, Strategy, file_system, tree};
use crate::beneath::Directories;
use crate::changes::{Change, Tree};
use crate::copy::Contents;
use crate::error::{Context, Result};
use crate::exclude::Exclude;
use crate::excluded;
use crate::fault;
use crate::meta::stat_fd;
use crate::plan;
use crate::record::State;
use crate::remove::remove_tree;
use crate::select::Selection;
use crate::step::{Place, Step};
use crate::transaction::sync_file_system;
use crate::walk::{open_directory, scan};

/// `BTRFS_FIRST_FREE_OBJECTID`: the inode number of every subvolume's root.
pub(crate) const SUBVOLUME_ROOT: u64 = 256;

/// The UUID of the subvolume whose root is open; `None` when this is another file system.
pub(crate) fn subvolume_uuid(root: impl AsFd) -> io::Result<Option<String>> {
    let text = |info: Info| info.uuid.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(ioctl::info(root)?.map(text))
}

/// Deletes a subvolume: root, or its owner on a mount with `user_subvol_rm_allowed`.
pub(crate) fn destroy_subvolume(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    ioctl::destroy(parent, name)
}

/// Takes a snapshot of the subvolume at `source` as `name` in the directory `parent`.
fn snapshot(source: &Path, parent: &Path, name: &str) -> Result<()> {
    let (subvolume, parent) = (open_directory(source)?, open_directory(parent)?);
    fault::point("snapshot").context("take a snapshot of", source)?;
    ioctl::snapshot(&subvolume, &parent, name).context("take a snapshot of", source)
}

/// A snapshot of the subvolume that the directory is.
pub(crate) struct Btrfs;

impl Btrfs {
    fn before(placement: &Placement, exclude: &Exclude, select: &Selection) -> Result<Tree> {
        let tree = placement.tree();
        tree::live((open_directory(&tree)?, &tree), exclude, select, placement.began)
    }

    /// A subvolume's entries can't be renamed out of it, so they are staged inside.
    fn clean(placement: &Placement) -> Result<()> {
        tree::remove_inner_stage(&placement.dir)?;
        if placement.tree().is_dir() { tree::remove_inner_stage(&placement.tree()) } else { Ok(()) }
    }

    /// What is excluded can't be renamed across subvolumes either: a second snapshot gets its
    /// condition of now, sharing blocks, and then takes the place of the directory.
    fn with_excluded_of_now(placement: &Placement, exclude: &Exclude) -> Result<Vec<Step>> {
        let restored = placement.vault.join("restored");
        remove_tree(&restored)?;
        snapshot(&placement.tree(), &placement.vault, "restored")?;
        let now = scan(&placement.dir, exclude)?;
        let kept = scan(&restored, exclude)?;
        excluded::replace(&placement.dir, &now, &restored, &kept)?;
        sync_file_system(&restored)?;
        let place = |path: &Path| plan::Base::of(path).place(Path::new(""));
        let dirs = &Directories::default();
        Ok(vec![Step::exchange(dirs, place(&placement.dir), place(&restored))?])
    }
}

impl Strategy for Btrfs {
    fn name(&self) -> &'static str {
        "btrfs"
    }

    fn concerns(&self, dir: &Path) -> bool {
        file_system(dir) == "btrfs"
    }

    fn fits(&self, placement: &Placement) -> std::result::Result<String, String> {
        let dir = &placement.dir;
        if file_system(dir) != "btrfs" {
            return Err(format!("{} is not btrfs", file_system(dir)));
        }
        let fd = open_directory(dir).map_err(|error| error.to_string())?;
        let stat = stat_fd(&fd).map_err(|error| error.to_string())?;
        if stat.meta.ino != SUBVOLUME_ROOT {
            return Err("it is not a subvolume".to_owned());
        }
        tree::replaceable(placement)?;
        match ioctl::has_inner_subvolumes(&fd) {
            Ok(false) => Ok("it is a btrfs subvolume".to_owned()),
            Ok(true) => Err("there are subvolumes inside, which a snapshot leaves out".to_owned()),
            Err(error) => Err(format!("its inner subvolumes can't be listed ({error})")),
        }
    }

    fn begin(&self, placement: &Placement, _: &Exclude) -> Result<()> {
        snapshot(&placement.dir, &placement.vault, "tree")
    }

    fn is_restored(&self, placement: &Placement) -> bool {
        let mut names = ["tree", "restored"].into_iter();
        names.any(|name| placement.is_original(&Place::new(&placement.vault, name)))
    }

    fn changes(&self, placement: &Placement, exclude: &Exclude) -> Result<Vec<Change>> {
        Self::clean(placement)?;
        let select = changed::since(&placement.tree(), &placement.dir).unwrap_or(Selection::All);
        tree::changes_since(
            placement,
            exclude,
            &Self::before(placement, exclude, &select)?,
            &select,
        )
    }

    fn rollback(
        &self,
        placement: &Placement,
        exclude: &Exclude,
        select: &Selection,
    ) -> Result<Vec<Step>> {
        Self::clean(placement)?;
        let is_there = plan::is_directory(&placement.dir);
        if *select == Selection::All && !exclude.is_empty() && is_there {
            return Self::with_excluded_of_now(placement, exclude);
        }
        let before = || Self::before(placement, exclude, &Selection::All);
        let stage = || tree::inner_stage(&placement.dir);
        tree::rollback(placement, exclude, select, &before, (Contents::Shared, &stage))
    }

    fn commit(
        &self,
        placement: &Placement,
        exclude: &Exclude,
        select: &Selection,
    ) -> Result<Vec<Step>> {
        Self::clean(placement)?;
        let before = || Self::before(placement, exclude, &Selection::All);
        let (stage, at) = (|| tree::inner_stage(&placement.tree()), placement.tree());
        tree::commit((placement, &at), exclude, select, &before, (Contents::Shared, &stage))
    }

    fn conclude(&self, placement: &Placement, _: &[Step], _: State) -> Result<()> {
        Self::clean(placement)
    }

    fn abandon(&self, placement: &Placement) -> Result<()> {
        remove_tree(&placement.vault.join("restored"))?;
        Self::clean(placement)
    }

    fn discard(&self, placement: &Placement) -> Result<()> {
        remove_tree(&placement.vault)
    }
}
