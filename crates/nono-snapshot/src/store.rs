use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, FlockOperation, Mode, OFlags};
use rustix::io::Errno;

use crate::checkpoint::Checkpoint;
use crate::error::{Context, Error, Result};
use crate::meta::stat_fd;
use crate::record::{Record, State};
use crate::remove::remove_tree;
use crate::strategy::tree::{is_private, private_directory};
use crate::strategy::{self, Placement};
use crate::walk::{open_directory, split};

/// The directory with the records of a user's checkpoints.
///
/// Pre-images are kept here too when the store is on the same mount as the directory, and otherwise
/// in `.nono-rollback` beside the directory: only there can they be exchanged by a rename.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
}

/// One line of a listing.
#[derive(Debug, Clone)]
pub struct Summary {
    /// The checkpoint's id.
    pub id: String,
    /// Milliseconds since the epoch.
    pub created: u64,
    /// Its directories.
    pub dirs: Vec<PathBuf>,
    /// The strategy's name.
    pub strategy: String,
    /// What has become of it.
    pub state: State,
    /// Whether the pre-image is complete. When not, making it was interrupted, or is under way.
    pub complete: bool,
    /// Whether a rollback or commit was interrupted, or is under way.
    pub unfinished: bool,
}

/// What [`Store::recover`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Rollbacks and commits that were interrupted and now are finished.
    pub finished: Vec<String>,
    /// Checkpoints that were interrupted while they were made, or were over, and now are deleted.
    pub removed: Vec<String>,
    /// Checkpoints that another process works on; nothing was done about them.
    pub busy: Vec<String>,
}

impl Store {
    /// Opens the store at `root`, making it when it is missing.
    pub fn open(root: &Path) -> Result<Self> {
        std::fs::create_dir_all(root).context("create the store", root)?;
        let root = std::fs::canonicalize(root).context("resolve", root)?;
        Ok(Self { root })
    }

    /// `$XDG_STATE_HOME/nono/rollback`, by default below `~/.local/state`.
    pub fn default_path() -> Result<PathBuf> {
        let state =
            std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/state"));
        let state = state.or_else(home).ok_or_else(|| Error::StoreUnusable {
            path: PathBuf::from("$HOME"),
            reason: "neither XDG_STATE_HOME nor HOME is set: name a store".to_owned(),
        })?;
        Ok(state.join("nono/rollback"))
    }

    /// Where the store is.
    pub fn path(&self) -> &Path {
        &self.root
    }

