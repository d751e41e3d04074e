//! What the strategies that keep a whole second tree have in common: the restore is one exchange.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, RenameFlags, mkdir, renameat, renameat_with};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::beneath::Directories;
use crate::changes::{Change, Tree, all_deleted, changes};
use crate::compare::Side;
use crate::copy::Contents;
use crate::error::{Context, Error, Result};
use crate::exclude::Exclude;
use crate::manifest::Manifest;
use crate::meta::{Time, stat_fd};
use crate::plan;
use crate::remove::remove_tree;
use crate::select::Selection;
use crate::step::{DirectoryState, Place, Step};
use crate::strategy::{Placement, file_system};
use crate::walk::{open_directory, scan_selected, split};
use crate::xattr::Inode;

/// Reads the list that was written when the pre-image was made.
pub(crate) fn kept(placement: &Placement) -> Result<Tree> {
    let path = placement.manifest();
    let bytes = std::fs::read(&path).context("read", &path)?;
    let manifest = Manifest::decode(&bytes, &path)?;
    Ok(Tree { side: Side::open(&placement.tree())?, manifest })
}

/// Lists what is selected of a pre-image whose inodes have the numbers and times of the originals.
pub(crate) fn live(
    (fd, tree): (OwnedFd, &Path),
    exclude: &Exclude,
    select: &Selection,
    began: Time,
) -> Result<Tree> {
    let mut tree = listed((fd, tree), exclude, select)?;
    tree.manifest.taken = began;
    Ok(tree)
}

/// What is selected of the directory, as it is now.
pub(crate) fn current(
    placement: &Placement,
    exclude: &Exclude,
    select: &Selection,
) -> Result<Tree> {
    listed((open_directory(&placement.dir)?, &placement.dir), exclude, select)
}

fn listed((fd, path): (OwnedFd, &Path), exclude: &Exclude, select: &Selection) -> Result<Tree> {
    let side = Side::of(path, fd);
    let root = side.directory(Path::new("")).context("open the directory", path)?;
    let manifest = scan_selected((root, path), exclude, select)?;
    Ok(Tree { side, manifest })
}

pub(crate) fn changes_since(
    placement: &Placement,
    exclude: &Exclude,
    before: &Tree,
    select: &Selection,
) -> Result<Vec<Change>> {
    if !plan::is_directory(&placement.dir) {
        return Ok(all_deleted(&placement.dir, before));
    }
    changes(&placement.dir, before, &current(placement, exclude, select)?)
}

/// Brings the selected entries back from the pre-image.
pub(crate) fn rollback(
    placement: &Placement,
    exclude: &Exclude,
    select: &Selection,
    before: &dyn Fn() -> Result<Tree>,
    (contents, stage): (Contents, &dyn Fn() -> Result<PathBuf>),
) -> Result<Vec<Step>> {
    match select {
        Selection::All => plan::whole(placement, exclude),
        Selection::Paths(_) => {
            let now = current(placement, exclude, select)?;
            let stage = stage()?;
            plan::selected(
                &before()?,
                &now,
                plan::Base::of(&placement.dir),
                &stage,
                contents,
                select,
            )
        }
    }
}

/// Brings the selected entries of the pre-image to their condition of now, and its list with them.
pub(crate) fn commit(
    (placement, tree): (&Placement, &Path),
    exclude: &Exclude,
    select: &Selection,
    before: &dyn Fn() -> Result<Tree>,
    (contents, stage): (Contents, &dyn Fn() -> Result<PathBuf>),
) -> Result<Vec<Step>> {
    if *select == Selection::All {
        return Ok(Vec::new()); // The pre-image is dropped as a whole.
    }
    let before = &before()?;
    let mut now = current(placement, exclude, select)?;
    if now.manifest.has_links() {
        // Their other names may be anywhere.
        now = current(placement, exclude, &Selection::All)?;
    }
    let stage = stage()?;
    let mut steps = plan::selected(&now, before, plan::Base::of(tree), &stage, contents, select)?;
    if placement.manifest().exists() {
        let list = stage.join("manifest");
        std::fs::write(&list, before.manifest.merged(&now.manifest, select).encode())
            .context("write", &list)?;
        steps.push(Step::exchange(
            &Directories::default(),
            Place::new(&placement.vault, "manifest"),
            Place::new(&stage, "manifest"),
        )?);
    }
    Ok(steps)
}

/// An empty directory for entries on their way.
pub(crate) fn fresh_stage(placement: &Placement) -> Result<PathBuf> {
    let stage = placement.stage();
    remove_tree(&stage)?;
    private_directory(&stage)?;
    Ok(stage)
}

