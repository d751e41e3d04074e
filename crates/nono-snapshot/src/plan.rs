//! Turns "make these entries of one tree equal to those of another" into steps.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, linkat, mkdirat};

use crate::attributes::attributes;
use crate::changes::{Tree, difference, difference_from};
use crate::copy::{Contents, Copier, Target, copy_open};
use crate::error::{Context, Error, Result};
use crate::exclude::Exclude;
use crate::excluded;
use crate::manifest::{Entry, Manifest};
use crate::meta::{Stat, stat_at, stat_fd};
use crate::select::Selection;
use crate::step::{DirectoryState, Place, Step};
use crate::strategy::Placement;
use crate::strategy::tree::fresh_stage;
use crate::walk::{open_beneath, open_directory, scan, split};
use crate::xattr::Inode;

/// A tree's root as steps name it: by its parent, since the root itself may be exchanged.
#[derive(Debug, Clone)]
pub(crate) struct Base {
    parent: PathBuf,
    name: PathBuf,
}

impl Base {
    pub(crate) fn of(dir: &Path) -> Self {
        let (parent, name) = split(dir);
        Self { parent: parent.to_owned(), name: PathBuf::from(name) }
    }

    pub(crate) fn place(&self, path: &Path) -> Place {
        let inside =
            if path.as_os_str().is_empty() { self.name.clone() } else { self.name.join(path) };
        Place::new(&self.parent, inside)
    }

    /// The path in the tree of a place that is in it.
    pub(crate) fn path_of(&self, place: &Place) -> Option<PathBuf> {
        let inside =
            if place.base == self.parent { place.path.strip_prefix(&self.name).ok() } else { None };
        inside.map(Path::to_owned)
    }
}

/// Whether a directory is there, and not a link to one.
pub(crate) fn is_directory(dir: &Path) -> bool {
    dir.symlink_metadata().is_ok_and(|found| found.is_dir())
}

/// Whether something is mounted at the directory itself.
pub(crate) fn is_mount_point(dir: &Path) -> Result<bool> {
    let fd = open_directory(dir)?;
    let stat = stat_fd(&fd).context("examine", dir)?;
    let parent = stat_fd(open_directory(split(dir).0)?).context("examine", split(dir).0)?;
    Ok(stat.mount_root || stat.mount != parent.mount)
}

/// The whole directory changes places with the pre-image; what is excluded then moves over from the
/// old tree into the new one.
pub(crate) fn whole(placement: &Placement, exclude: &Exclude) -> Result<Vec<Step>> {
    let (dir, tree) = (Base::of(&placement.dir), Base::of(&placement.tree()));
    let (at, kept) = (dir.place(Path::new("")), tree.place(Path::new("")));
    if at.identity()?.is_none() {
        return Ok(vec![Step::shift(kept, at)?]); // It was deleted, with what is excluded.
    }
    let mut steps = vec![Step::exchange(at, kept)?];
    if exclude.is_empty() || !is_directory(&placement.dir) {
        return Ok(steps);
    }
    let now = scan(&placement.dir, exclude)?;
    let kept = scan(&placement.tree(), &Exclude::none())?;
    excluded::refuse_conflicts(&placement.dir, &now, &kept)?;
    let kept_root = open_directory(&placement.tree())?;
    let stage = fresh_stage(placement)?;
    let mut made = HashMap::<PathBuf, usize>::new();
    let mut times = Vec::new();
    for path in &now.excluded {
        for parent in path.ancestors().skip(1).collect::<Vec<_>>().into_iter().rev() {
            if made.contains_key(parent) {
                continue;
            }
            match kept.find(parent) {
                Some(entry) => {
                    let fd =
                        open_beneath(&kept_root, parent).context("open the directory", parent)?;
                    let state =
                        DirectoryState::of(&fd, kept.meta(entry)).context("examine", parent)?;
                    state.refuse_fixed(|| dir.place(parent).full())?;
                    times.push(Step::Directory {
                        at: dir.place(parent),
                        before: state.clone(),
                        after: state,
                    });
                }
                None => {
                    let name = PathBuf::from(made.len().to_string());
                    shell(&placement.dir, parent, &stage, &name)?;
                    steps.push(Step::shift(Place::new(&stage, name), dir.place(parent))?);
                }
            }
            made.insert(parent.to_owned(), made.len());
        }
        // Before the exchange the entry is in the directory, at this step in the old tree.
        let Step::Move { what, .. } = Step::shift(dir.place(path), dir.place(path))? else {
            unreachable!("shift plans a move");
        };
        steps.push(Step::Move { from: tree.place(path), to: dir.place(path), what });
    }
    // Moving an entry in changed the times of its directory.
    steps.extend(times);
    Ok(steps)
}

