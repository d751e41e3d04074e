//! A parallel walk over a directory tree by open directories, so that no path is resolved twice and
//! no symbolic link is ever followed.

use std::ffi::{OsStr, OsString};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use rustix::fs::{Mode, OFlags, RawDir, openat};

use crate::error::{Context, Error, Result};
use crate::exclude::Exclude;
use crate::manifest::{Manifest, ManifestBuilder};
use crate::meta::{Meta, Stat, stat_at, stat_fd};
use crate::select::{Reach, Selection};

/// Work done along the way. Every method may run on any of the walk's threads.
pub(crate) trait Visitor: Sync {
    /// What the visitor keeps for a directory while its entries are visited.
    type Dir: Send + Sync;

    /// The directory `fd` is entered; `parent` is `None` for the root.
    fn enter(
        &self,
        fd: &OwnedFd,
        parent: Option<&Dir<Self::Dir>>,
        name: &OsStr,
        path: &Path,
    ) -> Result<Self::Dir>;

    /// Anything but a directory. The visitor may replace `meta` by a more accurate one.
    fn entry(&self, dir: &Dir<Self::Dir>, name: &OsStr, meta: &mut Meta) -> Result<()>;

    /// All entries of the directory exist by now; those of the directories in it may not yet.
    fn leave(&self, dir: &Dir<Self::Dir>) -> Result<()>;
}

/// An open directory of the tree.
pub(crate) struct Dir<D> {
    /// The directory in the tree that is walked.
    pub(crate) fd: OwnedFd,
    /// Its path below the root; empty for the root.
    pub(crate) path: PathBuf,
    pub(crate) meta: Meta,
    pub(crate) data: D,
    reach: Reach,
    id: usize,
}

/// Visits nothing: the walk alone makes the manifest.
pub(crate) struct Look;

impl Visitor for Look {
    type Dir = ();

    fn enter(&self, _: &OwnedFd, _: Option<&Dir<()>>, _: &OsStr, _: &Path) -> Result<()> {
        Ok(())
    }

    fn entry(&self, _: &Dir<()>, _: &OsStr, _: &mut Meta) -> Result<()> {
        Ok(())
    }

    fn leave(&self, _: &Dir<()>) -> Result<()> {
        Ok(())
    }
}

/// Walks the tree below `root` and lists it.
pub(crate) fn scan(root: &Path, exclude: &Exclude) -> Result<Manifest> {
    walk(root, exclude, &Selection::All, &Look)
}

/// The same for the selected entries and the directories on the way to them, below an open directory.
pub(crate) fn scan_selected(
    (fd, root): (OwnedFd, &Path),
    exclude: &Exclude,
    select: &Selection,
) -> Result<Manifest> {
    walk_open(fd, root, exclude, select, &Look)
}

/// Opens a directory by its path, without following a symbolic link at its end.
pub(crate) fn open_directory(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, DIRECTORY, Mode::empty()).context("open the directory", path)
}

pub(crate) const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Files of one directory handed to a thread together: a large directory is shared among threads that would
/// have nothing to do otherwise.
const BATCH: usize = 64;

/// Directories with a longer path below the root are refused. It is twice what a path in a system call
/// can have, and bounds the memory that the paths of a tree take: their sum grows with the square of
/// its depth, and how deep it is, is up to the agent.
const LONGEST: usize = 2 * libc::PATH_MAX as usize;

/// Walks the tree below `root`, calls `visitor` for everything that is selected and not excluded, and
/// returns the list of it. Refuses trees that reach into another file system.
pub(crate) fn walk<V: Visitor>(
    root: &Path,
    exclude: &Exclude,
    select: &Selection,
    visitor: &V,
) -> Result<Manifest> {
    walk_open(open_directory(root)?, root, exclude, select, visitor)
}

/// The same for an open directory; `root` is for messages.
pub(crate) fn walk_open<V: Visitor>(
    fd: OwnedFd,
    root: &Path,
    exclude: &Exclude,
    select: &Selection,
    visitor: &V,
) -> Result<Manifest> {
    let stat = stat_fd(&fd).context("examine", root)?;
    let builder = ManifestBuilder::new();
    let walk = Walk {
        root,
        device: (stat.dev, stat.mount),
        exclude,
        select,
        visitor,
        builder: Mutex::new(builder),
        next_id: AtomicUsize::new(1),
        queue: Mutex::new(Queue {
            directories: Vec::new(),
            batches: Vec::new(),
            unfinished: 0,
            failure: None,
        }),
        wake: Condvar::new(),
        failed: AtomicBool::new(false),
    };
    let data = visitor.enter(&fd, None, OsStr::new(""), Path::new(""))?;
    let (path, reach) = (PathBuf::new(), select.root());
    let dir = Dir { fd, path, meta: stat.meta, data, reach, id: 0 };
    walk.push(vec![Task::List(Arc::new(dir))], Vec::new());
    std::thread::scope(|scope| {
        for _ in 1..threads() {
            scope.spawn(|| walk.work());
        }
        walk.work();
    });
    if let Some(failure) = lock(&walk.queue).failure.take() {
        return Err(failure);
    }
    let builder = walk.builder.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(builder.finish(stat.meta))
}

