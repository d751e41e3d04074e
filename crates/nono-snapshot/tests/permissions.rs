//! Directories that even their owner may not read or enter, as an ordinary user: root may do everything.

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::traced::{calls, can_trace, strace};
use common::{Scratch, fingerprint, scratch};
use nono_snapshot::{ChangeKind, Checkpoint, Options, Store};

/// Without any permission, without reading, without entering.
const MODES: [u32; 4] = [0o000, 0o300, 0o400, 0o600];

fn is_ordinary() -> bool {
    let ordinary = !rustix::process::geteuid().is_root();
    if !ordinary {
        println!("SKIPPED: directories without permission: root may enter them");
    }
    ordinary
}

fn set_mode(scratch: &Scratch, path: &str, mode: u32) {
    fs::set_permissions(scratch.project.join(path), PermissionsExt::from_mode(mode)).unwrap();
}

fn project() -> Scratch {
    let scratch = scratch();
    scratch.write("dir/inner/file", "before");
    scratch.write("file", "before");
    scratch
}

fn is_refused_by_name(error: &nono_snapshot::Error, dir: &Path, mode: u32) {
    assert_eq!(error.code(), "ERR_NONO_ROLLBACK_IO", "{mode:o}: {error}");
    assert!(error.path().is_some_and(|path| path.starts_with(dir)), "{mode:o}: {error}");
    let text = error.to_string();
    assert!(text.contains("Permission denied") && text.contains("chmod"), "{mode:o}: {text}");
}

#[test]
fn what_cannot_be_read_is_refused_by_name_at_the_beginning() {
    if !is_ordinary() {
        return;
    }
    for mode in MODES {
        let scratch = project();
        set_mode(&scratch, "dir", mode);
        let create = |exclude: &[&str]| {
            let exclude = exclude.iter().map(|&pattern| pattern.to_owned()).collect();
            let options = Options { strategy: Some("copy".to_owned()), exclude, mounter: None };
            let dirs = std::slice::from_ref(&scratch.project);
            Checkpoint::create(&scratch.store, dirs, &options)
        };
        is_refused_by_name(&create(&[]).unwrap_err(), &scratch.project.join("dir"), mode);
        assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0, "{mode:o}");
        // What is excluded is not looked into, and comes along.
        let mut checkpoint = create(&["dir"]).unwrap();
        scratch.write("file", "after");
        checkpoint.rollback(None, false).unwrap();
        checkpoint.purge().unwrap();
        assert_eq!(scratch.read("file"), "before");
        assert_eq!(
            scratch.project.join("dir").metadata().unwrap().permissions().mode() & 0o777,
            mode
        );
    }
}

/// What is done to a project after its checkpoint, by a permission that is taken away, is undone.
fn undone_in_each_mode(done: impl Fn(&Scratch, &mut Checkpoint, u32)) {
    if !is_ordinary() {
        return;
    }
    for mode in MODES {
        let scratch = project();
        let before = fingerprint(&scratch.project);
        let mut checkpoint = scratch.checkpoint(&[]);
        done(&scratch, &mut checkpoint, mode);
        checkpoint.rollback(None, false).unwrap();
        assert_eq!(fingerprint(&scratch.project), before, "{mode:o}");
        checkpoint.purge().unwrap();
        checkpoint.dispose().unwrap();
        assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0, "{mode:o}");
    }
}

/// The permission was taken later, by whom the checkpoint is meant to undo.
#[test]
fn what_can_no_longer_be_read_comes_back() {
    undone_in_each_mode(|scratch, checkpoint, mode| {
        scratch.write("dir/inner/file", "after");
        set_mode(scratch, "dir/inner", mode);
        set_mode(scratch, "dir", mode);
        let dir = scratch.project.join("dir");
        is_refused_by_name(&checkpoint.changes().unwrap_err(), &dir, mode);
        let paths = [PathBuf::from("dir")];
        is_refused_by_name(&checkpoint.rollback(Some(&paths), false).unwrap_err(), &dir, mode);
        is_refused_by_name(&checkpoint.commit(Some(&paths)).unwrap_err(), &dir, mode);
    });
}