/// An empty directory `name` in `stage` with the attributes of `path` in `root`.
pub(crate) fn shell(root: &Path, path: &Path, stage: &Path, name: &Path) -> Result<()> {
    let source = open_beneath(&open_directory(root)?, path)
        .context("open the directory", &root.join(path))?;
    let stage_fd = open_directory(stage)?;
    open_beneath(&stage_fd, split(name).0)
        .and_then(|parent| Ok(mkdirat(parent, split(name).1, Mode::RWXU)?))
        .context("create the directory", &stage.join(name))?;
    let made = open_beneath(&stage_fd, name).context("open the directory", &stage.join(name))?;
    let Stat { meta, fixed, .. } = stat_fd(&source).context("examine", &root.join(path))?;
    if fixed {
        return Err(Error::Immutable(root.join(path)));
    }
    attributes(&Inode::Open(&source), &Inode::Open(&made), &meta)
        .context("copy the attributes of", &root.join(path))
}

/// Steps after which the selected entries of `target` equal those of `source`. Copies of what
/// `target` lacks are made in `stage` now; the steps are only renames.
pub(crate) fn selected(
    source: &Tree,
    target: &Tree,
    base: Base,
    stage: &Path,
    contents: Contents,
    select: &Selection,
) -> Result<Vec<Step>> {
    let copier = Copier::new(&source.side.path, stage, contents)?;
    let stage_fd = Target::new(open_directory(stage)?);
    let mut plan = Plan {
        source,
        target,
        base,
        stage,
        stage_fd,
        copier,
        contents,
        select,
        staged: 0,
        steps: Vec::new(),
        times: Vec::new(),
        peers: None,
    };
    plan.directory(Path::new(""), Some(Manifest::ROOT), Some(Manifest::ROOT))?;
    let mut steps = plan.steps;
    // Deepest first: setting a directory's times doesn't change those of its parent, moves do.
    steps.extend(plan.times.into_iter().rev());
    Ok(steps)
}

struct Plan<'a> {
    source: &'a Tree,
    target: &'a Tree,
    base: Base,
    stage: &'a Path,
    stage_fd: Target,
    copier: Copier,
    contents: Contents,
    select: &'a Selection,
    staged: usize,
    steps: Vec<Step>,
    times: Vec<Step>,
    /// Paths in `source` by inode, for files with several names.
    peers: Option<HashMap<u64, Vec<PathBuf>>>,
}

