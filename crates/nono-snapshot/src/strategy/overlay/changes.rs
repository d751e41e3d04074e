//! What the steps towards, or away from, an upper layer change.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::applied::FormerNames;
use crate::changes::Change;
use crate::compare::{ChangeKind, Side, compare};
use crate::error::{Context, Result};
use crate::meta::{Meta, stat_at};
use crate::plan::Base;
use crate::step::Step;
use crate::strategy::Placement;
use crate::walk::{names, split};

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
        let open = |full: Option<&Path>| full.map(|full| Side::open(split(full).0)).transpose();
        let (old_side, new_side) = (open(old)?, open(new)?);
        let top = |full: Option<&Path>| -> Result<_> {
            let entry = |full: &Path| Ok((PathBuf::from(split(full).1), examine(full)?));
            full.map(entry).transpose()
        };
        // Not by recursion: how deep a tree is, is up to the agent.
        let mut pending = vec![(path.to_owned(), top(old)?, top(new)?)];
        while let Some((path, was, is)) = pending.pop() {
            let old = old_side.as_ref().zip(was.as_ref());
            let new = new_side.as_ref().zip(is.as_ref());
            let full = |end: Option<(&Side, &(PathBuf, Meta))>| {
                end.map(|(side, (at, meta))| (side.path.join(at), *meta))
            };
            let kind = match (old, new) {
                (Some((old, (old_at, was))), Some((new, (new_at, is)))) => {
                    compare((old, old_at, was), (new, new_at, is))
                        .with_context("compare", || new.path.join(new_at))?
                }
                (Some(_), None) => Some(ChangeKind::Deleted),
                (None, Some(_)) => Some(ChangeKind::Added),
                (None, None) => None,
            };
            if let Some(kind) = kind {
                self.note(kind, &path, full(old), full(new));
            }
            let mut names = BTreeMap::<OsString, [Option<(PathBuf, Meta)>; 2]>::new();
            for (number, end) in [old, new].into_iter().enumerate() {
                let Some((side, (at, _))) = end.filter(|(_, (_, meta))| meta.is_dir()) else {
                    continue;
                };
                for (name, meta) in entries(side, at)? {
                    let at = at.join(&name);
                    names.entry(name).or_default()[number] = Some((at, meta));
                }
            }
            pending.extend(names.into_iter().map(|(name, [was, is])| (path.join(name), was, is)));
        }
        Ok(())
    }
}

/// What is in a directory, but for notes of deletions.
fn entries(side: &Side, at: &Path) -> Result<Vec<(OsString, Meta)>> {
    let shown = || side.path.join(at);
    let dir = side.directory(at).with_context("open the directory", shown)?;
    let mut entries = Vec::new();
    for name in names(&dir, shown)? {
        let meta = stat_at(&dir, &name).with_context("examine", || shown().join(&name))?.meta;
        if !is_whiteout(&meta) {
            entries.push((name, meta));
        }
    }
    Ok(entries)
}

fn is_whiteout(meta: &Meta) -> bool {
    meta.file_type() == FileType::CharacterDevice && meta.rdev == 0
}

fn examine(full: &Path) -> Result<Meta> {
    Ok(stat_at(rustix::fs::CWD, full.as_os_str()).context("examine", full)?.meta)
}
