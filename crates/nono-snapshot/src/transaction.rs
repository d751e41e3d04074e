//! A list of steps that happens wholly or not at all.
//!
//! Every step is one atomic system call. The whole list is on disk before the first step, with the
//! inode each step expects, so that after a crash [`Transaction::finish`] can tell what was done
//! already and do the rest.

use std::collections::{BTreeSet, HashSet};
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use rustix::fs::fsync;
use serde::{Deserialize, Serialize};

use crate::beneath::Directories;
use crate::error::{Context, Error, Result};
use crate::fault;
use crate::meta::{Time, stat_fd};
use crate::step::{Place, Step};
use crate::walk::open_directory;

/// Steps, and the state the checkpoint is in once they are done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Transaction<T> {
    pub(crate) steps: Vec<Step>,
    pub(crate) then: T,
    /// Before the first step.
    pub(crate) began: Time,
}

impl<T: Serialize + for<'de> Deserialize<'de>> Transaction<T> {
    /// Writes the journal to `journal`, does the steps, and makes them durable. When a step fails,
    /// the steps done are undone and the journal is removed: nothing has happened.
    ///
    /// The caller removes the journal once it has recorded `then`.
    pub(crate) fn run(&self, journal: &Path) -> Result<()> {
        write_durably(
            journal,
            &serde_json::to_vec(self).map_err(io::Error::from).context("encode", journal)?,
        )?;
        match run_or_undo(&self.steps)? {
            Ok(()) => self.sync(),
            Err(error) => {
                remove_durably(journal)?;
                Err(error)
            }
        }
    }

    /// After a crash: does what is left to do. Only the last step that was done can be recognised for
    /// certain: what an earlier one moved may have moved on since.
    pub(crate) fn finish(&self) -> Result<()> {
        let dirs = Directories::default();
        let last = self.steps.iter().rposition(|step| step.is_done(&dirs));
        let done = last.map_or(0, |last| last + 1);
        for step in &self.steps[done..] {
            fault::point("step").context("recover from", Path::new("journal"))?;
            step.run(&dirs)?;
        }
        self.sync()
    }

    /// Reads the journal a crash left behind, if it did.
    pub(crate) fn left_at(journal: &Path) -> Result<Option<Self>> {
        let bytes = match std::fs::read(journal) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.context("read", journal)?,
        };
        let transaction = serde_json::from_slice(&bytes).map_err(|error| Error::Corrupt {
            path: journal.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Some(transaction))
    }

    fn sync(&self) -> Result<()> {
        sync_around(self.steps.iter().flat_map(Step::places))
    }
}

/// Does the steps. Outer error: one could not be undone, so that recovery has to go forward; inner
/// error: one failed, and nothing has happened.
pub(crate) fn run_or_undo(steps: &[Step]) -> Result<Result<()>> {
    let dirs = Directories::default();
    let times = match times_around(steps, &dirs) {
        Ok(times) => times,
        Err(error) => return Ok(Err(error)),
    };
    for (done, step) in steps.iter().enumerate() {
        let shown = || step.places().first().map(|place| place.full()).unwrap_or_default();
        let is_there = step.places().iter().all(|place| place.around().open(&dirs).is_ok());
        let outcome =
            fault::point("step").with_context("rename", shown).and_then(|()| step.run(&dirs));
        if let Err(error) = outcome {
            // The failed one too: it may have renamed and then failed to set a time.
            let begun = &steps[..done + usize::from(is_there)];
            begun.iter().rev().try_for_each(|step| step.undo(&dirs))?;
            times.iter().try_for_each(|(place, time)| place.set_time(&dirs, *time))?;
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

/// More directories than this are flushed with their file system: each fsync makes the disk write its cache.
const MANY: usize = 8;

/// Flushes each directory that one of the places is in to disk.
pub(crate) fn sync_around<'a>(places: impl Iterator<Item = &'a Place>) -> Result<()> {
    let around: BTreeSet<Place> = places.map(Place::around).collect();
    let (is_many, mut flushed) = (around.len() > MANY, HashSet::new());
    let dirs = Directories::default();
    for place in around {
        fault::point("sync").with_context("flush", || place.full())?;
        let dir = match place.open(&dirs) {
            // A later step may have moved the directory itself: its own parent is in the list too.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                continue;
            }
            dir => dir.with_context("open the directory", || place.full())?,
        };
        let device = stat_fd(&dir).with_context("examine", || place.full())?.dev;
        let synced = match is_many {
            false => fsync(&dir),
            true if flushed.insert(device) => rustix::fs::syncfs(&dir),
            true => Ok(()),
        };
        synced.with_context("flush", || place.full())?;
    }
    Ok(())
}

/// The modification times of the directories in which the steps move something. A failure puts the
/// entries back, which moves these.
fn times_around(steps: &[Step], dirs: &Directories) -> Result<Vec<(Place, Time)>> {
    let around = steps.iter().flat_map(Step::places).map(Place::around).collect::<BTreeSet<_>>();
    let mut times = Vec::new();
    for place in around {
        match place.time(dirs) {
            Ok(time) => times.push((place, time)),
            // One that does not exist is made by an earlier step, in place of something else perhaps.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOENT | libc::ENOTDIR | libc::ELOOP)
                ) => {}
            Err(error) => return Err(error).with_context("examine", || place.full()),
        }
    }
    Ok(times)
}

