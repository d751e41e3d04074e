//! From an upper layer to the steps that bring it into the directory.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use rustix::fs::FileType;

use super::Overlay;
use crate::beneath::{Beneath, Directories};
use crate::compare::Side;
use crate::error::{Context, Error, Result};
use crate::exclude::Exclude;
use crate::manifest::{Entry, Manifest};
use crate::meta::{stat_at, stat_fd};
use crate::plan::{Base, shell};
use crate::remove::remove_tree;
use crate::select::{Paths, Reach, Selection};
use crate::step::{DirectoryState, Place, Step};
use crate::strategy::Placement;
use crate::strategy::tree::{fresh_stage, private_directory};
use crate::walk::{open_directory, scan, split};
use crate::xattr::Inode;

/// A note of overlayfs on an open directory, under either prefix.
fn note(dir: &OwnedFd, name: &str) -> std::io::Result<Option<Vec<u8>>> {
    let xattrs = Inode::Open(dir).read()?;
    let value = |prefix: &str| xattrs.get(format!("{prefix}.overlay.{name}").as_bytes()).cloned();
    Ok(value("trusted").or_else(|| value("user")))
}

/// What becomes of a step when the rest is rolled back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It is undone.
    Change,
    /// It is about what the checkpoint leaves alone, and stays done.
    Excluded,
    /// It sets the times of a directory that the steps made, with which it goes.
    Finish,
}

/// A step and its role.
pub(super) struct Planned {
    pub(super) step: Step,
    pub(super) role: Role,
}

/// The steps that bring what is in the upper layer into the directory.
pub(super) fn plan(
    placement: &Placement,
    exclude: &Exclude,
    select: &Selection,
) -> Result<Vec<Planned>> {
    let mount = Overlay::mount(placement);
    let upper = scan(&mount.upper, &Exclude::none())?;
    // Not the stage, which is emptied when a step list is done: a rollback finds its entries here.
    let stage = placement.vault.join("gone");
    remove_tree(&stage)?;
    private_directory(&stage)?;
    let lower_root = Beneath::new(open_directory(&placement.dir)?);
    let upper_side = Side::open(&mount.upper)?;
    let holding_excluded = holding_excluded(&upper, exclude);
    let mut merge = Merge {
        placement,
        base: Base::of(&placement.dir),
        upper_base: Base::of(&mount.upper),
        upper,
        lower_root,
        upper_side,
        stage,
        exclude,
        holding_excluded,
        holding_renamed: HashSet::new(),
        select,
        dirs: Directories::default(),
        parked: Vec::new(),
        steps: Vec::new(),
        times: Vec::new(),
        number: 0,
    };
    merge.park_renamed_directories()?;
    merge.directory((Path::new(""), select.root()), Manifest::ROOT, Path::new(""), false)?;
    let mut steps = merge.steps;
    steps.extend(merge.times.into_iter().rev());
    Ok(steps)
}

struct Merge<'a> {
    placement: &'a Placement,
    base: Base,
    upper_base: Base,
    upper: Manifest,
    lower_root: Beneath,
    upper_side: Side,
    stage: PathBuf,
    exclude: &'a Exclude,
    /// Directories of the upper layer with something excluded below them.
    holding_excluded: HashSet<Entry>,
    /// Those with a directory below them that was renamed.
    holding_renamed: HashSet<Entry>,
    select: &'a Selection,
    dirs: Directories,
    /// Directories that were renamed: where they are in the directory, and where they wait.
    parked: Vec<(PathBuf, Place)>,
    steps: Vec<Planned>,
    times: Vec<Planned>,
    number: u32,
}

