//! The ways to keep the state of a directory, all with one meaning.

pub(crate) mod apfs;
pub(crate) mod btrfs;
pub(crate) mod copy;
pub(crate) mod overlay;
pub(crate) mod reflink;
pub(crate) mod tree;
pub(crate) mod zfs;

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::StatFs;
use serde::{Deserialize, Serialize};

use crate::changes::Change;
use crate::encoding;
use crate::error::Result;
use crate::exclude::Exclude;
use crate::meta::Time;
use crate::plan::Base;
use crate::record::{Mounter, State};
use crate::remove::remove_tree;
use crate::select::Selection;
use crate::step::{Place, Step};
use crate::walk::split;

/// One directory of a checkpoint and where its pre-image is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Placement {
    /// The directory, canonical.
    #[serde(with = "encoding::path")]
    pub(crate) dir: PathBuf,
    /// A private directory on the same mount.
    #[serde(with = "encoding::path")]
    pub(crate) vault: PathBuf,
    /// When the checkpoint began.
    pub(crate) began: Time,
    /// Who mounts what the strategy asks for.
    pub(crate) mounter: Option<Mounter>,
    /// The directory's identity; `None`: it would be that of the pre-image as well.
    pub(crate) original: Option<String>,
}

impl Placement {
    /// The pre-image. It gets this name once it is complete.
    pub(crate) fn tree(&self) -> PathBuf {
        self.vault.join("tree")
    }

    /// The pre-image while it is being made.
    pub(crate) fn partial(&self) -> PathBuf {
        self.vault.join("partial")
    }

    pub(crate) fn manifest(&self) -> PathBuf {
        self.vault.join("manifest")
    }

    /// Whether the directory of then is there.
    pub(crate) fn is_original(&self, place: &Place) -> bool {
        let there = place.identity().unwrap_or_default();
        there.is_some() && there == self.original
    }

    /// Where entries wait to be put into the directory, or went from it.
    pub(crate) fn stage(&self) -> PathBuf {
        self.vault.join("stage")
    }

    /// A name that no other directory of any checkpoint has.
    pub(crate) fn label(&self) -> String {
        // Either the checkpoint's directory and a number in it, or `ID-NUMBER` beside the directory.
        let name = |path: &Path| split(path).1.to_string_lossy().into_owned();
        let (above, own) = (split(&self.vault).0, name(&self.vault));
        if own.contains('-') { own } else { format!("{}-{own}", name(above)) }
    }
}

/// One way to keep the state of a directory.
pub(crate) trait Strategy: Sync {
    /// The name in options, records and messages.
    fn name(&self) -> &'static str;

    /// Whether it is worth a word about this directory: not on another file system or platform.
    fn concerns(&self, dir: &Path) -> bool {
        let _ = dir;
        true
    }

    /// Why it serves the directory, or why it can't.
    fn fits(&self, placement: &Placement) -> std::result::Result<String, String>;

    /// Keeps the state of the directory now.
    fn begin(&self, placement: &Placement, exclude: &Exclude) -> Result<()>;

    /// Whether [`begin`](Self::begin) came to its end.
    fn is_complete(&self, placement: &Placement) -> bool {
        placement.tree().is_dir()
    }

    /// Whether one at a time may look at what it keeps.
    fn is_seen_by_one(&self) -> bool {
        false
    }

    /// What differs from the state kept.
    fn changes(&self, placement: &Placement, exclude: &Exclude) -> Result<Vec<Change>>;

    /// Whether the directory was brought back as a whole by one step, as far as that
    /// [shows](Self::will_show).
    fn is_restored(&self, placement: &Placement) -> bool {
        placement.is_original(&Place::new(&placement.vault, "tree"))
    }

    /// Whether it will show that the directory was brought back as a whole, so that one step needs no
    /// journal.
    fn will_show(&self, placement: &Placement) -> bool {
        placement.is_original(&Base::of(&placement.dir).place(Path::new("")))
    }

    /// The steps that bring the selected entries back.
    fn rollback(
        &self,
        placement: &Placement,
        exclude: &Exclude,
        select: &Selection,
    ) -> Result<Vec<Step>>;

    /// The steps after which the state kept has the selected entries as they are now.
    fn commit(
        &self,
        placement: &Placement,
        exclude: &Exclude,
        select: &Selection,
    ) -> Result<Vec<Step>>;

    /// Why `auto` should pass it over although it fits.
    fn is_automatic(&self, placement: &Placement) -> std::result::Result<(), String> {
        let _ = placement;
        Ok(())
    }

    /// The steps that bring changes kept elsewhere into the directory.
    fn apply(&self, placement: &Placement, exclude: &Exclude) -> Result<Vec<Step>> {
        let _ = (placement, exclude);
        Ok(Vec::new())
    }

    /// The steps that take what [`apply`](Self::apply) brought into the directory out of it again.
    fn withdraw(&self, placement: &Placement) -> Result<Vec<Step>> {
        let _ = placement;
        Ok(Vec::new())
    }

    /// Where what it keeps is reached.
    fn tree(&self, placement: &Placement) -> PathBuf {
        placement.tree()
    }

    /// Makes what it keeps reachable by that path, if it isn't at any time.
    fn make_reachable(&self, placement: &Placement) -> Result<()> {
        let _ = placement;
        Ok(())
    }

    /// The contrary.
    fn release(&self, placement: &Placement) -> Result<()> {
        let _ = placement;
        Ok(())
    }

    /// What remains to be done when the steps towards `state` are done. May run twice.
    fn conclude(&self, placement: &Placement, steps: &[Step], state: State) -> Result<()> {
        let _ = (placement, steps, state);
        Ok(())
    }

    /// Frees what was prepared for steps that came to nothing.
    fn abandon(&self, placement: &Placement) -> Result<()> {
        remove_tree(&placement.stage())
    }

    /// Frees what the checkpoint keeps. May run twice.
    fn discard(&self, placement: &Placement) -> Result<()>;
}

/// All of them, in the order in which `auto` tries them.
pub(crate) static STRATEGIES: [&dyn Strategy; 6] =
    [&btrfs::Btrfs, &zfs::Zfs, &apfs::Apfs, &overlay::Overlay, &reflink::Reflink, &copy::Copy];

/// The strategy of that name.
pub(crate) fn by_name(name: &str) -> Option<&'static dyn Strategy> {
    STRATEGIES.into_iter().find(|strategy| strategy.name() == name)
}

/// A short description of a directory's file system, for reasons.
pub(crate) fn file_system(dir: &Path) -> &'static str {
    name(rustix::fs::statfs(dir))
}

/// The same for an open one.
pub(crate) fn file_system_of(dir: impl AsFd) -> &'static str {
    name(rustix::fs::fstatfs(dir))
}

fn name(stat: rustix::io::Result<StatFs>) -> &'static str {
    // statfs(2) and linux/magic.h
    match stat.map(|stat| stat.f_type as u64 & 0xffff_ffff) {
        Ok(0xef53) => "ext4",
        Ok(0x5846_5342) => "xfs",
        Ok(0x9123_683e) => "btrfs",
        Ok(0x0102_1994) => "tmpfs",
        Ok(0x2fc1_2fc1) => "zfs",
        Ok(0x794c_7630) => "overlayfs",
        Ok(0xf2f5_2010) => "f2fs",
        Ok(0x6573_5546) => "fuse",
        Ok(0x6969) => "nfs",
        _ => "this file system",
    }
}
