//! What can differ between a subvolume and its snapshot, found by the generations in their trees and not by
//! a look at every inode.
//!
//! Each node of a tree has the number of the transaction that wrote it, and each inode that of the one that
//! changed it last. Two trees that were one still share every node, and every inode, that neither has changed
//! since. No clock is asked, so a change is also found when the times have been set back.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, RawMode};

use super::SUBVOLUME_ROOT;
use super::ioctl::{Info, Key, Search, info};
use crate::meta::stat_fd;
use crate::mounts::refuse_mounts_inside;
use crate::select::{Paths, Selection};
use crate::walk::{numbered_names, open_beneath, open_directory};

/// Kinds of items, of linux/btrfs_tree.h.
const INODE_ITEM: u32 = 1;
const INODE_REF: u32 = 12;
const INODE_EXTREF: u32 = 13;
const ROOT_ITEM: u32 = 132;
/// `BTRFS_ROOT_TREE_OBJECTID`
const ROOT_TREE: u64 = 1;
/// `BTRFS_LAST_FREE_OBJECTID`
const LAST_INODE: u64 = u64::MAX - 255;

/// With less of a tree, of 10,000 files or so, a look at each takes less than the flush to disk that the
/// search needs. Tests have small trees.
const SMALL: Option<u64> = if cfg!(feature = "fault-injection") { None } else { Some(8 << 20) };
/// With more inodes, a look at each takes not much longer.
const MANY: usize = 20_000;
/// Deeper ones are left to the walk, which has a limit of its own.
const DEEPEST: usize = 1000;

/// What can differ between the directory and the snapshot. `None`: that can't be told, for want of
/// CAP_SYS_ADMIN mostly, or is not worth it.
pub(super) fn since(snapshot: &Path, dir: &Path) -> Option<Selection> {
    // The walk refuses what is mounted inside, and it is not in the tree.
    refuse_mounts_inside(dir).ok()?;
    let (kept, now) = (open_directory(snapshot).ok()?, open_directory(dir).ok()?);
    let (was, is) = (info(&kept).ok()??, info(&now).ok()??);
    let is_subvolume = |fd| stat_fd(fd).is_ok_and(|stat| stat.meta.ino == SUBVOLUME_ROOT);
    if !is_subvolume(&kept) || !is_subvolume(&now) || !are_related(&was, &is) {
        return None;
    }
    let mut search = Search::new();
    let size = size(&mut search, &now, &is)?;
    if SMALL.is_some_and(|small| size < small) {
        return None;
    }
    // Inodes get into the tree by the next commit at the latest.
    rustix::fs::syncfs(&now).ok()?;
    let mut paths = Paths::default();
    let mut directories = BTreeSet::new();
    for root in [&kept, &now] {
        let found = changed(&mut search, root, was.made)?;
        let mut names = Names { root, search: &mut search, known: HashMap::new() };
        for (inode, is_dir) in found {
            match (is_dir, names.of(inode)?) {
                (true, found) => directories.extend(found),
                (false, found) => found.iter().for_each(|path| paths.insert(path)),
            }
        }
    }
    for path in directories {
        // One that only one of the trees has is a name in a directory that has changed.
        if let (Some(old), Some(new)) = (entries(&kept, &path)?, entries(&now, &path)?) {
            paths.insert_alone(&path);
            let differ = old.symmetric_difference(&new);
            differ.for_each(|(name, _)| paths.insert(&path.join(name)));
        }
    }
    Some(Selection::Paths(paths))
}

/// Whether both were one tree when the snapshot was made, and have only been changed since: the directory is
/// the subvolume that it was made of, or a later snapshot of that, put in its place by a rollback.
fn are_related(snapshot: &Info, now: &Info) -> bool {
    let is_later = now.parent == snapshot.parent && now.made >= snapshot.made;
    snapshot.parent != [0; 16] && (now.uuid == snapshot.parent || is_later)
}

/// The bytes of a subvolume's tree.
fn size(search: &mut Search, root: &OwnedFd, info: &Info) -> Option<u64> {
    let key = |offset| Key { object: info.id, kind: ROOT_ITEM, offset };
    let mut size = None;
    // `bytes_used` of `struct btrfs_root_item`.
    let read = search.items(root, ROOT_TREE, (key(0), key(u64::MAX)), 0, &mut |_, item| {
        size = item.get(192..200).map(number);
        true
    });
    read.ok().and(size)
}