/// Makes a directory that only the caller can enter, and in which nothing inherits an ACL. One that is
/// there already and that others could change is refused: what root keeps in it they could lead elsewhere.
pub(crate) fn private_directory(path: &Path) -> Result<()> {
    let is_new = match mkdir(path, Mode::RWXU) {
        Err(Errno::EXIST) => false,
        made => made.map(|()| true).context("create the directory", path)?,
    };
    let dir = open_directory(path)?;
    if !is_new && !is_private(&dir).context("examine", path)? {
        return Err(Error::StoreUnusable {
            path: split(path).0.to_owned(),
            reason: format!(
                "{} is there already, and others could change what is kept in it: rename it, or name \
                 a store on the same file system that only you can write to",
                path.display()
            ),
        });
    }
    remove_default_acl(&dir).context("remove the default ACL of", path)
}

/// What is made in the open directory inherits nothing then.
pub(crate) fn remove_default_acl(dir: &OwnedFd) -> io::Result<()> {
    match Inode::Open(dir).remove(b"system.posix_acl_default") {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        removed => removed,
    }
}

/// Whether only the caller can write to an open directory.
pub(crate) fn is_private(dir: &OwnedFd) -> io::Result<bool> {
    let meta = stat_fd(dir)?.meta;
    Ok(meta.uid == geteuid().as_raw() && meta.mode & 0o022 == 0)
}

/// Says where an exchange is impossible: the directory itself is a mount point, or its file system
/// knows no exchange (NFS, older FUSE and ZFS). Better now than when it is needed.
pub(crate) fn exchangeable(placement: &Placement) -> std::result::Result<(), String> {
    match plan::is_mount_point(&placement.dir) {
        Ok(false) => {}
        Ok(true) => {
            return Err("it is a mount point, which can't be exchanged by a rename".to_owned());
        }
        Err(error) => return Err(error.to_string()),
    }
    let probes = ["probe-1", "probe-2"].map(|name| placement.vault.join(name));
    let tried = probes
        .iter()
        .try_for_each(|probe| mkdir(probe, Mode::RWXU))
        .and_then(|()| renameat_with(CWD, &probes[0], CWD, &probes[1], RenameFlags::EXCHANGE));
    for probe in &probes {
        // It need not exist: making it may be what failed.
        let _ = std::fs::remove_dir(probe);
    }
    tried.map_err(|error| {
        format!("{} can't exchange two directories ({error})", file_system(&placement.dir))
    })
}

/// Says where the directory itself can't be exchanged although others could be.
pub(crate) fn replaceable(placement: &Placement) -> std::result::Result<(), String> {
    exchangeable(placement)?;
    // Onto a directory that isn't empty: that is never done, and where it could be it is refused as such.
    let probe = placement.vault.join("probe-1");
    let made = mkdir(&probe, Mode::RWXU).and_then(|()| mkdir(probe.join("in"), Mode::RWXU));
    let tried = made.and_then(|()| renameat(CWD, &placement.dir, CWD, &probe));
    remove_tree(&probe).map_err(|error| error.to_string())?;
    let is_own = || {
        let owner = open_directory(&placement.dir)
            .and_then(|dir| stat_fd(dir).context("examine", &placement.dir));
        owner.is_ok_and(|stat| stat.meta.uid == geteuid().as_raw())
    };
    match tried {
        Err(Errno::XDEV) => Err(format!(
            "{} can't rename it (EXDEV): it is of a lower layer, or counted to another project or subvolume",
            file_system(&placement.dir)
        )),
        // One's own can be made writable for a moment.
        Err(Errno::ACCESS) if is_own() => Ok(()),
        Err(error @ (Errno::ACCESS | Errno::PERM)) => Err(format!("you can't rename it ({error})")),
        _ => Ok(()),
    }
}

/// For a tree that is a file system of its own, from which nothing can be renamed to the vault.
const INNER_STAGE: &str = ".nono-rollback-stage";

/// An empty stage inside `root`.
pub(crate) fn inner_stage(root: &Path) -> Result<PathBuf> {
    let stage = root.join(INNER_STAGE);
    keeping_times(root, || private_directory(&stage))?;
    Ok(stage)
}

/// Deletes the stage inside `root`, if there is one.
pub(crate) fn remove_inner_stage(root: &Path) -> Result<()> {
    let stage = root.join(INNER_STAGE);
    if stage.symlink_metadata().is_err() {
        return Ok(());
    }
    keeping_times(root, || remove_tree(&stage))
}

fn keeping_times(root: &Path, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let dir = open_directory(root)?;
    let state = stat_fd(&dir)
        .and_then(|stat| DirectoryState::of(&dir, &stat.meta))
        .context("examine", root)?;
    change()?;
    state.apply(&dir).context("set the times of", root)
}