    pub(crate) fn home(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    pub(crate) fn records(&self) -> Result<Vec<Record>> {
        let mut records = Vec::new();
        for entry in std::fs::read_dir(&self.root).context("list", &self.root)? {
            records.extend(self.record(&entry.context("list", &self.root)?.path())?);
        }
        records.sort_by_key(|record| record.sequence);
        Ok(records)
    }

    /// The record in a directory of the store. Who can write to the store without being its owner, or to
    /// what is in it, doesn't say what is to be renamed.
    pub(crate) fn record(&self, home: &Path) -> Result<Option<Record>> {
        let owner = |dir: &Path| {
            Ok::<_, Error>(stat_fd(open_directory(dir)?).context("examine", dir)?.meta)
        };
        let meta = match owner(home) {
            // A file, a link, or what another process has deleted.
            Err(Error::Io { source, .. })
                if matches!(
                    source.raw_os_error(),
                    Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
                ) =>
            {
                return Ok(None);
            }
            meta => meta?,
        };
        let owners = [rustix::process::geteuid().as_raw(), owner(&self.root)?.uid];
        let is_trusted = owners.contains(&meta.uid) && meta.mode & 0o022 == 0;
        if is_trusted { Record::read(home) } else { Ok(None) }
    }

    /// Until it is dropped no other checkpoint is made, so that each has a number of its own, and what has
    /// no record is none.
    pub(crate) fn guard(&self) -> Result<Lock> {
        let root = open_directory(&self.root)?;
        match rustix::fs::flock(&root, FlockOperation::LockExclusive) {
            // NFS wants a file that is open for writing.
            Err(Errno::BADF | Errno::ISDIR | Errno::OPNOTSUPP) => {}
            locked => locked.context("lock", &self.root)?,
        }
        Ok(Lock(root))
    }

    /// Deletes what whoever began to make a checkpoint left behind without a record of it.
    fn sweep(&self) -> Result<()> {
        let _guard = self.guard()?;
        for entry in std::fs::read_dir(&self.root).context("list", &self.root)? {
            let home = entry.context("list", &self.root)?.path();
            let is_made = |name: &OsStr| name.to_str().is_some_and(is_id);
            if home.file_name().is_some_and(is_made)
                && !home.join("record").exists()
                && open_directory(&home).is_ok_and(|home| is_private(&home).unwrap_or(false))
            {
                remove_tree(&home)?;
            }
        }
        Ok(())
    }

    /// Every checkpoint of the store, oldest first.
    pub fn list(&self) -> Result<Vec<Summary>> {
        let summary = |record: Record| Summary {
            complete: is_complete(&record),
            unfinished: record.state.is_open() && self.home(&record.id).join("journal").exists(),
            dirs: record.placements.iter().map(|placement| placement.dir.clone()).collect(),
            id: record.id,
            created: record.created,
            strategy: record.strategy,
            state: record.state,
        };
        Ok(self.records()?.into_iter().map(summary).collect())
    }

    /// Brings every checkpoint that a crash left behind into a definite state: an interrupted
    /// rollback or commit is finished, one that was being made is deleted. Running it again, or
    /// beside a working process, does no harm.
    pub fn recover(&self) -> Result<Recovered> {
        let mut recovered = Recovered::default();
        let mut failure = self.sweep().err();
        for record in self.records()? {
            // One that can't be recovered doesn't keep the others from it.
            if let Err(error) = self.recover_one(&record.id, &mut recovered) {
                failure.get_or_insert(error);
            }
        }
        failure.map_or(Ok(recovered), Err)
    }

    fn recover_one(&self, id: &str, recovered: &mut Recovered) -> Result<()> {
        let _lock = match self.lock(id) {
            Err(Error::Busy(id)) => {
                recovered.busy.push(id);
                return Ok(());
            }
            // Another process has finished with it.
            Err(Error::UnknownCheckpoint { .. }) => return Ok(()),
            lock => lock?,
        };
        // Read again: it may have changed before the lock was ours.
        let Some(record) = self.record(&self.home(id))? else { return Ok(()) };
        let mut checkpoint = Checkpoint::from_record(self.clone(), record);
        if checkpoint.finish_interrupted()? {
            recovered.finished.push(id.to_owned());
        }
        let is_half = checkpoint.state().is_open() && !is_complete(&checkpoint.record);
        if is_half && checkpoint.is_within_reach() {
            checkpoint.give_up()?;
        }
        if !checkpoint.state().is_open() {
            checkpoint.erase()?;
            recovered.removed.push(id.to_owned());
        }
        Ok(())
    }

    /// Takes the checkpoint's lock, which the kernel releases when the process ends, however it does.
    pub(crate) fn lock(&self, id: &str) -> Result<Lock> {
        let path = self.home(id).join("lock");
        // Made with the checkpoint: made anew, it would be in the way of whoever deletes that.
        let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = match rustix::fs::open(&path, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                return Err(Error::UnknownCheckpoint {
                    id: id.to_owned(),
                    store: self.root.clone(),
                });
            }
            lock => lock.context("open", &path)?,
        };
        let lock = Lock(lock);
        // A process that was killed may have left a duplicate with a child that is about to exec.
        for _ in 0..50 {
            match rustix::fs::flock(&lock.0, FlockOperation::NonBlockingLockExclusive) {
                Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(5)),
                locked => return locked.context("lock", &path).map(|()| lock),
            }
        }
        Err(Error::Busy(id.to_owned()))
    }

    /// The same, waiting for whoever looks at it as well.
    pub(crate) fn lock_in_turn(&self, id: &str) -> Result<Lock> {
        let started = Instant::now();
        loop {
            match self.lock(id) {
                Err(Error::Busy(_)) if started.elapsed() < Duration::from_secs(30) => {}
                lock => return lock,
            }
        }
    }

    /// Finds a place on the directory's mount. Made now, used by the strategies.
    pub(crate) fn vault(&self, id: &str, number: usize, dir: &Path) -> Result<PathBuf> {
        let parent = split(dir).0;
        let unusable = |reason: String| Error::StoreUnusable { path: dir.to_owned(), reason };
        rustix::fs::access(parent, Access::WRITE_OK | Access::EXEC_OK).map_err(|error| {
            unusable(format!(
                "{} is not writable ({error}), so {} can't be exchanged",
                parent.display(),
                dir.display()
            ))
        })?;
        let mount = |path: &Path| -> Result<_> {
            let stat = stat_fd(open_directory(path)?).context("examine", path)?;
            Ok((stat.mount, stat.dev))
        };
        let home = self.home(id);
        let place = if mount(&home)? == mount(dir)? || mount(&home)? == mount(parent)? {
            home.join(number.to_string())
        } else {
            let beside = parent.join(".nono-rollback");
            private_directory(&beside)?;
            beside.join(format!("{id}-{number}"))
        };
        private_directory(&place)?;
        Ok(place)
    }
}

/// A checkpoint's lock while this process has it.
pub(crate) struct Lock(OwnedFd);

impl Drop for Lock {
    /// Closing alone would leave it with the duplicate of a child that is about to exec (flock(2)).
    fn drop(&mut self) {
        // Nothing can be done about a failure, and the close follows.
        let _ = rustix::fs::flock(&self.0, FlockOperation::Unlock);
    }
}

pub(crate) fn is_complete(record: &Record) -> bool {
    let strategy = strategy::by_name(&record.strategy);
    strategy.is_some_and(|strategy| {
        record.placements.iter().all(|placement: &Placement| strategy.is_complete(placement))
    }) || !record.state.is_open()
}

fn is_id(name: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    name.split_once('-').is_some_and(|(created, suffix)| digits(created) && digits(suffix))
}

/// A new directory for a checkpoint, named so that names sort by age.
pub(crate) fn new_home(store: &Store, created: u64) -> Result<String> {
    let mut random = [0; 5];
    rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())
        .map_err(io::Error::from)
        .context("draw a random id for", store.path())?;
    let suffix: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let id = format!("{:011x}-{suffix}", created);
    private_directory(&store.home(&id))?;
    File::create(store.home(&id).join("lock")).context("create the lock of", &store.home(&id))?;
    Ok(id)
}
