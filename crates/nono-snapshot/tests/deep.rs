//! How deep a tree is, is up to whoever made it.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::mount::{mounted, scratch_on};
use common::{Scratch, fingerprint, scratch};
use nono_snapshot::{Checkpoint, Options};
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

/// An agent that nests tens of thousands of directories must not bring down the process around it: its
/// work is undone, listing it is refused by name.
fn is_undone(scratch: &Scratch, strategy: &str) {
    scratch.write("file", "before");
    let before = fingerprint(&scratch.project);
    let options = Options { strategy: Some(strategy.to_owned()), ..Options::default() };
    let dirs = std::slice::from_ref(&scratch.project);
    let mut checkpoint = Checkpoint::create(&scratch.store, dirs, &options).unwrap();
    nest(&scratch.project, 20_000, "d");
    let error = checkpoint.changes().unwrap_err();
    assert_eq!(error.code(), "ERR_NONO_TOO_DEEP", "{error}");
    assert!(error.to_string().len() < 400, "{error}");
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(fingerprint(&scratch.project), before);
    checkpoint.dispose().unwrap();
    assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
}

#[test]
fn tens_of_thousands_of_directories_below_one_another() {
    is_undone(&scratch(), "copy");
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
    let scratch = scratch();
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