/// How many threads are worth it. Asked once: the answer takes a look at the control groups.
pub(crate) fn threads() -> usize {
    static THREADS: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    *THREADS.get_or_init(|| std::thread::available_parallelism().map_or(2, usize::from).clamp(2, 8))
}

enum Task<D> {
    /// Read the directory.
    List(Arc<Dir<D>>),
    /// Open the sub-directory of that name and read it.
    Descend { parent: Arc<Dir<D>>, name: OsString, meta: Meta, reach: Reach, id: usize },
    /// Visit these entries.
    Entries(Batch<D>),
}

/// Entries of a directory that are visited by one thread.
struct Batch<D> {
    dir: Arc<Dir<D>>,
    entries: Vec<(OsString, Meta)>,
}

impl<D> Task<D> {
    /// The directory that it is about.
    fn id(&self) -> usize {
        match self {
            Self::List(dir) => dir.id,
            Self::Descend { id, .. } => *id,
            Self::Entries(batch) => batch.dir.id,
        }
    }
}

struct Queue<D> {
    /// Taken from the end: depth first keeps the number of open directories small.
    directories: Vec<Task<D>>,
    batches: Vec<Batch<D>>,
    unfinished: usize,
    failure: Option<Error>,
}

impl<D> Queue<D> {
    /// For a thread that was in that directory. Two that make files in one wait for each other there: each
    /// stays in its own, and helps in another's only when there is no further one.
    fn next(&mut self, own: Option<usize>) -> Option<Task<D>> {
        let found = self.batches.iter().rposition(|batch| Some(batch.dir.id) == own);
        let batch = found.map(|index| self.batches.remove(index));
        batch
            .map(Task::Entries)
            .or_else(|| self.directories.pop())
            .or_else(|| self.batches.pop().map(Task::Entries))
    }
}

struct Walk<'a, V: Visitor> {
    root: &'a Path,
    device: ((u32, u32), u64),
    exclude: &'a Exclude,
    select: &'a Selection,
    visitor: &'a V,
    builder: Mutex<ManifestBuilder>,
    next_id: AtomicUsize,
    queue: Mutex<Queue<V::Dir>>,
    wake: Condvar,
    failed: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<V: Visitor> Walk<'_, V> {
    fn push(&self, directories: Vec<Task<V::Dir>>, batches: Vec<Batch<V::Dir>>) {
        let mut queue = lock(&self.queue);
        queue.unfinished += directories.len() + batches.len();
        queue.directories.extend(directories);
        queue.batches.extend(batches);
        self.wake.notify_all();
    }

    fn work(&self) {
        let mut own = None;
        while let Some(task) = self.next(own) {
            own = Some(task.id());
            let outcome = if self.failed.load(Ordering::Relaxed) { Ok(()) } else { self.run(task) };
            let mut queue = lock(&self.queue);
            if let Err(error) = outcome {
                self.failed.store(true, Ordering::Relaxed);
                queue.failure.get_or_insert(error);
            }
            queue.unfinished -= 1;
            if queue.unfinished == 0 {
                self.wake.notify_all();
            }
        }
    }

    fn next(&self, own: Option<usize>) -> Option<Task<V::Dir>> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(task) = queue.next(own) {
                return Some(task);
            }
            if queue.unfinished == 0 {
                return None;
            }
            queue = self.wake.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn run(&self, task: Task<V::Dir>) -> Result<()> {
        match task {
            Task::List(dir) => self.list(dir),
            Task::Descend { parent, name, meta, reach, id } => {
                let path = parent.path.join(&name);
                let full = || self.root.join(&path);
                if path.as_os_str().len() > LONGEST {
                    let start = path.iter().take(8).collect::<PathBuf>();
                    return Err(Error::TooDeep { path: self.root.join(start), limit: LONGEST });
                }
                let fd = openat(&parent.fd, &name, DIRECTORY, Mode::empty())
                    .with_context("open the directory", full)?;
                let opened = stat_fd(&fd).with_context("examine", full)?;
                if opened.meta.ino != meta.ino {
                    return Err(Error::Changing(full()));
                }
                let data = self.visitor.enter(&fd, Some(&parent), &name, &path)?;
                self.release(parent)?;
                self.list(Arc::new(Dir { fd, path, meta: opened.meta, data, reach, id }))
            }
            Task::Entries(Batch { dir, entries }) => {
                let mut visited = Vec::with_capacity(entries.len());
                for (name, mut meta) in entries {
                    self.visitor.entry(&dir, &name, &mut meta)?;
                    visited.push((name, meta));
                }
                lock(&self.builder).entries(dir.id, visited);
                self.release(dir)
            }
        }
    }

    /// Reads a directory: its files become batches, its directories tasks of their own.
    fn list(&self, dir: Arc<Dir<V::Dir>>) -> Result<()> {
        let mut tasks = Vec::new();
        let mut files = Vec::new();
        let mut excluded = Vec::new();
        let mut directories = Vec::new();
        for name in names(&dir.fd, || self.root.join(&dir.path))? {
            let reach = self.select.below(dir.reach, &name);
            if reach.is_outside() {
                continue;
            }
            let stat = match stat_at(&dir.fd, &name) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                stat => stat.with_context("examine", || self.root.join(&dir.path).join(&name))?,
            };
            if !self.exclude.is_empty() {
                let path = dir.path.join(&name);
                if self.exclude.matches(&path, stat.meta.is_dir()) {
                    self.same_file_system(&stat, &path)?;
                    excluded.push(path);
                    continue;
                }
            }
            if stat.meta.is_dir() {
                self.same_file_system(&stat, &dir.path.join(&name))?;
                let id = self.next_id.fetch_add(1, Ordering::Relaxed);
                directories.push((name.clone(), stat.meta, id));
                let (parent, meta) = (Arc::clone(&dir), stat.meta);
                tasks.push(Task::Descend { parent, name, meta, reach, id });
            } else {
                if stat.mount_root {
                    self.same_file_system(&stat, &dir.path.join(&name))?;
                }
                files.push((name, stat.meta));
            }
        }
        {
            let mut builder = lock(&self.builder);
            builder.directories(dir.id, directories);
            builder.excluded(excluded);
        }
        let mut batches = Vec::new();
        while files.len() > BATCH {
            let entries = files.split_off(files.len() - BATCH);
            batches.push(Batch { dir: Arc::clone(&dir), entries });
        }
        if !tasks.is_empty() || !batches.is_empty() {
            self.push(tasks, batches);
        }
        self.run(Task::Entries(Batch { dir, entries: files }))
    }

    fn same_file_system(&self, stat: &Stat, path: &Path) -> Result<()> {
        if (stat.dev, stat.mount) == self.device && !stat.mount_root {
            return Ok(());
        }
        Err(Error::SpansFilesystems(self.root.join(path)))
    }

    /// Whoever drops the last reference leaves the directory: by then everything in it was visited.
    fn release(&self, dir: Arc<Dir<V::Dir>>) -> Result<()> {
        match Arc::into_inner(dir) {
            Some(dir) => self.visitor.leave(&dir),
            None => Ok(()),
        }
    }
}