/// The inodes changed in the transaction `since` or later, and whether they are directories.
fn changed(search: &mut Search, root: &OwnedFd, since: u64) -> Option<Vec<(u64, bool)>> {
    let first = Key { object: SUBVOLUME_ROOT, kind: 0, offset: 0 };
    let last = Key { object: LAST_INODE, kind: 255, offset: u64::MAX };
    let mut found = Vec::new();
    let read = search.items(root, 0, (first, last), since, &mut |key, item| {
        // `transid` and `mode` of `struct btrfs_inode_item`.
        if let (INODE_ITEM, Some(changed), Some(mode)) =
            (key.kind, item.get(8..16), item.get(52..56))
            && number(changed) >= since
        {
            let kind = FileType::from_raw_mode(number(mode) as RawMode);
            found.push((key.object, kind == FileType::Directory));
        }
        found.len() <= MANY
    });
    read.ok().and((found.len() <= MANY).then_some(found))
}

/// The names in a directory with their inodes; `Some(None)`: there is no such directory.
fn entries(root: &OwnedFd, path: &Path) -> Option<Option<BTreeSet<(OsString, u64)>>> {
    let missing = [libc::ENOENT, libc::ENOTDIR, libc::ELOOP];
    match open_beneath(root, path) {
        Ok(dir) => {
            let names = numbered_names(&dir, || path.to_owned()).ok()?;
            Some(Some(names.into_iter().collect()))
        }
        Err(error) => {
            error.raw_os_error().is_some_and(|code| missing.contains(&code)).then_some(None)
        }
    }
}

/// Trees are little-endian.
fn number(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte))
}

/// Finds the names of inodes in a subvolume.
struct Names<'a> {
    root: &'a OwnedFd,
    search: &'a mut Search,
    known: HashMap<u64, Option<PathBuf>>,
}

impl Names<'_> {
    /// All paths of an inode: none when it was deleted and is still open.
    fn of(&mut self, inode: u64) -> Option<Vec<PathBuf>> {
        if inode == SUBVOLUME_ROOT {
            return Some(vec![PathBuf::new()]);
        }
        let mut paths = Vec::new();
        for (parent, name) in self.references(inode)? {
            paths.extend(self.directory(parent)?.map(|path| path.join(name)));
        }
        Some(paths)
    }

    /// The path of a directory; `Some(None)`: it was deleted.
    fn directory(&mut self, inode: u64) -> Option<Option<PathBuf>> {
        if let Some(known) = self.known.get(&inode) {
            return Some(known.clone());
        }
        let (mut names, mut above) = (Vec::new(), Some(inode));
        while let Some(directory) = above.filter(|&above| above != SUBVOLUME_ROOT) {
            let reference = self.references(directory)?.pop();
            above = reference.map(|(parent, name)| {
                names.push(name);
                parent
            });
            if names.len() > DEEPEST {
                return None;
            }
        }
        let path = above.map(|_| names.iter().rev().collect::<PathBuf>());
        self.known.insert(inode, path.clone());
        Some(path)
    }

    /// The directories in which the inode has a name, and that name.
    fn references(&mut self, inode: u64) -> Option<Vec<(u64, OsString)>> {
        let first = Key { object: inode, kind: INODE_REF, offset: 0 };
        let last = Key { object: inode, kind: INODE_EXTREF, offset: u64::MAX };
        let mut found = Vec::new();
        let read = self.search.items(self.root, 0, (first, last), 0, &mut |key, item| {
            // `struct btrfs_inode_ref`: an index and the length of the name behind it; in `struct
            // btrfs_inode_extref` the directory comes first.
            let is_extended = key.kind == INODE_EXTREF;
            let mut rest = item;
            while let Some((header, behind)) =
                rest.split_at_checked(if is_extended { 18 } else { 10 })
            {
                let (start, length) = header.split_at(header.len() - 2);
                let Some((name, behind)) = behind.split_at_checked(number(length) as usize) else {
                    break;
                };
                let parent = if is_extended { number(&start[..8]) } else { key.offset };
                found.push((parent, OsStr::from_bytes(name).to_owned()));
                rest = behind;
            }
            true
        });
        read.ok().map(|()| found)
    }
}
