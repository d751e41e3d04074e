//! What a checkpoint leaves alone, when the tree around it is brought back.

use std::collections::BTreeSet;
use std::path::Path;

use crate::copy::{Contents, Copier, copy_tree};
use crate::error::{Context, Error, Result};
use crate::exclude::Exclude;
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
    let mut touched = BTreeSet::new();
    for path in kept.excluded.iter().chain(&now.excluded) {
        touched.extend(path.ancestors().skip(1).filter(|above| kept.find(above).is_some()));
    }
    for path in &kept.excluded {
        remove_tree(&restored.join(path))?;
    }
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
            copy_tree(&shown(), &restored.join(path), Contents::Shared, &Exclude::none())?;
        } else {
            copier.entry_to(&source, split(path).1, &target, path, &mut meta)?;
        }
    }
    for path in touched.into_iter().rev() {
        let Some(entry) = kept.find(path) else { continue };
        let shown = || restored.join(path);
        open_beneath(&to, path)
            .and_then(|fd| DirectoryState::of(&fd, kept.meta(entry))?.apply(&fd))
            .with_context("set the times of", shown)?;
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
