//! overlayfs: what the sandbox writes goes to an upper layer beside the directory. Beginning and
//! discarding cost nothing, whatever the size of the directory.
//!
//! Only whoever mounts the overlay sees the changes, until [`apply`](crate::Checkpoint::apply)
//! exchanges each changed entry with the one in the directory. The upper layer then holds what was
//! there before, and a rollback is the same list of renames backwards. How overlayfs notes
//! deletions, replaced and renamed directories is described in
//! Documentation/filesystems/overlayfs.rst of the kernel.

mod changes;
mod merge;
mod probe;

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};
use serde::{Deserialize, Serialize};

use self::changes::changes_of;
use self::merge::{drop_from_upper, plan};
use super::tree::private_directory;
use super::{Demands, Placement, Strategy, file_system};
use crate::attributes::attributes;
use crate::changes::Change;
use crate::compare::is_overlay_note;
use crate::error::{Context, Error, Result};
use crate::exclude::Exclude;
use crate::meta::{stat_at, stat_fd};
use crate::plan::Base;
use crate::record::{Mounter, State};
use crate::remove::remove_tree;
use crate::select::Selection;
use crate::transaction::{Place, Step, write_durably};
use crate::walk::{names, open_beneath, open_directory, split};
use crate::xattr::Inode;

/// An upper layer that the sandbox mounts over the directory.
pub(crate) struct Overlay;

/// What the sandbox mounts at `target`, in its own mount namespace, before the first command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Where: over the directory itself.
    pub target: PathBuf,
    /// The directory as it is.
    pub lower: PathBuf,
    /// Where changes go.
    pub upper: PathBuf,
    /// overlayfs's scratch space, on the file system of `upper`.
    pub work: PathBuf,
}

impl Overlay {
    pub(crate) fn mount(placement: &Placement) -> Mount {
        Mount {
            target: placement.dir.clone(),
            lower: placement.dir.clone(),
            upper: placement.vault.join("upper"),
            work: placement.vault.join("work"),
        }
    }
}

/// Steps that were applied, in the checkpoint's vault: run backwards they are the rollback.
#[derive(Debug, Serialize, Deserialize)]
struct Applied {
    steps: Vec<Step>,
}

impl Strategy for Overlay {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn fits(&self, demands: &Demands<'_>) -> std::result::Result<String, String> {
        let dir = &demands.placement.dir;
        let name = file_system(dir);
        if matches!(name, "overlayfs" | "nfs" | "fuse" | "zfs") {
            return Err(format!("{name} can't hold an upper layer"));
        }
        if demands.excludes {
            return Err("an upper layer can't leave out what is excluded".to_owned());
        }
        Ok(match demands.mounter {
            Some(Mounter::Privileged) => {
                format!("{name} can hold an upper layer, and root's can rename directories")
            }
            _ => format!(
                "{name} can hold an upper layer; directories that exist can't be renamed in it (EXDEV)"
            ),
        })
    }

    /// Without privilege overlayfs answers the rename of a directory with EXDEV, which breaks `git mv`
    /// and package managers; so only a privileged mounter gets it unasked.
    fn is_automatic(&self, demands: &Demands<'_>) -> std::result::Result<(), String> {
        match demands.mounter {
            Some(Mounter::Privileged) => probe::renames_directories(&demands.placement.vault)
                .map_err(|error| format!("a trial mount could not rename a directory ({error})")),
            Some(Mounter::Unprivileged) => {
                Err("without privilege it can't rename directories".to_owned())
            }
            None => Err("nobody offers to mount it".to_owned()),
        }
    }

    fn begin(&self, placement: &Placement, _: &Exclude) -> Result<()> {
        private_directory(&placement.vault.join("work"))?;
        let (source, upper) = (open_directory(&placement.dir)?, placement.vault.join("partial"));
        private_directory(&upper)?;
        let target = open_directory(&upper)?;
        // The merged root shows the attributes of the upper one.
        let meta = stat_fd(&source).context("examine", &placement.dir)?.meta;
        attributes(&Inode::Open(&source), &Inode::Open(&target), &meta)
            .context("copy the attributes of", &placement.dir)?;
        let complete = placement.vault.join("upper");
        std::fs::rename(&upper, &complete).context("name", &upper)
    }

    fn is_complete(&self, placement: &Placement) -> bool {
        placement.vault.join("upper").is_dir()
    }

    fn changes(&self, placement: &Placement, _: &Exclude) -> Result<Vec<Change>> {
        match Applied::read(placement)? {
            Some(applied) => changes_of(placement, &applied.steps, true),
            None => changes_of(placement, &plan(placement, &Selection::All)?, false),
        }
    }

    fn rollback(
        &self,
        placement: &Placement,
        _: &Exclude,
        select: &Selection,
    ) -> Result<Vec<Step>> {
        match (Applied::read(placement)?, select) {
            (Some(applied), _) => {
                Ok(backwards(placement, &chosen(placement, &applied.steps, select)?))
            }
            (None, Selection::All) => Ok(Vec::new()), // The upper layer is dropped as a whole.
            (None, Selection::Paths(paths)) => drop_from_upper(placement, paths),
        }
    }

    fn commit(&self, placement: &Placement, _: &Exclude, select: &Selection) -> Result<Vec<Step>> {
        match Applied::read(placement)? {
            None if *select == Selection::All => plan(placement, select),
            None => without_traces(placement, plan(placement, select)?),
            // The changes are there already; what is committed is only no longer undone.
            Some(mut applied) => {
                let kept = chosen(placement, &applied.steps, select)?;
                applied.steps.retain(|step| !kept.contains(step));
                applied.write(placement)?;
                Ok(Vec::new())
            }
        }
    }

