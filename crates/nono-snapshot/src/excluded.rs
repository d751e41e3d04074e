//! What a checkpoint leaves alone, when the tree around it is brought back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rustix::fs::renameat;

use crate::beneath::Beneath;
use crate::compare::Side;
use crate::copy::{Contents, Copier, Target, copy_open};
use crate::error::{Context, Error, Result};
use crate::manifest::Manifest;
use crate::meta::stat_at;
use crate::plan::shell;
use crate::remove::remove_tree;
use crate::step::DirectoryState;
use crate::strategy::tree::{inner_stage, remove_default_acl, remove_inner_stage};
use crate::walk::{open_directory, split};

/// Gives the tree at `restored`, which nobody uses yet, the excluded entries of `dir` in place of
/// its own, as clones. Everything else of it stays as it is, the times of directories included.
pub(crate) fn replace(dir: &Path, now: &Manifest, restored: &Path, kept: &Manifest) -> Result<()> {
    refuse_conflicts(dir, now, kept)?;
    let (from, to) = (Side::open(dir)?, Beneath::new(open_directory(restored)?));
    remove(restored, kept)?;
    let copier = Copier::new(dir, restored, Contents::Shared)?;
    let stage = Target::new(open_directory(&inner_stage(restored)?)?);
    for path in &now.excluded {
        let missing = path.ancestors().skip(1).take_while(|above| kept.find(above).is_none());
        for above in missing.collect::<Vec<_>>().into_iter().rev() {
            if to.open(above).is_err() {
                shell(&from, above, restored, above)?;
            }
        }
        let shown = || dir.join(path);
        let source = from.parent_of(path).with_context("open the directory of", shown)?;
        let target = to.anew(split(path).0).with_context("open the directory of", shown)?;
        let mut meta = stat_at(&*source, split(path).1).with_context("examine", shown)?.meta;
        if meta.is_dir() {
            rustix::fs::mkdirat(&target, split(path).1, rustix::fs::Mode::RWXU)
                .with_context("create the directory for", shown)?;
            let made = to.anew(path).with_context("open the directory", shown)?;
            // That of the directory around it, which what is made in it would get as well.
            remove_default_acl(&made).with_context("remove the default ACL of", shown)?;
            let kept = from.directory(path).with_context("open the directory", shown)?;
            copy_open((kept, &shown()), (made, &restored.join(path)), Contents::Shared)?;
        } else {
            // By way of the stage, in which nothing inherits an ACL.
            let name = split(path).1;
            copier.entry_to(&source, name, &stage, path, &mut meta)?;
            renameat(&stage.fd, name, &target, name).with_context("rename", shown)?;
        }
    }
    remove_inner_stage(restored)?;
    restore_times(restored, kept, &now.excluded)
}

/// Deletes the excluded entries of a tree that nobody uses yet.
pub(crate) fn remove(tree: &Path, list: &Manifest) -> Result<()> {
    for path in &list.excluded {
        remove_tree(&tree.join(path))?;
    }
    restore_times(tree, list, &list.excluded)
}

/// Gives the directories around `paths` the times that are on the list.
fn restore_times(tree: &Path, list: &Manifest, paths: &[PathBuf]) -> Result<()> {
    let root = Beneath::new(open_directory(tree)?);
    let around: BTreeSet<&Path> = paths.iter().flat_map(|path| path.ancestors().skip(1)).collect();
    for path in around.into_iter().rev() {
        let Some(entry) = list.find(path) else { continue };
        root.open(path)
            .and_then(|fd| DirectoryState::of(&fd, list.meta(entry))?.apply(&fd))
            .with_context("set the times of", || tree.join(path))?;
    }
    Ok(())
}

/// An excluded entry needs a directory around it, and its name for itself.
pub(crate) fn refuse_conflicts(dir: &Path, now: &Manifest, kept: &Manifest) -> Result<()> {
    let conflicts = |path: &Path| {
        let above = path.ancestors().skip(1).find_map(|above| kept.find(above));
        kept.find(path).is_some() || above.is_some_and(|entry| !kept.meta(entry).is_dir())
    };
    match now.excluded.iter().find(|path| conflicts(path)) {
        Some(path) => Err(Error::ExcludedConflict(dir.join(path))),
        None => Ok(()),
    }
}