/// What it holds may be anything: it is taken for changed, and comes back.
#[test]
fn a_file_that_can_no_longer_be_read_is_listed_and_comes_back_alone() {
    if !is_ordinary() {
        return;
    }
    let scratch = project();
    let before = fingerprint(&scratch.project);
    let mut checkpoint = scratch.checkpoint(&[]);
    set_mode(&scratch, "dir/inner/file", 0);
    let changes = checkpoint.changes().unwrap();
    assert_eq!((changes.len(), changes[0].kind), (1, ChangeKind::Modified), "{changes:?}");
    let path = changes[0].path.clone();
    checkpoint.rollback(Some(std::slice::from_ref(&path)), false).unwrap();
    assert_eq!(fingerprint(&scratch.project)[&path], before[&path]);
}

/// The directory itself has lost its permissions.
#[test]
fn a_root_without_permissions_comes_back() {
    undone_in_each_mode(|scratch, _, mode| {
        scratch.write("file", "after");
        set_mode(scratch, "", mode);
    });
}

/// Read-only directories are what package managers make.
#[test]
fn single_paths_in_a_directory_that_cannot_be_written_to() {
    if !is_ordinary() {
        return;
    }
    let scratch = project();
    let mut checkpoint = scratch.checkpoint(&[]);
    scratch.write("dir/inner/file", "after");
    set_mode(&scratch, "dir/inner", 0o555);
    let after = fingerprint(&scratch.project);
    let kinds: Vec<_> =
        checkpoint.changes().unwrap().into_iter().map(|change| change.kind).collect();
    assert_eq!(kinds, [ChangeKind::Mode, ChangeKind::Modified]);
    let paths = [PathBuf::from("dir/inner/file")];
    let error = checkpoint.rollback(Some(&paths), false).unwrap_err();
    is_refused_by_name(&error, &scratch.project.join("dir/inner"), 0o555);
    assert_eq!(fingerprint(&scratch.project), after, "nothing has changed");
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(scratch.read("dir/inner/file"), "before");
}

/// Brings `dir` back in the store that it is told; run by the test below in a process of its own.
#[test]
fn child() {
    let Ok(store) = std::env::var("NONO_PERMISSIONS_CHILD") else { return };
    let store = Store::open(Path::new(&store)).unwrap();
    let mut checkpoint = Checkpoint::open(&store, &store.list().unwrap()[0].id).unwrap();
    checkpoint.rollback(Some(&[PathBuf::from("dir")]), false).unwrap();
}

/// To get another parent it has to be writable for a moment.
#[test]
fn a_directory_that_cannot_be_written_to_comes_back_whatever_dies() {
    if !is_ordinary() || !can_trace() {
        return;
    }
    let prepare = || {
        let scratch = project();
        set_mode(&scratch, "dir", 0o555);
        let before = fingerprint(&scratch.project);
        scratch.checkpoint(&[]);
        set_mode(&scratch, "dir", 0o755);
        fs::remove_dir_all(scratch.project.join("dir")).unwrap();
        (scratch, before)
    };
    let of_child = |mut command: Command, scratch: &Scratch| {
        command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
        command.env("NONO_PERMISSIONS_CHILD", scratch.store.path());
        command
    };
    let without_root = |mut tree: common::Fingerprint| {
        tree.remove(Path::new(""));
        tree
    };
    let (scratch, before) = prepare();
    let calls = calls(|strace| of_child(strace, &scratch));
    assert_eq!(without_root(fingerprint(&scratch.project)), without_root(before));
    let is_about_it = |(call, _): &&(String, usize)| call.contains("chmod") || call == "renameat2";
    let (mut old, mut new) = (0, 0);
    for (call, number) in calls.iter().filter(is_about_it) {
        let (scratch, before) = prepare();
        let option = format!("--inject={call}:signal=KILL:when={number}");
        of_child(strace(&option, Path::new("/dev/null")), &scratch).output().unwrap();
        scratch.store.recover().unwrap();
        let now = without_root(fingerprint(&scratch.project));
        if now.contains_key(Path::new("dir")) {
            assert_eq!(now, without_root(before), "{option}");
            new += 1;
        } else {
            old += 1;
        }
    }
    assert!(old > 0 && new > 0, "{calls:?}");
}
