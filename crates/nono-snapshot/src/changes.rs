//! What differs between a checkpoint and now.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use crate::compare::{ChangeKind, Side, compare};
use crate::error::{Context, Result};
use crate::manifest::{Entry, Manifest};
use crate::meta::Meta;

/// One difference between the checkpoint and the directory as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The checkpoint's directory.
    pub dir: PathBuf,
    /// The entry's path in it.
    pub path: PathBuf,
    /// In what it differs.
    pub kind: ChangeKind,
    /// Its former path, when it was renamed.
    pub from: Option<PathBuf>,
    /// Its condition at the checkpoint.
    pub before: Option<Meta>,
    /// Its condition now.
    pub after: Option<Meta>,
    /// Where its contents at the checkpoint can be read.
    pub before_file: Option<PathBuf>,
    /// Where its contents of now can be read.
    pub after_file: Option<PathBuf>,
}

/// A tree on disk with its list.
pub(crate) struct Tree {
    pub(crate) side: Side,
    pub(crate) manifest: Manifest,
}

/// Compares one entry of two trees, reading it only when its condition or a clock tick leaves a doubt.
pub(crate) fn difference(
    before: &Tree,
    old: (Entry, &Path),
    after: &Tree,
    new: (Entry, &Path),
) -> Result<Option<ChangeKind>> {
    difference_from(before, old, &after.side, (after.manifest.meta(new.0), new.1))
}

/// The same for an entry that is on no list.
pub(crate) fn difference_from(
    before: &Tree,
    old: (Entry, &Path),
    after: &Side,
    (is, path): (&Meta, &Path),
) -> Result<Option<ChangeKind>> {
    let was = before.manifest.meta(old.0);
    let racy = before.manifest.is_racy(old.0) && !was.is_dir();
    if was.same_condition(is) && !racy {
        return Ok(None);
    }
    let compared = compare((&before.side, old.1, was), (after, path, is));
    compared.with_context("compare", || after.path.join(path))
}

/// Lists the differences, sorted by path, renames recognised by their inode.
pub(crate) fn changes(dir: &Path, before: &Tree, after: &Tree) -> Result<Vec<Change>> {
    let mut comparison = Comparison { dir, before, after, changes: Vec::new() };
    comparison.directory(Path::new(""), Manifest::ROOT, Manifest::ROOT)?;
    comparison.recognise_renames()?;
    comparison.changes.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(comparison.changes)
}

/// The list for a directory that is no longer there.
pub(crate) fn all_deleted(dir: &Path, before: &Tree) -> Vec<Change> {
    let deleted = |path: &Path, entry| Change {
        dir: dir.to_owned(),
        path: path.to_owned(),
        kind: ChangeKind::Deleted,
        from: None,
        before: Some(*before.manifest.meta(entry)),
        after: None,
        before_file: Some(before.side.path.join(path)),
        after_file: None,
    };
    let mut changes = vec![deleted(Path::new(""), Manifest::ROOT)];
    before.manifest.each(Manifest::ROOT, Path::new(""), &mut |path, entry| {
        changes.push(deleted(path, entry));
    });
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    changes
}

struct Comparison<'a> {
    dir: &'a Path,
    before: &'a Tree,
    after: &'a Tree,
    changes: Vec<Change>,
}

