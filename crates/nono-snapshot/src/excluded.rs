//! What a checkpoint leaves alone, when the tree around it is brought back.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::copy::{Contents, Copier, Target, copy_open};
use crate::error::{Context, Error, Result};
use crate::manifest::Manifest;
use crate::meta::stat_at;
use crate::plan::shell;
use crate::remove::remove_tree;
use crate::step::DirectoryState;
use crate::walk::{open_beneath, open_directory, split};

/// Gives the tree at `restored`, which nobody uses yet, the excluded entries of `dir` in place of
/// its own, as clones. Everything else of it stays as it is, the times of directories included.
pub(crate) fn replace(dir: &Path, now: &Manifest, restored: &Path, kept: &Manifest) -> Result<()> {
    refuse_conflicts(dir, now, kept)?;
    let (from, to) = (open_directory(dir)?, open_directory(restored)?);
    remove(restored, kept)?;
    let copier = Copier::new(dir, restored, Contents::Shared)?;
    for path in &now.excluded {
        let missing = path.ancestors().skip(1).take_while(|above| kept.find(above).is_none());
        for above in missing.collect::<Vec<_>>().into_iter().rev() {
            if open_beneath(&to, above).is_err() {
                shell(dir, above, restored, above)?;
            }
        }
        let shown = || dir.join(path);
        let source =
            open_beneath(&from, split(path).0).with_context("open the directory of", shown)?;
        let target =
            open_beneath(&to, split(path).0).with_context("open the directory of", shown)?;
        let mut meta = stat_at(&source, split(path).1).with_context("examine", shown)?.meta;
        if meta.is_dir() {
            rustix::fs::mkdirat(&target, split(path).1, rustix::fs::Mode::RWXU)
                .with_context("create the directory for", shown)?;
            let open = |root| open_beneath(root, path).with_context("open the directory", shown);
            let made = (open(&to)?, &*restored.join(path));
            copy_open((open(&from)?, &shown()), made, Contents::Shared)?;
        } else {
            let target = Target::new(target);
            copier.entry_to(&source, split(path).1, &target, path, &mut meta)?;
        }
    }
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
    let root = open_directory(tree)?;
    let around: BTreeSet<&Path> = paths.iter().flat_map(|path| path.ancestors().skip(1)).collect();
    for path in around.into_iter().rev() {
        let Some(entry) = list.find(path) else { continue };
        open_beneath(&root, path)
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
