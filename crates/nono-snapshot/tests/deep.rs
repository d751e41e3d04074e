//! How deep a tree is, is up to whoever made it.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::mount::{mounted, scratch_on};
use common::traced::{can_trace, strace};
use common::{Scratch, fingerprint, in_overlay, memory, namespaces_work, scratch, scratch_in};
use nono_snapshot::{ChangeKind, Checkpoint, Mounter, Options, Store};
use rustix::fs::{CWD, Mode, OFlags, mkdirat, openat};

/// Directories below one another, each made from the one above: no path is long enough for them.
fn nest(at: &Path, depth: usize, name: &str) -> std::os::fd::OwnedFd {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let mut dir = openat(CWD, at, flags, Mode::empty()).unwrap();
    for _ in 0..depth {
        mkdirat(&dir, name, Mode::RWXU).unwrap();
        dir = openat(&dir, name, flags, Mode::empty()).unwrap();
    }
    dir
}

fn write(dir: &std::os::fd::OwnedFd, name: &str, text: &str) {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC;
    let file = openat(dir, name, flags, Mode::RUSR | Mode::WUSR).unwrap();
    rustix::io::write(file, text.as_bytes()).unwrap();
}

/// The threads of tests have small stacks, like those of other programs.
#[test]
fn paths_longer_than_a_system_call_takes() {
    let scratch = scratch();
    let name = "d".repeat(250);
    let bottom = nest(&scratch.project, 30, &name);
    write(&bottom, "file", "before");
    rustix::fs::linkat(&bottom, "file", &bottom, "second name", rustix::fs::AtFlags::empty())
        .unwrap();
    scratch.write("other", "before");
    let mut checkpoint = scratch.checkpoint(&[]);
    write(&bottom, "file", "after");
    let deep = std::iter::repeat_n(name.as_str(), 30).collect::<PathBuf>();
    let listed: Vec<_> =
        checkpoint.changes().unwrap().into_iter().map(|change| change.path).collect();
    assert_eq!(listed, [deep.join("file"), deep.join("second name")]);
    fs::rename(scratch.project.join(&name), scratch.project.join("renamed")).unwrap();
    // All of it comes back by its topmost directory, which is copied.
    checkpoint.rollback(Some(&[PathBuf::from(&name), PathBuf::from("renamed")]), false).unwrap();
    let names = fs::read_dir(&scratch.project).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, [name.as_str(), "other"]);
    assert_eq!(checkpoint.changes().unwrap(), []);
    checkpoint.rollback(None, false).unwrap();
    checkpoint.dispose().unwrap();
    assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
    nono_removes(&scratch);
}

/// `remove_dir_all` takes paths.
fn nono_removes(scratch: &Scratch) {
    let status = std::process::Command::new("rm").arg("-rf").arg(&scratch.project).status();
    assert!(status.unwrap().success());
}

/// An agent that nests more directories than are listed must not bring down the process around it: its
/// work is undone, listing it is refused by name.
fn is_undone(scratch: &Scratch, strategy: &str) {
    scratch.write("file", "before");
    let before = fingerprint(&scratch.project);
    let options = Options { strategy: Some(strategy.to_owned()), ..Options::default() };
    let dirs = std::slice::from_ref(&scratch.project);
    let mut checkpoint = Checkpoint::create(&scratch.store, dirs, &options).unwrap();
    nest(&scratch.project, 6000, "d");
    let error = checkpoint.changes().unwrap_err();
    assert_eq!(error.code(), "ERR_NONO_TOO_DEEP", "{error}");
    assert!(error.to_string().len() < 400, "{error}");
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(fingerprint(&scratch.project), before);
    checkpoint.dispose().unwrap();
    assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
}

#[test]
fn thousands_of_directories_below_one_another() {
    is_undone(&scratch_in(Path::new("/dev/shm")), "copy");
}

#[test]
fn on_btrfs() {
    let Some(mounted) = mounted("btrfs", "") else { return };
    is_undone(&scratch_on(&mounted, true), "btrfs");
    is_undone(&scratch_on(&mounted, false), "reflink");
}

/// As deep as a tree is listed.
#[test]
fn the_deepest_that_is_listed() {
    let scratch = scratch_in(Path::new("/dev/shm"));
    let mut checkpoint = scratch.checkpoint(&[]);
    nest(&scratch.project, 4096, "d");
    assert_eq!(checkpoint.changes().unwrap().len(), 4096);
    checkpoint.rollback(Some(&[PathBuf::from("d")]), false).unwrap();
    assert_eq!(checkpoint.changes().unwrap(), []);
    nest(&scratch.project, 4096, "e");
    let mut inner = scratch.checkpoint(&[]);
    inner.rollback(None, false).unwrap();
    checkpoint.rollback(None, false).unwrap();
    checkpoint.dispose().unwrap();
    scratch.store.recover().unwrap();
    assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
}

fn on_a_stack<T: Send>(size: usize, work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(size);
        thread.spawn_scoped(scope, work).unwrap().join().unwrap()
    })
}