impl Merge<'_> {
    fn next(&mut self) -> Place {
        self.number += 1;
        Place::new(&self.stage, self.number.to_string())
    }

    fn push(&mut self, step: Step, excluded: bool) {
        let role = if excluded { Role::Excluded } else { Role::Change };
        self.steps.push(Planned { step, role });
    }

    /// Every directory that has another name in the overlay leaves its old place first, the inner
    /// ones before the outer: two directories may have changed places.
    fn park_renamed_directories(&mut self) -> Result<()> {
        let (mut sources, mut redirected) = (Vec::new(), HashSet::new());
        let mut pending = vec![(PathBuf::new(), Manifest::ROOT, PathBuf::new())];
        while let Some((path, entry, lower)) = pending.pop() {
            for child in self.upper.children(entry).filter(|&child| self.upper.meta(child).is_dir())
            {
                let path = path.join(self.upper.name(child));
                let fd = self.open_upper(&path)?;
                let redirect = redirect(&fd, &path)?;
                if redirect.is_some() {
                    redirected.insert(child);
                }
                let lower_path = lower_path(redirect, &path, &lower);
                if lower_path != lower.join(self.upper.name(child)) {
                    sources.push(lower_path.clone());
                }
                pending.push((path, child, lower_path));
            }
        }
        if let (Selection::Paths(_), Some(source)) = (self.select, sources.first()) {
            return Err(Error::RenamedDirectory(self.placement.dir.join(source)));
        }
        sources.sort_by_key(|source| std::cmp::Reverse(source.components().count()));
        for source in sources {
            let place = self.next();
            self.push(Step::shift(&self.dirs, self.base.place(&source), place.clone())?, false);
            self.parked.push((source, place));
        }
        if !self.parked.is_empty() {
            self.holding_renamed = self.upper.above(|entry| redirected.contains(&entry));
        }
        Ok(())
    }

    fn open_upper(&self, path: &Path) -> Result<OwnedFd> {
        self.upper_side
            .directory(path)
            .with_context("open the directory", || self.upper_side.path.join(path))
    }

    /// What is at `path` of the directory, and whether a parked directory is what comes there.
    fn lower_is_dir(&self, lower: &Path) -> Result<Option<bool>> {
        let dir = match self.lower_root.open(split(lower).0) {
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
                ) =>
            {
                return Ok(None);
            }
            dir => dir.context("open the directory of", lower)?,
        };
        match stat_at(&*dir, split(lower).1) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            stat => Ok(Some(stat.context("examine", lower)?.meta.is_dir())),
        }
    }

    /// Merges an upper directory into the one whose entries are at `lower` before any step and at
    /// `path` by now. `excluded`: so is the directory, with all that is in it.
    fn directory(
        &mut self,
        (path, reach): (&Path, Reach),
        entry: Entry,
        lower: &Path,
        excluded: bool,
    ) -> Result<()> {
        self.entries((path, reach), entry, Some(lower), excluded)?;
        if reach.is_inside() {
            self.attributes(path, entry, Some(lower), excluded)?;
        }
        Ok(())
    }

    /// `lower`: where the other entries of the directory are before any step; `None`: there are none.
    fn entries(
        &mut self,
        (path, reach): (&Path, Reach),
        entry: Entry,
        lower: Option<&Path>,
        excluded: bool,
    ) -> Result<()> {
        for child in self.upper.children(entry) {
            let reach = self.select.below(reach, self.upper.name(child));
            if !reach.is_outside() {
                let path = path.join(self.upper.name(child));
                self.entry((&path, reach), child, lower, excluded)?;
            }
        }
        Ok(())
    }

    fn entry(
        &mut self,
        (path, reach): (&Path, Reach),
        entry: Entry,
        lower: Option<&Path>,
        excluded: bool,
    ) -> Result<()> {
        let meta = *self.upper.meta(entry);
        let same_name = lower.map_or_else(|| path.to_owned(), |lower| lower.join(split(path).1));
        let parked = self.parked.iter().any(|(source, _)| *source == same_name);
        let present = if parked || lower.is_none() { None } else { self.lower_is_dir(&same_name)? };
        let whiteout = meta.file_type() == FileType::CharacterDevice && meta.rdev == 0;
        let is_dir = if whiteout { present == Some(true) } else { meta.is_dir() };
        let excluded = excluded || self.exclude.matches(path, is_dir);
        if whiteout {
            if present.is_some() && reach.is_inside() {
                self.put_aside(path, &same_name, excluded)?;
            }
            return Ok(());
        }
        if is_dir {
            let fd = self.open_upper(path)?;
            let lower_path = lower_path(redirect(&fd, path)?, path, split(&same_name).0);
            let waiting = self.parked.iter().find(|(source, _)| *source == lower_path);
            let waiting = waiting.map(|(_, place)| place.clone());
            let opaque = note(&fd, "opaque").context("read the attributes of", path)?.as_deref()
                == Some(b"y");
            if let (Some(waiting), false) = (waiting, opaque) {
                if present.is_some() {
                    self.put_aside(path, &same_name, excluded)?;
                }
                let source = self.base.place(&lower_path);
                let step = Step::shift_from(&self.dirs, waiting, &source, self.base.place(path))?;
                self.push(step, false);
                return self.directory((path, reach), entry, &lower_path, excluded);
            }
            if present == Some(true) && !opaque {
                return self.directory((path, reach), entry, &same_name, excluded);
            }
            let holds_excluded = !excluded && self.holding_excluded.contains(&entry);
            if holds_excluded || self.holding_renamed.contains(&entry) {
                return self.one_by_one(
                    (path, reach),
                    entry,
                    &same_name,
                    present,
                    (excluded, holds_excluded),
                );
            }
        }
        if !reach.is_inside() {
            return Err(Error::RenamedDirectory(self.placement.dir.join(path)));
        }
        let new = self.upper_base.place(path);
        let step = match present {
            Some(_) => {
                let origin = self.base.place(&same_name);
                Step::exchange_from(&self.dirs, self.base.place(path), &origin, new)?
            }
            None => Step::shift(&self.dirs, new, self.base.place(path))?,
        };
        self.push(step, excluded);
        Ok(())
    }

    /// What is at `path` by now, and was at `lower`, leaves the directory.
    fn put_aside(&mut self, path: &Path, lower: &Path, excluded: bool) -> Result<()> {
        let gone = self.next();
        let origin = self.base.place(lower);
        let step = Step::shift_from(&self.dirs, self.base.place(path), &origin, gone)?;
        self.push(step, excluded);
        Ok(())
    }

    /// A directory that is new, or was made anew, comes entry by entry when it holds a renamed
    /// directory, whose contents are elsewhere, or something excluded, which a rollback leaves when it
    /// takes out the others.
    fn one_by_one(
        &mut self,
        (path, reach): (&Path, Reach),
        entry: Entry,
        lower: &Path,
        present: Option<bool>,
        (excluded, holds_excluded): (bool, bool),
    ) -> Result<()> {
        if present == Some(true) {
            let old = scan(&self.placement.dir.join(lower), &Exclude::none())?;
            for child in old.children(Manifest::ROOT) {
                let (path, lower) = (path.join(old.name(child)), lower.join(old.name(child)));
                if self.parked.iter().all(|(source, _)| *source != lower) {
                    let excluded =
                        excluded || self.exclude.matches(&path, old.meta(child).is_dir());
                    self.put_aside(&path, &lower, excluded)?;
                }
            }
        } else {
            if present == Some(false) {
                if holds_excluded {
                    return Err(Error::ExcludedConflict(self.placement.dir.join(path)));
                }
                self.put_aside(path, lower, excluded)?;
            }
            let empty = self.next();
            shell(&self.upper_side, path, &self.stage, &empty.path)?;
            // It stays around what is excluded.
            let stays = excluded || holds_excluded;
            self.push(Step::shift(&self.dirs, empty, self.base.place(path))?, stays);
        }
        self.entries((path, reach), entry, None, excluded)?;
        let lower = (present == Some(true)).then_some(lower);
        self.attributes(path, entry, lower, excluded || lower.is_none() && holds_excluded)
    }

    /// The directory gets the attributes that it has in the overlay, also when they are equal:
    /// renaming its entries changes its time. `lower`: where it is before any step.
    fn attributes(
        &mut self,
        path: &Path,
        entry: Entry,
        lower: Option<&Path>,
        excluded: bool,
    ) -> Result<()> {
        let shown = || self.placement.dir.join(path);
        let upper = self.open_upper(path)?;
        let after =
            DirectoryState::of(&upper, self.upper.meta(entry)).with_context("examine", shown)?;
        let before = match lower {
            Some(lower) => {
                let was = self.lower_root.open(lower).with_context("open the directory", shown)?;
                let meta = stat_fd(&was).with_context("examine", shown)?.meta;
                DirectoryState::of(&was, &meta).with_context("examine", shown)?
            }
            None => after.clone(),
        };
        let step = Step::Directory { at: self.base.place(path), before, after };
        let role = match lower {
            _ if excluded => Role::Excluded,
            Some(_) => Role::Change,
            None => Role::Finish,
        };
        self.times.push(Planned { step, role });
        Ok(())
    }
}

