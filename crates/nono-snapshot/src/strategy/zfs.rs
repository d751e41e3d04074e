//! ZFS snapshots, by the `zfs` command: its library has no stable interface.
//!
//! A whole rollback is `zfs rollback`. Single paths, exclusions and the list of changes need to read
//! the snapshot: a clone of it is made when that is first asked for, and mounted while it is looked at.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Placement, Strategy, file_system, tree};
use crate::changes::{Change, Tree};
use crate::copy::Contents;
use crate::error::{Context, Error, Result};
use crate::exclude::Exclude;
use crate::fault;
use crate::mounts::mounted_at;
use crate::plan;
use crate::record::State;
use crate::remove::remove_tree;
use crate::select::Selection;
use crate::step::Step;
use crate::transaction::{sync_file_system, write_durably};
use crate::walk::open_directory;

/// A snapshot of the dataset that is mounted at the directory.
pub(crate) struct Zfs;

/// Snapshots and clones with this prefix are ours.
const PREFIX: &str = "nono-";
/// Where clones are mounted. Not in a directory on ZFS: zfs-fuse stands still when it has to look there itself,
/// as at the end of a mount, while somebody else does.
const PLACES: &str = "/run/nono-rollback";
/// How long a dataset may be busy.
const LONGEST_BUSY: Duration = Duration::from_secs(30);