    fn apply(&self, placement: &Placement) -> Result<Vec<Step>> {
        plan(placement, &Selection::All)
    }

    fn conclude(&self, placement: &Placement, steps: &[Step], state: State) -> Result<()> {
        let base = Base::of(&placement.dir);
        let own: Vec<Step> =
            steps.iter().filter(|step| step.path_in(&base).is_some()).cloned().collect();
        match (state, Applied::read(placement)?) {
            (State::Applied, None) => {
                strip_notes(&base, &own)?;
                Applied { steps: own }.write(placement)
            }
            // Single paths were rolled back, or this runs again after a crash.
            (State::Applied, Some(mut applied)) => {
                applied.steps.retain(|step| {
                    !backwards(placement, std::slice::from_ref(step))
                        .iter()
                        .all(|step| own.contains(step))
                });
                applied.write(placement)
            }
            (State::Committed | State::Active, None) => strip_notes(&base, &own),
            _ => Ok(()),
        }
    }

    fn discard(&self, placement: &Placement) -> Result<()> {
        remove_tree(&placement.vault)
    }
}

impl Applied {
    fn path(placement: &Placement) -> PathBuf {
        placement.vault.join("applied")
    }

    /// `None`: nothing was applied, and the upper layer holds the sandbox's changes.
    fn read(placement: &Placement) -> Result<Option<Self>> {
        let path = Self::path(placement);
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            bytes => serde_json::from_slice(&bytes.context("read", &path)?)
                .map(Some)
                .map_err(|error| Error::Corrupt { path, reason: error.to_string() }),
        }
    }

    fn write(&self, placement: &Placement) -> Result<()> {
        let path = Self::path(placement);
        let bytes =
            serde_json::to_vec(self).map_err(std::io::Error::from).context("encode", &path)?;
        write_durably(&path, &bytes)
    }
}

/// The steps that undo `steps`. Directories get their own attributes last, as renames in them
/// change their times, and by then have their former names.
fn backwards(placement: &Placement, steps: &[Step]) -> Vec<Step> {
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
struct FormerNames(Vec<(PathBuf, PathBuf)>);

impl FormerNames {
    fn of(placement: &Placement, steps: &[Step]) -> Self {
        let base = Base::of(&placement.dir);
        let (mut taken, mut names) = (Vec::new(), Vec::new());
        for step in steps {
            let Step::Move { from, to, .. } = step else { continue };
            match (base.path_of(from), base.path_of(to)) {
                (Some(path), None) => taken.push((to, path)),
                (None, Some(path)) => {
                    let source = taken.iter().find(|(place, _)| *place == from);
                    names.extend(source.map(|(_, source)| (path, source.clone())));
                }
                _ => {}
            }
        }
        Self(names)
    }

    fn of_path(&self, path: &Path) -> PathBuf {
        // The last is the innermost.
        let moved =
            self.0.iter().rev().find_map(|(new, old)| Some(old.join(path.strip_prefix(new).ok()?)));
        moved.unwrap_or_else(|| path.to_owned())
    }
}

/// Of committed single paths, what was there before leaves the upper layer: it would pass for a change.
fn without_traces(placement: &Placement, mut steps: Vec<Step>) -> Result<Vec<Step>> {
    let gone = placement.vault.join("gone");
    for number in 0..steps.len() {
        if let Step::Exchange { a, b, .. } = &steps[number] {
            let trash = Place::new(&gone, format!("committed-{number}"));
            steps.push(Step::shift_from(b.clone(), a, trash)?);
        }
    }
    Ok(steps)
}

/// Those steps that are about selected entries.
fn chosen(placement: &Placement, steps: &[Step], select: &Selection) -> Result<Vec<Step>> {
    let base = Base::of(&placement.dir);
    let mut chosen = Vec::new();
    for step in steps {
        let path = step.path_in(&base).unwrap_or_default();
        if select.contains(&path) {
            chosen.push(step.clone());
        } else if select.reaches(&path) && !matches!(step, Step::Directory { .. }) {
            // A step about a whole directory can't be undone in part.
            return Err(Error::RenamedDirectory(placement.dir.join(path)));
        }
    }
    Ok(chosen)
}

/// overlayfs's notes come off what is now in the directory.
fn strip_notes(base: &Base, steps: &[Step]) -> Result<()> {
    for step in steps {
        let place = match step {
            Step::Exchange { a, .. } => a,
            Step::Move { to, .. } if base.path_of(to).is_some() => to,
            _ => continue,
        };
        let full = place.full();
        let parent = open_beneath(&open_directory(&place.base)?, split(&place.path).0);
        strip(parent.context("open the directory of", &full)?, split(&place.path).1, &full)?;
    }
    Ok(())
}

fn strip(parent: impl AsFd, name: &OsStr, full: &Path) -> Result<()> {
    let entry = Inode::Named(&parent, name);
    let noted = entry.read().context("read the attributes of", full)?;
    for name in noted.keys().filter(|name| is_overlay_note(name)) {
        entry.remove(name).context("clean the attributes of", full)?;
    }
    if stat_at(&parent, name).context("examine", full)?.meta.is_dir() {
        let dir = openat(
            &parent,
            name,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .context("open the directory", full)?;
        for name in names(&dir, || full.to_owned())? {
            strip(&dir, &name, &full.join(&name))?;
        }
    }
    Ok(())
}
