//! Turns "make these entries of one tree equal to those of another" into steps.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Mode, linkat, mkdirat};

use crate::attributes::attributes;
use crate::beneath::{Beneath, Directories};
use crate::changes::{Tree, difference, difference_from};
use crate::compare::Side;
use crate::copy::{Contents, Copier, Target, copy_open};
use crate::error::{Context, Error, Result};
use crate::exclude::Exclude;
use crate::excluded;
use crate::manifest::{Entry, Manifest};
use crate::meta::{Stat, stat_at, stat_fd};
use crate::select::{Reach, Selection};
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
    let dirs = &Directories::default();
    if at.identity()?.is_none() {
        return Ok(vec![Step::shift(dirs, kept, at)?]); // It was deleted, with what is excluded.
    }
    let mut steps = vec![Step::exchange(dirs, at, kept)?];
    if exclude.is_empty() || !is_directory(&placement.dir) {
        return Ok(steps);
    }
    let now = scan(&placement.dir, exclude)?;
    let kept = scan(&placement.tree(), &Exclude::none())?;
    excluded::refuse_conflicts(&placement.dir, &now, &kept)?;
    let (now_root, kept_root) =
        (Side::open(&placement.dir)?, Beneath::new(open_directory(&placement.tree())?));
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
                    let fd = kept_root.open(parent).context("open the directory", parent)?;
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
                    shell(&now_root, parent, &stage, &name)?;
                    steps.push(Step::shift(dirs, Place::new(&stage, name), dir.place(parent))?);
                }
            }
            made.insert(parent.to_owned(), made.len());
        }
        // Before the exchange the entry is in the directory, at this step in the old tree.
        let (from, to) = (tree.place(path), dir.place(path));
        steps.push(Step::shift_from(dirs, from, &dir.place(path), to)?);
    }
    // Moving an entry in changed the times of its directory.
    steps.extend(times);
    Ok(steps)
}

/// An empty directory `name` in `stage` with the attributes of `path` in `tree`.
pub(crate) fn shell(tree: &Side, path: &Path, stage: &Path, name: &Path) -> Result<()> {
    let shown = || tree.path.join(path);
    let source = tree.directory(path).with_context("open the directory", shown)?;
    let stage_fd = open_directory(stage)?;
    open_beneath(&stage_fd, split(name).0)
        .and_then(|parent| Ok(mkdirat(parent, split(name).1, Mode::RWXU)?))
        .context("create the directory", &stage.join(name))?;
    let made = open_beneath(&stage_fd, name).context("open the directory", &stage.join(name))?;
    let Stat { meta, fixed, .. } = stat_fd(&source).with_context("examine", shown)?;
    if fixed {
        return Err(Error::Immutable(shown()));
    }
    attributes(&Inode::Open(&source), &Inode::Open(&made), &meta)
        .with_context("copy the attributes of", shown)
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
        dirs: Directories::default(),
        staged: 0,
        steps: Vec::new(),
        times: Vec::new(),
        shared: None,
        peers: None,
    };
    let root = Some(Manifest::ROOT);
    plan.directory(Path::new(""), select.root(), root, root)?;
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
    dirs: Directories,
    staged: usize,
    steps: Vec<Step>,
    times: Vec<Step>,
    /// Directories in `source` with such files below them.
    shared: Option<HashSet<Entry>>,
    /// Paths in `source` by inode, for files with several names.
    peers: Option<HashMap<u64, Vec<PathBuf>>>,
}

