//! overlayfs: what the sandbox writes goes to an upper layer beside the directory. Beginning and
//! discarding cost nothing, whatever the size of the directory.
//!
//! Only whoever mounts the overlay sees the changes, until [`apply`](crate::Checkpoint::apply)
//! exchanges each changed entry with the one in the directory. The upper layer then holds what was
//! there before, and a rollback is the same list of renames backwards. How overlayfs notes
//! deletions, replaced and renamed directories is described in
//! Documentation/filesystems/overlayfs.rst of the kernel.

mod applied;
mod changes;
mod merge;
mod notes;
mod probe;

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use self::applied::{Applied, Dated, FormerNames, backwards, chosen};
use self::changes::changes_of;
use self::merge::{Planned, Role, drop_from_upper, plan};
use self::notes::strip_notes;
use super::tree::{self, private_directory};
use super::{Placement, Strategy, file_system};
use crate::attributes::attributes;
use crate::beneath::{Beneath, Directories};
use crate::changes::Change;
use crate::error::{Context, Error, Result};
use crate::exclude::Exclude;
use crate::meta::stat_fd;
use crate::plan::Base;
use crate::record::{Mounter, State};
use crate::remove::remove_tree;
use crate::select::Selection;
use crate::step::{DirectoryState, Place, Step};
use crate::transaction::{remove_durably, sync_file_system};
use crate::walk::open_directory;
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

impl Strategy for Overlay {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn fits(&self, placement: &Placement) -> std::result::Result<String, String> {
        let Some(mounter) = placement.mounter else {
            return Err("nobody offers to mount it".to_owned());
        };
        let name = file_system(&placement.dir);
        if matches!(name, "overlayfs" | "nfs" | "fuse" | "zfs") {
            return Err(format!("{name} can't hold an upper layer"));
        }
        // What was changed has to get from the upper layer into the directory, and back.
        tree::exchangeable(placement)?;
        match mounter {
            Mounter::Privileged => probe::renames_directories(&placement.vault)
                .map(|()| format!("{name} can hold an upper layer, and directories can be renamed"))
                .map_err(|error| format!("a trial mount could not rename a directory ({error})")),
            Mounter::Supervised => Ok(format!(
                "{name} can hold an upper layer, and the supervisor renames directories"
            )),
            Mounter::Unprivileged => Ok(format!(
                "{name} can hold an upper layer; directories that exist can't be renamed in it (EXDEV)"
            )),
        }
    }

