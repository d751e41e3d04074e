//! What the steps towards, or away from, an upper layer change.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::applied::FormerNames;
use crate::changes::Change;
use crate::compare::{ChangeKind, Side, compare};
use crate::error::{Context, Result};
use crate::exclude::Exclude;
use crate::manifest::Manifest;
use crate::meta::{Meta, stat_at};
use crate::plan::Base;
use crate::step::Step;
use crate::strategy::Placement;
use crate::walk::{scan, split};

/// Lists what the steps change. `done`: they were run, so the two sides have changed places.
pub(super) fn changes_of(placement: &Placement, steps: &[Step], done: bool) -> Result<Vec<Change>> {
    let base = Base::of(&placement.dir);
    let mut list = List { dir: &placement.dir, changes: Vec::new() };
    let mut taken = HashMap::new();
    // As long as nothing was done.
    let former = if done { FormerNames::default() } else { FormerNames::of(placement, steps) };
    let old_place = |path: &Path| placement.dir.join(former.of_path(path));
    for step in steps {
        match step {
            Step::Exchange { a, b, .. } => {
                let path = base.path_of(a).unwrap_or_default();
                let (old, new) =
                    if done { (b.full(), a.full()) } else { (old_place(&path), b.full()) };
                list.pair(&path, Some(&old), Some(&new))?;
            }
            Step::Move { from, to, .. } => match (base.path_of(from), base.path_of(to)) {
                (Some(path), None) => {
                    let old = if done { to.full() } else { old_place(&path) };
                    taken.insert(to.full(), (path, old));
                }
                (None, Some(path)) => match taken.remove(&from.full()) {
                    Some((source, _)) => {
                        let now = placement.dir.join(if done { &path } else { &source });
                        list.renamed(&source, &path, &now)?;
                    }
                    None => {
                        let new = if done { to.full() } else { from.full() };
                        list.pair(&path, None, Some(&new))?;
                    }
                },
                _ => {}
            },
            Step::Directory { at, before, after } => {
                let path = base.path_of(at).unwrap_or_default();
                if let Some(kind) = before.difference(after) {
                    list.note(
                        kind,
                        &path,
                        Some((placement.dir.join(&path), before.meta())),
                        Some((placement.dir.join(&path), after.meta())),
                    );
                }
            }
            // ZFS only.
            Step::Revert { .. } => {}
        }
    }
    for (path, old) in taken.into_values() {
        list.pair(&path, Some(&old), None)?;
    }
    list.changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(list.changes)
}

struct List<'a> {
    dir: &'a Path,
    changes: Vec<Change>,
}

impl List<'_> {
    fn note(
        &mut self,
        kind: ChangeKind,
        path: &Path,
        was: Option<(PathBuf, Meta)>,
        is: Option<(PathBuf, Meta)>,
    ) {
        let (before_file, before) = was.unzip();
        let (after_file, after) = is.unzip();
        let (dir, path) = (self.dir.to_owned(), path.to_owned());
        self.changes.push(Change {
            dir,
            path,
            kind,
            from: None,
            before,
            after,
            before_file,
            after_file,
        });
    }

    fn renamed(&mut self, from: &Path, to: &Path, now: &Path) -> Result<()> {
        let meta = examine(now)?;
        self.note(
            ChangeKind::Renamed,
            to,
            Some((now.to_owned(), meta)),
            Some((now.to_owned(), meta)),
        );
        if let Some(change) = self.changes.last_mut() {
            change.from = Some(from.to_owned());
        }
        Ok(())
    }

    /// The difference of two entries that stand for the same path, and of what is below them.
    fn pair(&mut self, path: &Path, old: Option<&Path>, new: Option<&Path>) -> Result<()> {
        let (was, is) = (old.map(examine).transpose()?, new.map(examine).transpose()?);
        if let (Some(old), Some(new), Some(was), Some(is)) = (old, new, was, is) {
            let sides = (Side::open(split(old).0)?, Side::open(split(new).0)?);
            let (old_name, new_name) = (Path::new(split(old).1), Path::new(split(new).1));
            let kind = compare((&sides.0, old_name, &was), (&sides.1, new_name, &is))
                .context("compare", new)?;
            if let Some(kind) = kind {
                self.note(kind, path, Some((old.to_owned(), was)), Some((new.to_owned(), is)));
            }
        } else if let (Some(old), Some(was)) = (old, was) {
            self.note(ChangeKind::Deleted, path, Some((old.to_owned(), was)), None);
        } else if let (Some(new), Some(is)) = (new, is) {
            self.note(ChangeKind::Added, path, None, Some((new.to_owned(), is)));
        }
        let listing = |full: Option<&Path>, meta: Option<Meta>| match (full, meta) {
            (Some(full), Some(meta)) if meta.is_dir() => scan(full, &Exclude::none()).map(Some),
            _ => Ok(None),
        };
        let (old_list, new_list) = (listing(old, was)?, listing(new, is)?);
        let mut names = Vec::new();
        for list in [&old_list, &new_list].into_iter().flatten() {
            let present =
                list.children(Manifest::ROOT).filter(|&entry| !is_whiteout(list.meta(entry)));
            names.extend(present.map(|entry| list.name(entry).to_owned()));
        }
        names.sort_unstable();
        names.dedup();
        for name in names {
            let side = |list: &Option<Manifest>, full: Option<&Path>| {
                let found = list.as_ref()?.child(Manifest::ROOT, &name)?;
                (!is_whiteout(list.as_ref()?.meta(found))).then_some(full?.join(&name))
            };
            let (old, new) = (side(&old_list, old), side(&new_list, new));
            self.pair(&path.join(&name), old.as_deref(), new.as_deref())?;
        }
        Ok(())
    }
}

fn is_whiteout(meta: &Meta) -> bool {
    meta.file_type() == FileType::CharacterDevice && meta.rdev == 0
}

fn examine(full: &Path) -> Result<Meta> {
    Ok(stat_at(rustix::fs::CWD, full.as_os_str()).context("examine", full)?.meta)
}