impl Comparison<'_> {
    fn note(&mut self, kind: ChangeKind, path: &Path, was: Option<Entry>, is: Option<Entry>) {
        self.changes.push(Change {
            dir: self.dir.to_owned(),
            path: path.to_owned(),
            kind,
            from: None,
            before: was.map(|entry| *self.before.manifest.meta(entry)),
            after: is.map(|entry| *self.after.manifest.meta(entry)),
            before_file: was.map(|_| self.before.side.path.join(path)),
            after_file: is.map(|_| self.after.side.path.join(path)),
        });
    }

    fn directory(&mut self, path: &Path, was: Entry, is: Entry) -> Result<()> {
        self.entry(path, was, is)?;
        let (before, after) = (&self.before.manifest, &self.after.manifest);
        let mut old = before.children(was).peekable();
        let mut new = after.children(is).peekable();
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some(&old), Some(&new)) => before.name(old).cmp(after.name(new)),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return Ok(()),
            };
            let old = if order.is_le() { old.next() } else { None };
            let new = if order.is_ge() { new.next() } else { None };
            match (old, new) {
                (Some(old), Some(new)) => {
                    let path = path.join(before.name(old));
                    if before.meta(old).is_dir() && after.meta(new).is_dir() {
                        self.directory(&path, old, new)?;
                    } else {
                        self.entry(&path, old, new)?;
                        self.below(ChangeKind::Deleted, old, &path);
                        self.below(ChangeKind::Added, new, &path);
                    }
                }
                (Some(old), None) => {
                    self.whole(ChangeKind::Deleted, old, &path.join(before.name(old)))
                }
                (None, Some(new)) => {
                    self.whole(ChangeKind::Added, new, &path.join(after.name(new)))
                }
                (None, None) => return Ok(()),
            }
        }
    }

    fn entry(&mut self, path: &Path, was: Entry, is: Entry) -> Result<()> {
        if let Some(kind) = difference(self.before, (was, path), self.after, (is, path))? {
            self.note(kind, path, Some(was), Some(is));
        }
        Ok(())
    }

    fn whole(&mut self, kind: ChangeKind, entry: Entry, path: &Path) {
        let (was, is) =
            if kind == ChangeKind::Added { (None, Some(entry)) } else { (Some(entry), None) };
        self.note(kind, path, was, is);
        self.below(kind, entry, path);
    }

    fn below(&mut self, kind: ChangeKind, entry: Entry, path: &Path) {
        let manifest =
            if kind == ChangeKind::Added { &self.after.manifest } else { &self.before.manifest };
        let mut found = Vec::new();
        manifest.each(entry, path, &mut |path, entry| found.push((path.to_owned(), entry)));
        for (path, entry) in found {
            let (was, is) =
                if kind == ChangeKind::Added { (None, Some(entry)) } else { (Some(entry), None) };
            self.note(kind, &path, was, is);
        }
    }

    /// An inode that is gone from one path and new at another was renamed. What moved along inside a
    /// renamed directory is not listed again.
    fn recognise_renames(&mut self) -> Result<()> {
        let mut gone = HashMap::new();
        for (index, change) in self.changes.iter().enumerate() {
            if let (ChangeKind::Deleted, Some(meta)) = (change.kind, &change.before) {
                gone.insert(meta.ino, index);
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        let mut moved = HashMap::<PathBuf, PathBuf>::new();
        let mut obsolete = vec![false; self.changes.len()];
        for index in 0..self.changes.len() {
            let (ChangeKind::Added, Some(is)) =
                (self.changes[index].kind, self.changes[index].after)
            else {
                continue;
            };
            let Some(&from) = gone.get(&is.ino).filter(|&&from| !obsolete[from]) else { continue };
            let old = &self.changes[from];
            let Some(was) = old.before.filter(|was| was.same_inode(&is)) else { continue };
            let (old_path, old_file) = (old.path.clone(), old.before_file.clone());
            obsolete[from] = true;
            let path = self.changes[index].path.clone();
            let along = path.parent().and_then(|parent| moved.get(parent)).is_some_and(|parent| {
                Some(parent.as_path()) == old_path.parent()
                    && path.file_name() == old_path.file_name()
            });
            moved.insert(path.clone(), old_path.clone());
            let change = &mut self.changes[index];
            change.before = Some(was);
            change.before_file = old_file;
            change.from = Some(old_path.clone());
            change.kind = ChangeKind::Renamed;
            if along {
                change.from = None;
                match self.difference_of_moved((&old_path, &was), (&path, &is))? {
                    Some(kind) => self.changes[index].kind = kind,
                    None => obsolete[index] = true,
                }
            }
        }
        let mut obsolete = obsolete.into_iter();
        self.changes.retain(|_| !obsolete.next().unwrap_or(false));
        Ok(())
    }

    fn difference_of_moved(
        &self,
        was: (&Path, &Meta),
        is: (&Path, &Meta),
    ) -> Result<Option<ChangeKind>> {
        if was.1.same_condition(is.1) {
            return Ok(None);
        }
        let compared: io::Result<_> =
            compare((&self.before.side, was.0, was.1), (&self.after.side, is.0, is.1));
        compared.context("compare", &self.after.side.path.join(is.0))
    }
}