/// The names in a directory, without `.` and `..`.
pub(crate) fn names(dir: &OwnedFd, path: impl Fn() -> PathBuf) -> Result<Vec<OsString>> {
    Ok(numbered_names(dir, path)?.into_iter().map(|(name, _)| name).collect())
}

/// The same with their inode numbers.
pub(crate) fn numbered_names(
    dir: &OwnedFd,
    path: impl Fn() -> PathBuf,
) -> Result<Vec<(OsString, u64)>> {
    let mut buffer = [MaybeUninit::uninit(); 32 * 1024];
    let mut entries = RawDir::new(dir, &mut buffer);
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry.with_context("read the directory", &path)?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push((OsString::from_vec(name.to_vec()), entry.ino()));
        }
    }
    Ok(names)
}

/// Opens the directory at `path` below `root` one component at a time, so that no symbolic link on
/// the way, not even one planted meanwhile, leads outside. Many of them are opened by `Beneath`.
pub(crate) fn open_beneath(root: &OwnedFd, path: &Path) -> std::io::Result<OwnedFd> {
    // A fresh open, since a duplicate would share the position at which the directory is read.
    let mut dir = openat(root, ".", DIRECTORY, Mode::empty())?;
    for component in path.components() {
        let std::path::Component::Normal(name) = component else {
            return Err(std::io::ErrorKind::InvalidInput.into());
        };
        dir = openat(&dir, name, DIRECTORY, Mode::empty())?;
    }
    Ok(dir)
}

/// Splits a path into its directory and last name.
pub(crate) fn split(path: &Path) -> (&Path, &OsStr) {
    let name = path.file_name().unwrap_or_else(|| OsStr::from_bytes(b""));
    (path.parent().unwrap_or_else(|| Path::new("")), name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_stays_in_its_directory_and_helps_last() {
        let dir = |id| {
            let (fd, path) = (open_directory(Path::new("/")).unwrap(), PathBuf::new());
            let (meta, reach) = (Meta::default(), Selection::All.root());
            Arc::new(Dir { fd, path, meta, data: (), reach, id })
        };
        let batch = |id| Batch { dir: dir(id), entries: Vec::new() };
        let mut queue = Queue {
            directories: vec![Task::List(dir(3)), Task::List(dir(4))],
            batches: vec![batch(1), batch(1), batch(2)],
            unfinished: 5,
            failure: None,
        };
        let order: Vec<usize> =
            std::iter::from_fn(|| queue.next(Some(1))).map(|task| task.id()).collect();
        assert_eq!(order, [1, 1, 4, 3, 2]);
    }
}