/// Does it in the store that it is told; run by the test below in a process of its own.
#[test]
fn child() {
    let Ok(task) = std::env::var("NONO_DEEP_CHILD") else { return };
    let (operation, store) = task.split_once('|').unwrap();
    let store = Store::open(Path::new(store)).unwrap();
    let mut checkpoint = Checkpoint::open(&store, &store.list().unwrap()[0].id).unwrap();
    let paths = [PathBuf::from("d")];
    match operation {
        "rollback" => drop(checkpoint.rollback(Some(&paths), false).unwrap()),
        _ => checkpoint.commit(Some(&paths)).unwrap(),
    }
}

/// How many directories and files are opened for a file in each of so many levels.
fn opened(operation: &str, depth: usize) -> usize {
    let scratch = scratch_in(Path::new("/dev/shm"));
    let write_all = |text: &str| {
        let mut dir = nest(&scratch.project, 0, "d");
        for _ in 0..depth {
            dir = openat(&dir, "d", OFlags::RDONLY, Mode::empty()).unwrap();
            write(&dir, "file", text);
        }
    };
    nest(&scratch.project, depth, "d");
    write_all("before");
    let mut checkpoint = scratch.checkpoint(&[]);
    write_all("after");
    let list = tempfile::NamedTempFile::new().unwrap();
    let mut command = strace("--trace=openat", list.path());
    command.args(["--exact", "child", "--test-threads=1"]);
    command.env("NONO_DEEP_CHILD", format!("{operation}|{}", scratch.store.path().display()));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(checkpoint.changes().unwrap(), []);
    fs::read_to_string(list.path()).unwrap().lines().count()
}

/// A directory opened from the root each time would make them grow with the square of the depth.
#[test]
fn single_paths_take_steps_in_proportion_to_the_depth() {
    if !can_trace() {
        return;
    }
    for operation in ["rollback", "commit"] {
        let [some, more] = [100, 400].map(|depth| opened(operation, depth));
        println!("{operation}: {some} opened at a depth of 100, {more} at one of 400");
        assert!(more < 6 * some, "{operation}: {some} at a depth of 100, {more} at one of 400");
    }
}

/// Less than a thread has by itself, instead of a tree that takes minutes.
const SMALL: usize = 256 << 10;
const DEPTH: usize = 400;

#[test]
fn both_sides_are_deep() {
    on_a_stack(SMALL, a_change_at_the_bottom);
}

fn a_change_at_the_bottom() {
    let scratch = scratch_in(Path::new("/dev/shm"));
    let bottom = nest(&scratch.project, DEPTH, "d");
    write(&bottom, "file", "before");
    let mut checkpoint = scratch.checkpoint(&[]);
    write(&bottom, "file", "after");
    let changes = checkpoint.changes().unwrap();
    assert_eq!(changes.len(), 1);
    assert!(changes[0].path.ends_with("d/file"));
    let paths = [PathBuf::from("d")];
    checkpoint.commit(Some(&paths)).unwrap();
    assert_eq!(checkpoint.changes().unwrap(), []);
    write(&bottom, "file", "later");
    checkpoint.rollback(Some(&paths), false).unwrap();
    assert_eq!(checkpoint.changes().unwrap(), []);
    checkpoint.dispose().unwrap();
    nono_removes(&scratch);
}

#[test]
fn in_an_overlay() {
    on_a_stack(SMALL, what_was_there_and_what_is_new);
}

fn what_was_there_and_what_is_new() {
    let root = rustix::process::geteuid().is_root();
    if !root && !namespaces_work() {
        return;
    }
    let mounter = if root { Mounter::Privileged } else { Mounter::Unprivileged };
    let scratch = scratch_in(&memory());
    write(&nest(&scratch.project, DEPTH, "d"), "file", "before");
    let before = on_a_stack(64 << 20, || fingerprint(&scratch.project));
    let (strategy, mounter) = (Some("overlay".to_owned()), Some(mounter));
    let options = Options { strategy, mounter, ..Options::default() };
    let dirs = std::slice::from_ref(&scratch.project);
    let mut checkpoint = Checkpoint::create(&scratch.store, dirs, &options).unwrap();
    let down = |step: &str| {
        format!("i=0; while [ $i -lt {DEPTH} ]; do {step}; i=$((i+1)); done; echo after > file")
    };
    let (old, new) = (down("cd -P d"), down("mkdir n; cd -P n"));
    let mount = checkpoint.mounts().remove(0);
    in_overlay(&mount, options.mounter.unwrap(), &format!("({old}); ({new})"));
    for is_applied in [false, true] {
        if is_applied {
            checkpoint.apply().unwrap();
        }
        let changes = checkpoint.changes().unwrap();
        assert_eq!(changes.len(), 1 + DEPTH + 1, "applied: {is_applied}");
        let modified = changes.iter().filter(|change| change.kind == ChangeKind::Modified);
        assert!(modified.map(|change| &change.path).eq([&changes[0].path]), "{is_applied}");
        assert!(changes[0].path.ends_with("d/file"), "{is_applied}");
    }
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(on_a_stack(64 << 20, || fingerprint(&scratch.project)), before);
    checkpoint.dispose().unwrap();
    nono_removes(&scratch);
}