    /// Without privilege overlayfs answers the rename of a directory with EXDEV, which breaks `git mv`
    /// and package managers, so nobody gets that unasked.
    fn is_automatic(&self, placement: &Placement) -> std::result::Result<(), String> {
        match placement.mounter {
            Some(Mounter::Unprivileged) => {
                Err("without privilege it can't rename directories".to_owned())
            }
            _ => Ok(()),
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

    fn is_restored(&self, placement: &Placement) -> bool {
        dropped(placement).full().is_dir()
    }

    fn will_show(&self, _: &Placement) -> bool {
        true
    }

    fn changes(&self, placement: &Placement, exclude: &Exclude) -> Result<Vec<Change>> {
        let mut changes = match Applied::read(placement)? {
            Some(applied) => changes_of(placement, &applied.steps, true)?,
            None => {
                let (_, steps) = divided(plan(placement, exclude, &Selection::All)?);
                changes_of(placement, &steps, false)?
            }
        };
        // What was excluded in a directory that was deleted.
        changes.retain(|change| {
            let is_dir = change.before.or(change.after).is_some_and(|meta| meta.is_dir());
            !exclude.covers(&change.path, is_dir)
        });
        Ok(changes)
    }

    fn rollback(
        &self,
        placement: &Placement,
        exclude: &Exclude,
        select: &Selection,
    ) -> Result<Vec<Step>> {
        match (Applied::read(placement)?, select) {
            (Some(applied), _) => {
                Ok(backwards(placement, &chosen(placement, &applied.steps, select)?))
            }
            (None, Selection::All) => {
                let mut steps = kept_of_excluded(placement, exclude)?;
                let upper = Place::new(&placement.vault, "upper");
                steps.push(Step::shift(&Directories::default(), upper, dropped(placement))?);
                Ok(steps)
            }
            (None, Selection::Paths(paths)) => {
                // Refuses renamed directories, whose other half would lose its contents.
                plan(placement, &Exclude::none(), select)?;
                let kept = kept_of_excluded(placement, exclude)?;
                let mut steps = without_traces(placement, kept)?;
                steps.extend(drop_from_upper(placement, paths)?);
                Ok(steps)
            }
        }
    }

    fn commit(&self, placement: &Placement, _: &Exclude, select: &Selection) -> Result<Vec<Step>> {
        let all = || Ok::<_, Error>(whole(plan(placement, &Exclude::none(), select)?));
        match Applied::read(placement)? {
            None if *select == Selection::All => all(),
            None => without_traces(placement, all()?),
            // The changes are there already; what is committed is only no longer undone.
            Some(mut applied) => {
                let kept: HashSet<Step> =
                    chosen(placement, &applied.steps, select)?.into_iter().collect();
                applied.steps.retain(|step| !kept.contains(step));
                applied.is_whole &= kept.is_empty();
                applied.write(&Applied::path(placement))?;
                Ok(Vec::new())
            }
        }
    }

    fn apply(&self, placement: &Placement, exclude: &Exclude) -> Result<Vec<Step>> {
        let planned = plan(placement, exclude, &Selection::All)?;
        let steps = planned.iter().filter(|planned| planned.role == Role::Change);
        let base = Base::of(&placement.dir);
        let undoable = steps.map(|planned| planned.step.clone());
        let steps = undoable.filter(|step| step.path_in(&base).is_some()).collect();
        let directories = planned.iter().filter_map(|planned| match &planned.step {
            Step::Directory { at, after, .. } => Some((base.path_of(at)?, after.meta().mtime)),
            _ => None,
        });
        let directories = directories.map(|(path, time)| Dated { path, time }).collect();
        Applied { steps, directories, is_whole: true }.write(&Applied::next(placement))?;
        Ok(whole(planned))
    }

    fn withdraw(&self, placement: &Placement) -> Result<Vec<Step>> {
        let Some(applied) = Applied::read(placement)? else { return Ok(Vec::new()) };
        if !applied.is_whole {
            // What is no longer undone, or was undone already, is still in the upper layer.
            return Err(Error::Divided(placement.dir.clone()));
        }
        Ok(backwards(placement, &applied.steps))
    }

    fn conclude(&self, placement: &Placement, steps: &[Step], state: State) -> Result<()> {
        let base = Base::of(&placement.dir);
        let own: Vec<Step> =
            steps.iter().filter(|step| step.path_in(&base).is_some()).cloned().collect();
        match (state, Applied::read(placement)?) {
            (State::Applied, None) => {
                strip_notes(&base, &own)?;
                let (next, applied) = (Applied::next(placement), Applied::path(placement));
                std::fs::rename(&next, &applied).context("name", &next)
            }
            // Single paths were rolled back, or this runs again after a crash.
            (State::Applied, Some(mut applied)) => {
                let own: HashSet<Step> = own.into_iter().collect();
                let before = applied.steps.len();
                applied.steps.retain(|step| {
                    let undone = backwards(placement, std::slice::from_ref(step));
                    !undone.iter().all(|step| own.contains(step))
                });
                applied.is_whole &= applied.steps.len() == before;
                applied.write(&Applied::path(placement))
            }
            // Withdrawn: the upper layer holds the sandbox's changes again.
            (State::Active, Some(applied)) => {
                applied.reopen(placement)?;
                remove_durably(&Applied::path(placement))
            }
            (_, None) => strip_notes(&base, &own),
            _ => Ok(()),
        }
    }

    fn discard(&self, placement: &Placement) -> Result<()> {
        remove_tree(&placement.vault)
    }
}

/// Where the upper layer goes when it is dropped as a whole.
fn dropped(placement: &Placement) -> Place {
    Place::new(&placement.vault, "dropped")
}

/// The steps about what is excluded, and the changes.
fn divided(planned: Vec<Planned>) -> (Vec<Step>, Vec<Step>) {
    let (mut excluded, mut changes) = (Vec::new(), Vec::new());
    for Planned { step, role } in planned {
        match role {
            Role::Excluded => excluded.push(step),
            Role::Change => changes.push(step),
            Role::Finish => {}
        }
    }
    (excluded, changes)
}

fn whole(planned: Vec<Planned>) -> Vec<Step> {
    planned.into_iter().map(|planned| planned.step).collect()
}

/// What the sandbox did to excluded entries outlasts the upper layer. Directories it renamed keep
/// their former names.
fn kept_of_excluded(placement: &Placement, exclude: &Exclude) -> Result<Vec<Step>> {
    if exclude.is_empty() {
        return Ok(Vec::new());
    }
    let (excluded, others) = divided(plan(placement, exclude, &Selection::All)?);
    if excluded.is_empty() {
        return Ok(Vec::new());
    }
    sync_file_system(&placement.vault)?;
    let (base, names) = (Base::of(&placement.dir), FormerNames::of(placement, &others));
    let former = |place: Place| match base.path_of(&place) {
        Some(path) => base.place(&names.of_path(&path)),
        None => place,
    };
    let mut steps: Vec<Step> = excluded.into_iter().map(|step| step.with_places(former)).collect();
    // Renames move the times of the directories around them, which stay as they are otherwise.
    let mut around = BTreeSet::new();
    for path in steps.iter().filter_map(|step| step.path_in(&base)) {
        around.extend(path.parent().map(Path::to_owned));
    }
    let root = Beneath::new(open_directory(&placement.dir)?);
    for path in around.into_iter().rev() {
        if steps.iter().any(|step| step.path_in(&base).as_ref() == Some(&path)) {
            continue;
        }
        let shown = || placement.dir.join(&path);
        let dir = root.open(&path).with_context("open the directory", shown)?;
        let meta = stat_fd(&dir).with_context("examine", shown)?.meta;
        let state = DirectoryState::of(&dir, &meta).with_context("examine", shown)?;
        steps.push(Step::Directory { at: base.place(&path), before: state.clone(), after: state });
    }
    Ok(steps)
}

/// Of committed single paths, what was there before leaves the upper layer: it would pass for a change.
fn without_traces(placement: &Placement, mut steps: Vec<Step>) -> Result<Vec<Step>> {
    let (gone, dirs) = (placement.vault.join("gone"), Directories::default());
    for number in 0..steps.len() {
        if let Step::Exchange { a, b, .. } = &steps[number] {
            let trash = Place::new(&gone, format!("committed-{number}"));
            steps.push(Step::shift_from(&dirs, b.clone(), a, trash)?);
        }
    }
    Ok(steps)
}
