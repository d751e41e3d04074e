//! btrfs snapshots. The ioctls and their structures are those of linux/btrfs.h.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{Placement, Strategy, file_system, tree};
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

/// `BTRFS_IOC_SNAP_DESTROY`, `_IOW(0x94, 15, struct btrfs_ioctl_vol_args)`
const SNAP_DESTROY: u64 = 0x5000_940f;
/// `BTRFS_IOC_SNAP_CREATE_V2`, `_IOW(0x94, 23, struct btrfs_ioctl_vol_args_v2)`
const SNAP_CREATE_V2: u64 = 0x5000_9417;
/// `BTRFS_IOC_GET_SUBVOL_INFO`, `_IOR(0x94, 60, struct btrfs_ioctl_get_subvol_info_args)`
const GET_SUBVOL_INFO: u64 = 0x81f8_943c;
/// `BTRFS_IOC_GET_SUBVOL_ROOTREF`, `_IOWR(0x94, 61, struct btrfs_ioctl_get_subvol_rootref_args)`
const GET_SUBVOL_ROOTREF: u64 = 0xd000_943d;

/// An argument of 4096 bytes, aligned as the kernel's structures are.
#[repr(C, align(8))]
struct Page([u8; 4096]);

impl Page {
    /// Both `btrfs_ioctl_vol_args` structures: a descriptor first, a name at `name_at`.
    fn new(fd: i64, name: &OsStr, name_at: usize) -> io::Result<Box<Self>> {
        let mut page = Box::new(Self([0; 4096]));
        page.0[..8].copy_from_slice(&fd.to_ne_bytes());
        let name = name.as_bytes();
        if name.len() > 255 {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        page.0[name_at..name_at + name.len()].copy_from_slice(name);
        Ok(page)
    }
}

fn ioctl(fd: impl AsFd, request: u64, page: &mut Page) -> io::Result<()> {
    // SAFETY: every request used here reads and writes at most 4096 bytes at its argument, and the
    // page lives across the call.
    let status = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request as _, page.0.as_mut_ptr()) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The UUID of the subvolume whose root is open; `None` when this is another file system.
pub(crate) fn subvolume_uuid(root: impl AsFd) -> io::Result<Option<String>> {
    let mut page = Page::new(0, OsStr::new(""), 8)?;
    match ioctl(root, GET_SUBVOL_INFO, &mut page) {
        // treeid, name, parent_id, dirid, generation and flags come first.
        Ok(()) => Ok(Some(page.0[296..312].iter().map(|byte| format!("{byte:02x}")).collect())),
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes a subvolume: root, or its owner on a mount with `user_subvol_rm_allowed`.
pub(crate) fn destroy_subvolume(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    ioctl(parent, SNAP_DESTROY, &mut *Page::new(0, name, 8)?)
}

fn has_inner_subvolumes(root: impl AsFd) -> io::Result<bool> {
    let mut page = Page::new(0, OsStr::new(""), 8)?;
    ioctl(root, GET_SUBVOL_ROOTREF, &mut page)?;
    // min_treeid and 255 pairs come before num_items.
    Ok(page.0[8 + 255 * 16] > 0)
}

/// Takes a snapshot of the subvolume at `source` as `name` in the directory `parent`.
fn snapshot(source: &Path, parent: &Path, name: &str) -> Result<()> {
    let (subvolume, parent) = (open_directory(source)?, open_directory(parent)?);
    fault::point("snapshot").context("take a snapshot of", source)?;
    let page = Page::new(subvolume.as_raw_fd().into(), OsStr::new(name), 56);
    page.and_then(|mut page| ioctl(&parent, SNAP_CREATE_V2, &mut page))
        .context("take a snapshot of", source)
}

/// A snapshot of the subvolume that the directory is.
pub(crate) struct Btrfs;

impl Btrfs {
    fn before(placement: &Placement, exclude: &Exclude) -> Result<Tree> {
        tree::live(&placement.tree(), exclude, placement.began)
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
        Ok(vec![Step::exchange(place(&placement.dir), place(&restored))?])
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
        tree::exchangeable(placement)?;
        match has_inner_subvolumes(&fd) {
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
        tree::changes_since(placement, exclude, &Self::before(placement, exclude)?)
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
        let before = || Self::before(placement, exclude);
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
        let before = || Self::before(placement, exclude);
        let stage = || tree::inner_stage(&placement.tree());
        tree::commit(placement, exclude, select, &before, (Contents::Shared, &stage))
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