/// Writes a file that is not there yet. After a crash it may be empty.
pub(crate) fn create_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let write = || {
        fault::point("write")?;
        let mut file = File::create_new(path)?;
        fault::point("fill")?;
        // One call, which a process is not killed in the middle of.
        file.write_all(bytes)?;
        fault::point("fsync")?;
        file.sync_all()?;
        sync_parent(path)
    };
    write().context("write", path)
}

/// Writes a file so that after a crash it is there wholly or not at all. When the disk is full, the
/// space kept by [`reserve`] in the same directory is given up for it.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("new");
    let write = || {
        fault::point("write")?;
        let mut file = File::create(&temporary)?;
        file.write_all(bytes)?;
        fault::point("fsync")?;
        file.sync_all()?;
        fault::point("publish")?;
        std::fs::rename(&temporary, path)?;
        sync_parent(path)
    };
    loop {
        match write() {
            Err(error) if is_full(&error) && give_up_reserve(&path.with_file_name(RESERVE)) => {}
            written => return written.context("write", path),
        }
    }
}

const RESERVE: &str = "reserve";
const RESERVED: u64 = 256 * 1024;

/// Keeps some space in `home`: who filled the disk must still be able to undo it.
pub(crate) fn reserve(home: &Path) -> Result<()> {
    let path = home.join(RESERVE);
    std::fs::write(&path, vec![0x55; RESERVED as usize]).context("write", &path)
}

/// Frees a part of it; false when there is none. By truncation: XFS frees what an unlinked file held
/// in the background.
fn give_up_reserve(path: &Path) -> bool {
    let shorten = || {
        let file = File::options().write(true).open(path)?;
        let length = file.metadata()?.len();
        file.set_len(length.saturating_sub(RESERVED / 4))?;
        // ext4 gives blocks out again once their release is on disk.
        file.sync_all()?;
        Ok::<_, io::Error>(length > 0)
    };
    shorten().unwrap_or(false)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// Removes a file, durably.
pub(crate) fn remove_durably(path: &Path) -> Result<()> {
    remove_soon(path)?;
    sync_parent(path).context("remove", path)
}

/// Removes a file; it may come back after a power failure.
pub(crate) fn remove_soon(path: &Path) -> Result<()> {
    fault::point("remove").and_then(|()| std::fs::remove_file(path)).context("remove", path)
}

pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// Flushes everything on the file system of `path` to disk.
pub(crate) fn sync_file_system(path: &Path) -> Result<()> {
    fault::point("syncfs").context("flush", path)?;
    rustix::fs::syncfs(open_directory(path)?).map_err(io::Error::from).context("flush", path)
}