/// Runs `zfs` and returns what it prints; its complaint when it fails.
fn zfs(args: &[&str]) -> std::result::Result<String, String> {
    let output = Command::new("zfs").env("LC_ALL", "C").args(args).output();
    let output = output.map_err(|error| format!("the zfs command can't be run ({error})"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = match String::from_utf8_lossy(&output.stderr).trim() {
        "" => "it said nothing".to_owned(),
        complaint => complaint.replace('\n', "; "),
    };
    let (command, status, daemon) = (args.join(" "), output.status, daemon());
    Err(format!("`zfs {command}` ended with {status}: {complaint}{daemon}"))
}

/// The daemon of zfs-fuse, with which `zfs` talks; where ZFS is in the kernel there is none.
fn daemon() -> String {
    if Path::new("/dev/zfs").exists() {
        return String::new();
    }
    match UnixStream::connect("/var/run/zfs/zfs_socket") {
        Ok(_) => " (the zfs-fuse daemon answers)".to_owned(),
        Err(error) => format!(" (the zfs-fuse daemon does not answer: {error})"),
    }
}

/// `zfs` on behalf of a directory's checkpoint.
fn zfs_for(dir: &Path, args: &[&str]) -> Result<String> {
    zfs(args).map_err(|reason| Error::StrategyUnsupported {
        strategy: "zfs",
        path: dir.to_owned(),
        reason,
    })
}

/// The dataset mounted at `dir`.
fn dataset(dir: &Path) -> std::result::Result<String, String> {
    // Asked by its name: given a path, zfs-fuse's `zfs list` examines every mount until one is on the
    // same device, and says nothing when it finds none, as when others come and go meanwhile.
    let mounted = mounted_at(dir).map_err(|error| error.to_string())?;
    let name = mounted.as_deref().and_then(Path::to_str).filter(|name| !name.starts_with('-'));
    let name = name.ok_or("no dataset is mounted at it")?;
    let listed = zfs(&["list", "-H", "-o", "name,mountpoint", "-t", "filesystem", name])?;
    match listed.trim_end().split_once('\t') {
        Some((name, mountpoint)) if Path::new(mountpoint) == dir => Ok(name.to_owned()),
        _ => Err("no dataset is mounted at it".to_owned()),
    }
}

/// The snapshots of a dataset, oldest first.
fn snapshots(dataset: &str) -> std::result::Result<Vec<String>, String> {
    let listed = zfs(&[
        "list", "-H", "-r", "-d", "1", "-t", "snapshot", "-o", "name", "-s", "creation", dataset,
    ])?;
    Ok(listed.lines().map(str::to_owned).collect())
}

/// A clone's name: beside the pool's other datasets.
fn clone_of(snapshot: &str) -> Option<String> {
    let (dataset, name) = snapshot.split_once('@')?;
    Some(format!("{}/{name}", dataset.split('/').next()?))
}

/// Runs `zfs`, again as long as what it is about is busy. A file system that was just used is, until
/// zfs-fuse has closed its files, which it does some time after their last close: seconds, when the
/// machine is.
fn patiently(args: &[&str]) -> std::result::Result<String, String> {
    let started = Instant::now();
    loop {
        match zfs(args) {
            Err(reason) if reason.contains("busy") && started.elapsed() < LONGEST_BUSY => {
                std::thread::sleep(Duration::from_millis(20));
            }
            outcome => return outcome,
        }
    }
}

/// Deletes a dataset or snapshot of ours.
fn destroy(name: &str) -> std::result::Result<(), String> {
    debug_assert!(name.contains(PREFIX));
    match patiently(&["destroy", name]) {
        Err(reason) if reason.contains("does not exist") || reason.contains("could not find") => {
            Ok(())
        }
        outcome => outcome.map(drop),
    }
}

fn destroy_with_clone(snapshot: &str) -> std::result::Result<(), String> {
    if let Some(clone) = clone_of(snapshot) {
        destroy(&clone)?;
    }
    destroy(snapshot)
}

/// Brings the dataset back to the snapshot. Later checkpoints of the dataset go, as they would be
/// superseded; anybody else's later snapshot is a reason to refuse.
pub(crate) fn revert(snapshot: &str) -> Result<()> {
    let failed = |reason: String| Error::Io {
        action: "roll back to the snapshot",
        path: snapshot.into(),
        source: std::io::Error::other(reason),
    };
    for later in later_checkpoints(snapshot).map_err(failed)? {
        destroy_with_clone(&later).map_err(failed)?;
    }
    fault::point("zfs rollback").context("roll back to the snapshot", Path::new(snapshot))?;
    zfs(&["rollback", snapshot]).map(drop).map_err(failed)
}

fn later_checkpoints(snapshot: &str) -> std::result::Result<Vec<String>, String> {
    let (dataset, _) = snapshot.split_once('@').ok_or("it is not the name of a snapshot")?;
    let mut later = snapshots(dataset)?.into_iter().skip_while(|name| name != snapshot);
    if later.next().is_none() {
        return Err("the snapshot is gone".to_owned());
    }
    let later: Vec<String> = later.collect();
    let ours = |name: &&String| {
        name.strip_prefix(dataset).is_some_and(|name| name[1..].starts_with(PREFIX))
    };
    match later.iter().find(|name| !ours(name)) {
        Some(other) => Err(format!("{other} is newer and would be lost: destroy it first")),
        None => Ok(later),
    }
}

impl Zfs {
    /// The snapshot's name, known before it is made.
    fn snapshot(placement: &Placement) -> Result<String> {
        let path = placement.vault.join("snapshot");
        std::fs::read_to_string(&path).context("read", &path)
    }

    /// Where the clone is mounted.
    fn place(placement: &Placement) -> PathBuf {
        Path::new(PLACES).join(placement.label())
    }

    /// Mounts a clone of the snapshot, unless it is there already.
    fn mount(placement: &Placement) -> Result<()> {
        let snapshot = Self::snapshot(placement)?;
        let at = Self::place(placement);
        tree::private_directory(Path::new(PLACES))?;
        tree::private_directory(&at)?;
        if plan::is_mount_point(&at)? {
            return Ok(());
        }
        let failed = |reason| Error::StrategyUnsupported {
            strategy: "zfs",
            path: placement.dir.clone(),
            reason,
        };
        let clone = clone_of(&snapshot).ok_or_else(|| failed("it has no snapshot".to_owned()))?;
        if zfs(&["list", "-H", &clone]).is_err() {
            let place = at.to_str().ok_or_else(|| {
                failed(format!("no dataset can be mounted at {}: it is not UTF-8", at.display()))
            })?;
            let mountpoint = format!("mountpoint={place}");
            // Not by whoever mounts everything, as at the start of the system.
            let args = ["clone", "-o", "canmount=noauto", "-o", &mountpoint, &snapshot, &clone];
            zfs(&args).map_err(failed)?;
        }
        match patiently(&["mount", &clone]) {
            // zfs-fuse mounts it when it makes it.
            Err(reason) if reason.contains("already mounted") => Ok(()),
            outcome => outcome.map(drop).map_err(failed),
        }
    }

    /// Takes the mount away: each mount namespace made while it is there, as that of a sandbox, has it as
    /// well, and as long as it had it the clone could neither be mounted again nor destroyed. By `zfs`, which lets
    /// the kernel forget what it has of the file system first: zfs-fuse stands still when a mount ends before its
    /// files are closed. And with the directory, whose removal ends what others have mounted there (Linux 3.18).
    fn unmount(placement: &Placement) -> Result<()> {
        let at = Self::place(placement);
        if !at.is_dir() {
            return Ok(());
        }
        if plan::is_mount_point(&at)? {
            // What was written to mapped memory and is flushed meanwhile is in its way, too.
            sync_file_system(&placement.dir)?;
            let clone = clone_of(&Self::snapshot(placement)?).unwrap_or_default();
            patiently(&["unmount", &clone]).map(drop).map_err(|reason| Error::Io {
                action: "unmount",
                path: at.clone(),
                source: std::io::Error::other(reason),
            })?;
        }
        std::fs::remove_dir(&at).context("remove", &at)
    }

    /// Does what looks at the clone, which is mounted meanwhile.
    fn looking<T>(placement: &Placement, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let done = work();
        let unmounted = Self::unmount(placement);
        // The first error is the one to report.
        done.and_then(|done| unmounted.map(|()| done))
    }

    /// The snapshot as a tree.
    fn before(placement: &Placement, exclude: &Exclude) -> Result<Tree> {
        let at = Self::place(placement);
        Self::mount(placement)?;
        tree::remove_inner_stage(&at)?;
        tree::live((open_directory(&at)?, &at), exclude, &Selection::All, placement.began)
    }

    /// Whether the clone was changed by a commit of single paths, so that the snapshot is out of date.
    fn is_edited(placement: &Placement) -> bool {
        placement.vault.join("edited").exists()
    }

    /// Entries can't be renamed to another dataset, so they are staged inside.
    fn clean(placement: &Placement) -> Result<()> {
        tree::remove_inner_stage(&placement.dir)?;
        if Self::place(placement).is_dir() {
            tree::remove_inner_stage(&Self::place(placement))?;
        }
        Self::unmount(placement)
    }
}

impl Strategy for Zfs {
    fn name(&self) -> &'static str {
        "zfs"
    }

    fn concerns(&self, dir: &Path) -> bool {
        // zfs-fuse is a kind of FUSE to the kernel.
        matches!(file_system(dir), "zfs" | "fuse")
    }

    fn fits(&self, placement: &Placement) -> std::result::Result<String, String> {
        let dir = &placement.dir;
        if !self.concerns(dir) {
            return Err(format!("{} is not ZFS", file_system(dir)));
        }
        let dataset = dataset(dir)?;
        if !rustix::process::geteuid().is_root() {
            return Err("mounting a snapshot of it needs root".to_owned());
        }
        Ok(format!("it is the ZFS dataset {dataset}"))
    }

    fn begin(&self, placement: &Placement, _: &Exclude) -> Result<()> {
        let unsupported = |reason| Error::StrategyUnsupported {
            strategy: "zfs",
            path: placement.dir.clone(),
            reason,
        };
        let dataset = dataset(&placement.dir).map_err(unsupported)?;
        let snapshot = format!("{dataset}@{PREFIX}{}", placement.label());
        write_durably(&placement.vault.join("snapshot"), snapshot.as_bytes())?;
        // What is written to mapped memory is in the page cache, which a snapshot is not taken of.
        sync_file_system(&placement.dir)?;
        fault::point("snapshot").context("take a snapshot of", &placement.dir)?;
        zfs_for(&placement.dir, &["snapshot", &snapshot])?;
        write_durably(&placement.vault.join("complete"), b"")
    }

    fn is_complete(&self, placement: &Placement) -> bool {
        placement.vault.join("complete").exists()
    }

    fn tree(&self, placement: &Placement) -> PathBuf {
        Self::place(placement)
    }

    fn is_seen_by_one(&self) -> bool {
        true
    }

    fn is_restored(&self, _: &Placement) -> bool {
        false
    }

    fn will_show(&self, _: &Placement) -> bool {
        false
    }

    fn changes(&self, placement: &Placement, exclude: &Exclude) -> Result<Vec<Change>> {
        Self::clean(placement)?;
        Self::looking(placement, || {
            let before = Self::before(placement, exclude)?;
            tree::changes_since(placement, exclude, &before, &Selection::All)
        })
    }

    fn rollback(
        &self,
        placement: &Placement,
        exclude: &Exclude,
        select: &Selection,
    ) -> Result<Vec<Step>> {
        Self::clean(placement)?;
        if *select == Selection::All && exclude.is_empty() && !Self::is_edited(placement) {
            let snapshot = Self::snapshot(placement)?;
            // A dirty page would be written to the file after it was brought back.
            sync_file_system(&placement.dir)?;
            // Before anything starts.
            later_checkpoints(&snapshot).map_err(|reason| Error::StrategyUnsupported {
                strategy: "zfs",
                path: placement.dir.clone(),
                reason,
            })?;
            return Ok(vec![Step::Revert { snapshot }]);
        }
        Self::looking(placement, || {
            let before = Self::before(placement, exclude)?;
            let now = tree::current(placement, exclude, select)?;
            let stage = tree::inner_stage(&placement.dir)?;
            let base = plan::Base::of(&placement.dir);
            plan::selected(&before, &now, base, &stage, Contents::Bytes, select)
        })
    }

    fn commit(
        &self,
        placement: &Placement,
        exclude: &Exclude,
        select: &Selection,
    ) -> Result<Vec<Step>> {
        Self::clean(placement)?;
        if *select != Selection::All {
            write_durably(&placement.vault.join("edited"), b"")?;
        }
        let before = || Self::before(placement, exclude);
        // The steps are about what is in it, by its path.
        let at = Self::place(placement);
        let stage = || tree::inner_stage(&at);
        tree::commit((placement, &at), exclude, select, &before, (Contents::Bytes, &stage))
    }

    fn make_reachable(&self, placement: &Placement) -> Result<()> {
        Self::mount(placement)
    }

    fn release(&self, placement: &Placement) -> Result<()> {
        Self::unmount(placement)
    }

    fn conclude(&self, placement: &Placement, _: &[Step], _: State) -> Result<()> {
        Self::clean(placement)
    }

    fn abandon(&self, placement: &Placement) -> Result<()> {
        Self::clean(placement)
    }

    fn discard(&self, placement: &Placement) -> Result<()> {
        if placement.vault.join("snapshot").exists() {
            destroy_with_clone(&Self::snapshot(placement)?).map_err(|reason| Error::Io {
                action: "destroy the snapshot for",
                path: placement.dir.clone(),
                source: std::io::Error::other(reason),
            })?;
        }
        remove_tree(&Self::place(placement))?;
        remove_tree(&placement.vault)
    }
}