impl Plan<'_> {
    fn directory(
        &mut self,
        path: &Path,
        source: Option<Entry>,
        target: Option<Entry>,
    ) -> Result<()> {
        let steps_before = self.steps.len();
        let mut names: Vec<&OsStr> = Vec::new();
        let (from, to) = (&self.source.manifest, &self.target.manifest);
        names.extend(
            source.iter().flat_map(|&dir| from.children(dir)).map(|entry| from.name(entry)),
        );
        names.extend(target.iter().flat_map(|&dir| to.children(dir)).map(|entry| to.name(entry)));
        names.sort_unstable();
        names.dedup();
        for name in names {
            let path = path.join(name);
            if self.select.reaches(&path) {
                let source = source.and_then(|dir| from.child(dir, name));
                let target = target.and_then(|dir| to.child(dir, name));
                self.entry(&path, source, target)?;
            }
        }
        if let (Some(source), Some(target), true) = (source, target, self.select.contains(path)) {
            self.directory_itself(path, source, target, self.steps.len() > steps_before)?;
        }
        Ok(())
    }

    fn entry(&mut self, path: &Path, source: Option<Entry>, target: Option<Entry>) -> Result<()> {
        let is_dir = |tree: &Tree, entry: Option<Entry>| {
            entry.is_some_and(|entry| tree.manifest.meta(entry).is_dir())
        };
        let (from_dir, to_dir) = (is_dir(self.source, source), is_dir(self.target, target));
        let whole = self.select.contains(path);
        match (source, target) {
            (Some(_), Some(_)) if from_dir && to_dir => self.directory(path, source, target),
            (Some(from), Some(to)) if whole => {
                if to_dir {
                    self.without_excluded(path)?;
                }
                if difference(self.source, (from, path), self.target, (to, path))?.is_none() {
                    return Ok(());
                }
                if self.shares_files(from) {
                    let trash = Place::new(self.stage, self.next_name());
                    self.steps.push(Step::shift(self.base.place(path), trash)?);
                    return self.directory_anew(path, from);
                }
                let staged = self.stage_entry(path, from)?;
                self.steps.push(Step::exchange(self.base.place(path), staged)?);
                Ok(())
            }
            (Some(from), None) if whole && self.shares_files(from) => {
                self.directory_anew(path, from)
            }
            (Some(from), None) if whole => {
                let staged = self.stage_entry(path, from)?;
                self.steps.push(Step::shift(staged, self.base.place(path))?);
                Ok(())
            }
            (Some(_), None) if from_dir => {
                let name = self.next_name();
                shell(&self.source.side.path, path, self.stage, &name)?;
                self.steps.push(Step::shift(Place::new(self.stage, name), self.base.place(path))?);
                self.directory(path, source, None)
            }
            (None, Some(_)) if whole && !(to_dir && self.holds_excluded(path)) => {
                let trash = Place::new(self.stage, self.next_name());
                self.steps.push(Step::shift(self.base.place(path), trash)?);
                Ok(())
            }
            (None, Some(_)) if to_dir => self.directory(path, None, target),
            _ => Ok(()),
        }
    }

    /// Whether files below a directory have other names, which may be anywhere.
    fn shares_files(&self, entry: Entry) -> bool {
        let source = &self.source.manifest;
        let is_shared = |child| {
            let meta = source.meta(child);
            if meta.is_dir() { self.shares_files(child) } else { meta.nlink > 1 }
        };
        source.meta(entry).is_dir() && source.children(entry).any(is_shared)
    }

    /// A directory that comes back entry by entry, so that files in it can be those of other names.
    fn directory_anew(&mut self, path: &Path, source: Entry) -> Result<()> {
        let name = self.next_name();
        shell(&self.source.side.path, path, self.stage, &name)?;
        let made = Place::new(self.stage, name);
        let state = made.directory_state()?;
        self.steps.push(Step::shift(made, self.base.place(path))?);
        let at = self.base.place(path);
        self.times.push(Step::Directory { at, before: state.clone(), after: state });
        self.directory(path, Some(source), None)
    }

    /// The directory's own attributes, and its modification time when entries move in or out.
    fn directory_itself(
        &mut self,
        path: &Path,
        source: Entry,
        target: Entry,
        moved: bool,
    ) -> Result<()> {
        let (was, is) = (self.source.manifest.meta(source), self.target.manifest.meta(target));
        if !moved && was.same_condition(is) {
            return Ok(());
        }
        let state = |tree: &Tree, meta| {
            let root = open_directory(&tree.side.path)?;
            let open = open_beneath(&root, path).and_then(|dir| DirectoryState::of(&dir, meta));
            open.context("examine", &tree.side.path.join(path))
        };
        let (after, before) = (state(self.source, was)?, state(self.target, is)?);
        if before != after || moved {
            self.times.push(Step::Directory { at: self.base.place(path), before, after });
        }
        Ok(())
    }

    fn next_name(&mut self) -> PathBuf {
        self.staged += 1;
        PathBuf::from(self.staged.to_string())
    }

    /// Makes a copy of the source's entry in the stage.
    fn stage_entry(&mut self, path: &Path, entry: Entry) -> Result<Place> {
        let name = self.next_name();
        let mut meta = *self.source.manifest.meta(entry);
        let staged = self.stage.join(&name);
        let parent = self.source.side.parent_of(path).context("open the directory of", path)?;
        let kept = stat_at(&parent, split(path).1).context("examine", path)?;
        if kept.fixed {
            return Err(Error::Immutable(self.base.place(path).full()));
        }
        if meta.is_dir() {
            let made = mkdirat(&self.stage_fd.fd, &name, Mode::RWXU)
                .map_err(io::Error::from)
                .and_then(|()| open_beneath(&self.stage_fd.fd, &name))
                .context("create the directory", &staged)?;
            let shown = self.source.side.path.join(path);
            let directory =
                self.source.side.directory(path).context("open the directory", &shown)?;
            copy_open((directory, &shown), (made, &staged), self.contents)?;
        } else if !self.link_to_peer(path, meta.ino, meta.nlink, &name)? {
            // The list has the inode numbers of the originals; what is copied may be a copy of one.
            let original = meta.ino;
            meta = kept.meta;
            if meta.nlink > 1 {
                self.copier.known_link(original, name.clone());
                meta.nlink = 1;
            }
            self.copier.entry_to(&parent, split(path).1, &self.stage_fd, &name, &mut meta)?;
        }
        Ok(Place::new(self.stage, name))
    }

    /// A file with several names gets its inode back from another of its names, when that one is
    /// still what it was, or from one that is restored with it.
    fn link_to_peer(&mut self, path: &Path, ino: u64, nlink: u32, name: &Path) -> Result<bool> {
        if nlink < 2 {
            return Ok(false);
        }
        if let Some(first) = self.copier.first_link(ino) {
            linkat(&self.stage_fd.fd, &first, &self.stage_fd.fd, name, AtFlags::empty())
                .context("link", &self.stage.join(name))?;
            return Ok(true);
        }
        let source = &self.source.manifest;
        let peers = self.peers.get_or_insert_with(|| {
            let mut peers = HashMap::<u64, Vec<PathBuf>>::new();
            source.each(Manifest::ROOT, Path::new(""), &mut |path, entry| {
                let meta = source.meta(entry);
                if meta.nlink > 1 && !meta.is_dir() {
                    peers.entry(meta.ino).or_default().push(path.to_owned());
                }
            });
            peers
        });
        for peer in peers.get(&ino).into_iter().flatten().filter(|peer| *peer != path) {
            // The peer need not be selected, so it is not on the target's list.
            let (Some(was), Ok(dir)) = (source.find(peer), self.target.side.parent_of(peer)) else {
                continue;
            };
            let Ok(is) = stat_at(&dir, split(peer).1) else { continue };
            let is_same =
                difference_from(self.source, (was, peer), &self.target.side, (&is.meta, peer))?
                    .is_none();
            if is_same {
                linkat(&dir, split(peer).1, &self.stage_fd.fd, name, AtFlags::empty())
                    .context("link", &self.stage.join(name))?;
                self.copier.known_link(ino, name.to_owned());
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn holds_excluded(&self, path: &Path) -> bool {
        self.target.manifest.excluded.iter().any(|excluded| excluded.starts_with(path))
    }

    fn without_excluded(&self, path: &Path) -> Result<()> {
        match self.target.manifest.excluded.iter().find(|excluded| excluded.starts_with(path)) {
            Some(excluded) => Err(Error::ExcludedConflict(self.target.side.path.join(excluded))),
            None => Ok(()),
        }
    }
}