fn redirect(dir: &OwnedFd, path: &Path) -> Result<Option<Vec<u8>>> {
    note(dir, "redirect").context("read the attributes of", path)
}

/// Where the directory's lower part is: beside the lower part of its parent under the same name,
/// unless overlayfs notes another name or an absolute path.
fn lower_path(redirect: Option<Vec<u8>>, path: &Path, parent: &Path) -> PathBuf {
    match redirect.map(OsString::from_vec) {
        None => parent.join(split(path).1),
        Some(redirect) => match Path::new(&redirect).strip_prefix("/") {
            Ok(absolute) => absolute.to_owned(),
            Err(_) => parent.join(redirect),
        },
    }
}

fn holding_excluded(upper: &Manifest, exclude: &Exclude) -> HashSet<Entry> {
    if exclude.is_empty() {
        return HashSet::new();
    }
    let mut excluded = HashSet::new();
    upper.each(Manifest::ROOT, Path::new(""), &mut |path, entry| {
        if exclude.matches(path, upper.meta(entry).is_dir()) {
            excluded.insert(entry);
        }
    });
    upper.above(|entry| excluded.contains(&entry))
}

/// Steps that take the selected entries out of the upper layer, so that the directory's show again.
pub(super) fn drop_from_upper(placement: &Placement, paths: &Paths) -> Result<Vec<Step>> {
    let mount = Overlay::mount(placement);
    let upper = scan(&mount.upper, &Exclude::none())?;
    let stage = fresh_stage(placement)?;
    let dirs = Directories::default();
    let mut steps = Vec::new();
    for (number, path) in
        paths.topmost().into_iter().filter(|path| upper.find(path).is_some()).enumerate()
    {
        let place = Base::of(&mount.upper).place(&path);
        steps.push(Step::shift(&dirs, place, Place::new(&stage, number.to_string()))?);
    }
    Ok(steps)
}
