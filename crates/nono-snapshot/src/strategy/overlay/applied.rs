//! What was applied to the directory, and the way back.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Overlay;
use super::notes::make_opaque;
use crate::beneath::{Beneath, Directories};
use crate::encoding;
use crate::error::{Context, Error, Result};
use crate::meta::Time;
use crate::plan::Base;
use crate::select::Selection;
use crate::step::Step;
use crate::strategy::Placement;
use crate::transaction::write_durably;
use crate::walk::open_directory;

/// Steps that were applied, in the checkpoint's vault: run backwards they are the rollback.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Applied {
    pub(super) steps: Vec<Step>,
    /// The directories of the upper layer, which lost entries to the steps.
    pub(super) directories: Vec<Dated>,
    /// Whether `steps` are still all of them.
    pub(super) is_whole: bool,
}

/// A directory of the upper layer and its modification time.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Dated {
    #[serde(with = "encoding::path")]
    pub(super) path: PathBuf,
    pub(super) time: Time,
}

impl Applied {
    pub(super) fn path(placement: &Placement) -> PathBuf {
        placement.vault.join("applied")
    }

    /// Written before the steps are run; it gets its name after.
    pub(super) fn next(placement: &Placement) -> PathBuf {
        placement.vault.join("applied-next")
    }

    /// `None`: nothing was applied, and the upper layer holds the sandbox's changes.
    pub(super) fn read(placement: &Placement) -> Result<Option<Self>> {
        let path = Self::path(placement);
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            bytes => serde_json::from_slice(&bytes.context("read", &path)?)
                .map(Some)
                .map_err(|error| Error::Corrupt { path, reason: error.to_string() }),
        }
    }

    pub(super) fn write(&self, path: &Path) -> Result<()> {
        let bytes =
            serde_json::to_vec(self).map_err(std::io::Error::from).context("encode", path)?;
        write_durably(path, &bytes)
    }

    /// Makes the upper layer again what it was before the steps, once they have been undone. Directories
    /// that went into the directory as a whole lost their notes there: what was below them in the
    /// directory, which is back, must not show through.
    pub(super) fn reopen(&self, placement: &Placement) -> Result<()> {
        let upper = Overlay::mount(placement).upper;
        let base = Base::of(&upper);
        let came_back = self.steps.iter().filter_map(|step| match step {
            Step::Exchange { b: place, .. } | Step::Move { from: place, .. } => base.path_of(place),
            _ => None,
        });
        let (root, dirs) = (Beneath::new(open_directory(&upper)?), Directories::default());
        for path in came_back {
            let shown = || upper.join(&path);
            match root.anew(&path) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOTDIR | libc::ELOOP)) => {
                }
                dir => make_opaque(&dir.with_context("open the directory", shown)?, placement)
                    .with_context("set the attributes of", shown)?,
            }
        }
        for Dated { path, time } in &self.directories {
            base.place(path).set_time(&dirs, *time)?;
        }
        Ok(())
    }
}

/// The steps that undo `steps`. Directories get their own attributes last, as renames in them
/// change their times, and by then have their former names.
pub(super) fn backwards(placement: &Placement, steps: &[Step]) -> Vec<Step> {
    let (base, names) = (Base::of(&placement.dir), FormerNames::of(placement, steps));
    let (own, renames): (Vec<&Step>, Vec<&Step>) =
        steps.iter().partition(|step| matches!(step, Step::Directory { .. }));
    let mut undone: Vec<Step> = renames.into_iter().rev().map(Step::reversed).collect();
    undone.extend(own.into_iter().map(|step| match (step.reversed(), step.path_in(&base)) {
        (Step::Directory { before, after, .. }, Some(path)) => {
            Step::Directory { at: base.place(&names.of_path(&path)), before, after }
        }
        (other, _) => other,
    }));
    undone
}

/// The names that renamed directories had before the steps.
#[derive(Debug, Default)]
pub(super) struct FormerNames(Vec<(PathBuf, PathBuf)>);

impl FormerNames {
    pub(super) fn of(placement: &Placement, steps: &[Step]) -> Self {
        let base = Base::of(&placement.dir);
        let (mut taken, mut names) = (HashMap::new(), Vec::new());
        for step in steps {
            let Step::Move { from, to, .. } = step else { continue };
            match (base.path_of(from), base.path_of(to)) {
                (Some(path), None) => {
                    taken.insert(to, path);
                }
                (None, Some(path)) => {
                    names.extend(taken.get(from).map(|source| (path, source.clone())));
                }
                _ => {}
            }
        }
        Self(names)
    }

    pub(super) fn of_path(&self, path: &Path) -> PathBuf {
        // The last is the innermost.
        let moved =
            self.0.iter().rev().find_map(|(new, old)| Some(old.join(path.strip_prefix(new).ok()?)));
        moved.unwrap_or_else(|| path.to_owned())
    }
}

/// Those steps that are about selected entries.
pub(super) fn chosen(
    placement: &Placement,
    steps: &[Step],
    select: &Selection,
) -> Result<Vec<Step>> {
    let base = Base::of(&placement.dir);
    let mut chosen = Vec::new();
    for step in steps {
        let path = step.path_in(&base).unwrap_or_default();
        let reach = select.of(&path);
        if reach.is_inside() {
            chosen.push(step.clone());
        } else if !reach.is_outside() && !matches!(step, Step::Directory { .. }) {
            // A step about a whole directory can't be undone in part.
            return Err(Error::RenamedDirectory(placement.dir.join(path)));
        }
    }
    Ok(chosen)
}
