//! Directories below others, opened one component at a time, so that no symbolic link on the way, not even
//! one planted meanwhile, leads outside.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Mode, openat};

use crate::error::Error;
use crate::step::Place;
use crate::walk::{DIRECTORY, open_directory};

/// So many levels above the last one stay open, for those that come next.
const NEAR: usize = 32;
/// One in so many stays open above them, so that the way back up does not begin at the root.
const FAR: usize = 128;

/// The directories below a root. What is asked for one after another lies close together: in a deep tree
/// each is opened about once, and not anew from the root, which would take as many calls as it has levels.
pub(crate) struct Beneath {
    root: Rc<OwnedFd>,
    levels: RefCell<Vec<Level>>,
}

/// A directory on the way to the last one, if it is still open.
struct Level {
    name: OsString,
    dir: Option<Rc<OwnedFd>>,
}

impl Beneath {
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self { root: Rc::new(root), levels: RefCell::default() }
    }

    /// The directory at `path`. Others may have it as well: to read its names takes [`Self::anew`].
    pub(crate) fn open(&self, path: &Path) -> io::Result<Rc<OwnedFd>> {
        let mut levels = self.levels.borrow_mut();
        let names = path.components().map(|component| match component {
            Component::Normal(name) => Ok(name),
            _ => Err(io::ErrorKind::InvalidInput),
        });
        let names = names.collect::<Result<Vec<&OsStr>, _>>()?;
        let shared =
            levels.iter().zip(&names).take_while(|(level, name)| level.name == **name).count();
        levels.truncate(shared);
        let open = levels.iter().rposition(|level| level.dir.is_some());
        let mut dir = match open.and_then(|deepest| levels[deepest].dir.as_ref()) {
            Some(dir) => Rc::clone(dir),
            None => Rc::clone(&self.root),
        };
        let first = open.map_or(0, |deepest| deepest + 1);
        for (depth, &name) in names.iter().enumerate().skip(first) {
            dir = Rc::new(openat(&dir, name, DIRECTORY, Mode::empty())?);
            let next = Some(Rc::clone(&dir));
            match levels.get_mut(depth) {
                Some(level) => level.dir = next,
                None => levels.push(Level { name: name.to_owned(), dir: next }),
            }
            let far = depth.checked_sub(NEAR).filter(|above| !(above + 1).is_multiple_of(FAR));
            if let Some(level) = far.map(|above| &mut levels[above]) {
                level.dir = None;
            }
        }
        Ok(dir)
    }

    /// The same with a position of its own, from which its names are read.
    pub(crate) fn anew(&self, path: &Path) -> io::Result<OwnedFd> {
        Ok(openat(self.open(path)?, ".", DIRECTORY, Mode::empty())?)
    }

    /// Something else may be there by now.
    fn forget(&self, path: &Path) {
        let mut levels = self.levels.borrow_mut();
        let is_on_the_way = |level: &(&Level, &OsStr)| level.0.name == level.1;
        let shared = levels.iter().zip(path.iter()).take_while(is_on_the_way).count();
        let depth = path.iter().count();
        if depth > 0 && shared == depth {
            levels.truncate(depth - 1);
        }
    }
}

/// The directories that places are in, below several bases.
#[derive(Default)]
pub(crate) struct Directories(RefCell<HashMap<PathBuf, Beneath>>);

impl Directories {
    /// `base` is trusted.
    pub(crate) fn open(&self, base: &Path, path: &Path) -> io::Result<Rc<OwnedFd>> {
        let mut bases = self.0.borrow_mut();
        if let Some(known) = bases.get(base) {
            return known.open(path);
        }
        let root = open_directory(base).map_err(|error| match error {
            Error::Io { source, .. } => source,
            other => io::Error::other(other),
        })?;
        bases.entry(base.to_owned()).or_insert(Beneath::new(root)).open(path)
    }

    /// What is at the place was renamed.
    pub(crate) fn forget(&self, place: &Place) {
        let mut bases = self.0.borrow_mut();
        let moved = place.full();
        bases.retain(|base, _| !base.starts_with(&moved));
        if let Some(base) = bases.get(&place.base) {
            base.forget(&place.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::stat_fd;

    fn nested(names: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| std::fs::create_dir_all(root.path().join(name)).unwrap());
        root
    }

    fn inode(dir: &OwnedFd) -> u64 {
        stat_fd(dir).unwrap().meta.ino
    }

    #[test]
    fn what_is_open_is_what_is_there() {
        let root = nested(&["a/b/c", "a/d", "e"]);
        let beneath = Beneath::new(open_directory(root.path()).unwrap());
        for path in ["a/b/c", "a/d", "", "a/b", "e", "a/b/c"] {
            let there =
                std::os::unix::fs::MetadataExt::ino(&root.path().join(path).metadata().unwrap());
            assert_eq!(inode(&beneath.open(path.as_ref()).unwrap()), there, "{path}");
            assert_eq!(inode(&beneath.anew(path.as_ref()).unwrap()), there, "{path}");
        }
        for path in ["..", "/", "a/../e"] {
            let error = beneath.open(path.as_ref()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{path}");
        }
        std::os::unix::fs::symlink("e", root.path().join("link")).unwrap();
        assert!(beneath.open("link".as_ref()).is_err());
        assert!(beneath.open("missing".as_ref()).is_err());
    }

    #[test]
    fn what_was_renamed_is_looked_for_again() {
        let root = nested(&["one/in", "two/in"]);
        let dirs = Directories::default();
        let at = |path: &str| dirs.open(root.path(), path.as_ref()).unwrap();
        let (one, two) = (inode(&at("one/in")), inode(&at("two/in")));
        assert_eq!(inode(&at("one/in")), one);
        let place = |path: &str| Place::new(root.path(), path);
        let rename = |from: &str, to: &str| {
            std::fs::rename(root.path().join(from), root.path().join(to)).unwrap();
            dirs.forget(&place(from));
            dirs.forget(&place(to));
        };
        rename("one", "aside");
        rename("two", "one");
        assert_eq!(inode(&at("one/in")), two);
        assert_eq!(inode(&at("aside/in")), one);
    }

    /// Whatever the depth, few are open, and the way up and down opens each level a few times.
    #[test]
    fn few_are_open_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let mut dir = open_directory(root.path()).unwrap();
        for _ in 0..1000 {
            rustix::fs::mkdirat(&dir, "d", Mode::RWXU).unwrap();
            dir = openat(&dir, "d", DIRECTORY, Mode::empty()).unwrap();
        }
        let beneath = Beneath::new(open_directory(root.path()).unwrap());
        let paths: Vec<PathBuf> =
            (0..=1000).map(|depth| std::iter::repeat_n("d", depth).collect()).collect();
        let mut most = 0;
        for path in paths.iter().chain(paths.iter().rev()) {
            beneath.open(path).unwrap();
            let levels = beneath.levels.borrow();
            most = most.max(levels.iter().filter(|level| level.dir.is_some()).count());
        }
        assert!(most <= NEAR + 1 + 1000 / FAR + 1, "{most}");
    }
}