impl Plan<'_> {
    fn directory(
        &mut self,
        path: &Path,
        reach: Reach,
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
            let reach = self.select.below(reach, name);
            if !reach.is_outside() {
                let source = source.and_then(|dir| from.child(dir, name));
                let target = target.and_then(|dir| to.child(dir, name));
                self.entry(&path.join(name), reach, source, target)?;
            }
        }
        if let (Some(source), Some(target), true) = (source, target, reach.is_inside()) {
            self.directory_itself(path, source, target, self.steps.len() > steps_before)?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        path: &Path,
        reach: Reach,
        source: Option<Entry>,
        target: Option<Entry>,
    ) -> Result<()> {
        let is_dir = |tree: &Tree, entry: Option<Entry>| {
            entry.is_some_and(|entry| tree.manifest.meta(entry).is_dir())
        };
        let (from_dir, to_dir) = (is_dir(self.source, source), is_dir(self.target, target));
        let whole = reach.is_inside();
        match (source, target) {
            (Some(_), Some(_)) if from_dir && to_dir => self.directory(path, reach, source, target),
            (Some(from), Some(to)) if whole => {
                if to_dir {
                    self.without_excluded(path)?;
                }
                if difference(self.source, (from, path), self.target, (to, path))?.is_none() {
                    return Ok(());
                }
                if self.shares_files(from) {
                    let trash = Place::new(self.stage, self.next_name());
                    self.steps.push(Step::shift(&self.dirs, self.base.place(path), trash)?);
                    return self.directory_anew(path, from);
                }
                let staged = self.stage_entry(path, from)?;
                self.steps.push(Step::exchange(&self.dirs, self.base.place(path), staged)?);
                Ok(())
            }
            (Some(from), None) if whole && self.shares_files(from) => {
                self.directory_anew(path, from)
            }
            (Some(from), None) if whole => {
                let staged = self.stage_entry(path, from)?;
                self.steps.push(Step::shift(&self.dirs, staged, self.base.place(path))?);
                Ok(())
            }
            (Some(_), None) if from_dir => {
                let name = self.next_name();
                shell(&self.source.side, path, self.stage, &name)?;
                let made = Place::new(self.stage, name);
                self.steps.push(Step::shift(&self.dirs, made, self.base.place(path))?);
                self.directory(path, reach, source, None)
            }
            (None, Some(_)) if whole && !(to_dir && self.excluded_below(path).is_some()) => {
                let trash = Place::new(self.stage, self.next_name());
                self.steps.push(Step::shift(&self.dirs, self.base.place(path), trash)?);
                Ok(())
            }
            (None, Some(_)) if to_dir => self.directory(path, reach, None, target),
            // What is selected is below it, where there is nothing on one side, nor can be.
            (Some(_), Some(_)) if from_dir != to_dir => {
                Err(Error::RenamedDirectory(self.base.place(path).full()))
            }
            _ => Ok(()),
        }
    }

    /// Whether files below a directory have other names, which may be anywhere.
    fn shares_files(&mut self, entry: Entry) -> bool {
        let source = self.source;
        let shared = self.shared.get_or_insert_with(|| {
            source.manifest.above(|entry| {
                let meta = source.manifest.meta(entry);
                meta.nlink > 1 && !meta.is_dir()
            })
        });
        shared.contains(&entry)
    }

    /// A directory that comes back entry by entry, so that files in it can be those of other names.
    fn directory_anew(&mut self, path: &Path, source: Entry) -> Result<()> {
        let name = self.next_name();
        shell(&self.source.side, path, self.stage, &name)?;
        let made = Place::new(self.stage, name);
        let state = made.directory_state(&self.dirs)?;
        self.steps.push(Step::shift(&self.dirs, made, self.base.place(path))?);
        let at = self.base.place(path);
        self.times.push(Step::Directory { at, before: state.clone(), after: state });
        self.directory(path, Reach::Inside, Some(source), None)
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
            let open = tree.side.directory(path).and_then(|dir| DirectoryState::of(&dir, meta));
            open.with_context("examine", || tree.side.path.join(path))
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
        let kept = stat_at(&*parent, split(path).1).context("examine", path)?;
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
            let Ok(is) = stat_at(&*dir, split(peer).1) else { continue };
            let is_same =
                difference_from(self.source, (was, peer), &self.target.side, (&is.meta, peer))?
                    .is_none();
            if is_same {
                linkat(&*dir, split(peer).1, &self.stage_fd.fd, name, AtFlags::empty())
                    .context("link", &self.stage.join(name))?;
                self.copier.known_link(ino, name.to_owned());
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Excluded entries are sorted, so that those below a directory follow its own path.
    fn excluded_below(&self, path: &Path) -> Option<&Path> {
        let excluded = &self.target.manifest.excluded;
        let first = excluded.partition_point(|excluded| **excluded < *path);
        excluded.get(first).map(PathBuf::as_path).filter(|excluded| excluded.starts_with(path))
    }

    fn without_excluded(&self, path: &Path) -> Result<()> {
        match self.excluded_below(path) {
            Some(excluded) => Err(Error::ExcludedConflict(self.target.side.path.join(excluded))),
            None => Ok(()),
        }
    }
}
