//! What is special about ZFS: a snapshot is looked at by a clone, which a mount keeps from being destroyed.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicBool, Ordering};

use common::mount::Pool;
use common::{Scratch, fingerprint};
use nono_snapshot::{Checkpoint, FileDiff, Options};

/// Where clones are mounted.
const PLACES: &str = "/run/nono-rollback";

fn begin(scratch: &Scratch) -> Checkpoint {
    let dirs = std::slice::from_ref(&scratch.project);
    let options = Options { strategy: Some("zfs".to_owned()), ..Options::default() };
    Checkpoint::create(&scratch.store, dirs, &options).unwrap()
}

/// A process with a mount namespace of its own, in which nothing that happens outside is seen, as that of
/// a sandbox.
struct Apart(Child);

impl Apart {
    fn start() -> Self {
        // In a user namespace it could not unmount what it got there.
        let namespaces = ["--user", "--map-root-user", "--mount", "--propagation", "private"];
        let child = Command::new("unshare").args(namespaces).args(["sleep", "600"]).spawn();
        let apart = Self(child.unwrap());
        let own = fs::read_link("/proc/self/ns/mnt").unwrap();
        let of = format!("/proc/{}/ns/mnt", apart.0.id());
        while fs::read_link(&of).is_ok_and(|namespace| namespace == own) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        apart
    }

    fn has_mounted_below(&self, path: &Path) -> bool {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.0.id())).unwrap();
        mounts
            .lines()
            .any(|line| line.split(' ').nth(4).is_some_and(|at| Path::new(at).starts_with(path)))
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

/// A sandbox lives on while checkpoints that were looked at before it was started come and go.
fn a_sandbox_outlives_it(scratch: &Scratch) {
    scratch.write("edited", "before\n");
    scratch.write("kept", "before\n");
    let mut checkpoint = begin(scratch);
    scratch.write("edited", "after\n");
    scratch.write("kept", "after\n");
    let changes = checkpoint.changes().unwrap();
    checkpoint.commit(Some(&[PathBuf::from("kept")])).unwrap();
    let sandbox = Apart::start();
    assert!(sandbox.has_mounted_below(&scratch.project), "it has a copy of what is mounted");
    assert!(!sandbox.has_mounted_below(scratch.store.path()));
    let (before, after) = (changes[0].before_file.as_deref(), changes[0].after_file.as_deref());
    let text = "@@ -1 +1 @@\n-before\n+after\n".to_owned();
    assert_eq!(checkpoint.diff(before, after).unwrap(), FileDiff::Text(text));
    let listed = checkpoint.changes().unwrap().into_iter().map(|change| change.path);
    assert_eq!(listed.collect::<Vec<_>>(), [PathBuf::from("edited")]);
    checkpoint.rollback(Some(&[PathBuf::from("edited")]), false).unwrap();
    assert_eq!(
        (scratch.read("edited"), scratch.read("kept")),
        ("before\n".into(), "after\n".into())
    );
    checkpoint.dispose().unwrap();
    assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
}

/// A sandbox that is started while the clone is mounted has it mounted as well, until we are done with it.
fn a_sandbox_has_a_mount_of_the_clone(scratch: &Scratch) {
    scratch.write("file", "before\n");
    let mut checkpoint = begin(scratch);
    scratch.write("file", "after\n");
    let mut own = Checkpoint::open(&scratch.store, checkpoint.id()).unwrap();
    let is_found = AtomicBool::new(false);
    let sandbox = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_found.load(Ordering::Relaxed) {
                own.changes().unwrap();
            }
        });
        let mut sandboxes = std::iter::repeat_with(Apart::start);
        let found = sandboxes.find(|sandbox| sandbox.has_mounted_below(Path::new(PLACES)));
        is_found.store(true, Ordering::Relaxed);
        found.unwrap()
    });
    assert!(!sandbox.has_mounted_below(Path::new(PLACES)));
    let changes = checkpoint.changes().unwrap();
    assert_eq!(changes.iter().map(|change| &change.path).collect::<Vec<_>>(), [Path::new("file")]);
    let (before, after) = (changes[0].before_file.as_deref(), changes[0].after_file.as_deref());
    let text = "@@ -1 +1 @@\n-before\n+after\n".to_owned();
    assert_eq!(checkpoint.diff(before, after).unwrap(), FileDiff::Text(text));
    checkpoint.dispose().unwrap();
}

/// Several look at the same time, and each takes the mount away again.
fn many_look_at_once(scratch: &Scratch) {
    scratch.write("file", "before");
    let mut checkpoint = begin(scratch);
    scratch.write("file", "after");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut own = Checkpoint::open(&scratch.store, checkpoint.id()).unwrap();
                for _ in 0..3 {
                    assert_eq!(own.changes().unwrap().len(), 1);
                }
            });
        }
    });
    checkpoint.dispose().unwrap();
}

/// It knows no exchange: an entry waits under another name, which could be too long.
fn names_as_long_as_they_can_be(scratch: &Scratch) {
    let name = "n".repeat(255);
    scratch.write(&name, "before");
    let before = fingerprint(&scratch.project);
    let mut checkpoint = begin(scratch);
    scratch.write(&name, "after");
    checkpoint.rollback(Some(&[PathBuf::from(&name)]), false).unwrap();
    let path = Path::new(&name);
    assert_eq!(fingerprint(&scratch.project)[path], before[path]);
    checkpoint.dispose().unwrap();
}

#[test]
fn on_one_pool() {
    let Some(pool) = Pool::new() else { return };
    a_sandbox_outlives_it(&pool.scratch("sandbox"));
    a_sandbox_has_a_mount_of_the_clone(&pool.scratch("mounted"));
    many_look_at_once(&pool.scratch("many"));
    names_as_long_as_they_can_be(&pool.scratch("long"));
}
