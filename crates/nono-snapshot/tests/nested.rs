//! Checkpoints of a directory and of one inside it: whichever is rolled back to, what was there then comes back,
//! and a later one of either is over.

mod common;

use std::path::{Path, PathBuf};

use common::mount::{mounted, scratch_on};
use common::{Fingerprint, Scratch, fingerprint, scratch_in};
use nono_snapshot::{ChangeKind, Checkpoint, Options, State};

fn project() -> Scratch {
    let scratch = scratch_in(Path::new("/dev/shm"));
    scratch.write("file", "one");
    scratch.write("inner/file", "one");
    scratch
}

fn begin(scratch: &Scratch, dir: &str) -> Checkpoint {
    let dir = scratch.project.join(dir);
    let options = Options { strategy: Some("copy".to_owned()), ..Options::default() };
    Checkpoint::create(&scratch.store, &[dir], &options).unwrap()
}

fn state_of(scratch: &Scratch, checkpoint: &Checkpoint) -> State {
    Checkpoint::open(&scratch.store, checkpoint.id()).unwrap().state()
}

#[test]
fn the_inner_one_and_then_the_outer_one() {
    let scratch = project();
    let before = fingerprint(&scratch.project);
    let mut outer = begin(&scratch, "");
    scratch.write("file", "two");
    scratch.write("inner/file", "two");
    let between = fingerprint(&scratch.project);
    let mut inner = begin(&scratch, "inner");
    scratch.write("inner/file", "three");
    inner.rollback(None, false).unwrap();
    // All but the time of the directory around it, in which something was exchanged.
    let inside = |tree: &Fingerprint| tree.clone().into_iter().skip(1).collect::<Vec<_>>();
    assert_eq!(inside(&fingerprint(&scratch.project)), inside(&between));
    let listed = outer.changes().unwrap().into_iter().map(|change| change.path);
    assert_eq!(listed.collect::<Vec<_>>(), ["file", "inner/file"].map(PathBuf::from));
    outer.rollback(None, false).unwrap();
    assert_eq!(fingerprint(&scratch.project), before);
}

#[test]
fn the_outer_one_ends_a_later_inner_one() {
    let scratch = project();
    let before = fingerprint(&scratch.project);
    let mut outer = begin(&scratch, "");
    scratch.write("inner/file", "two");
    let mut inner = begin(&scratch, "inner");
    outer.rollback(None, false).unwrap();
    assert_eq!(state_of(&scratch, &inner), State::Superseded);
    assert_eq!(inner.rollback(None, false).unwrap_err().code(), "ERR_NONO_CHECKPOINT_STATE");
    assert_eq!(fingerprint(&scratch.project), before);
}

/// The inner directory is another one by then, a copy of what it was.
#[test]
fn an_earlier_inner_one_outlives_the_outer_one() {
    let scratch = project();
    let before = fingerprint(&scratch.project);
    let mut inner = begin(&scratch, "inner");
    scratch.write("inner/file", "two");
    let mut outer = begin(&scratch, "");
    scratch.write("file", "three");
    scratch.write("inner/file", "three");
    outer.rollback(None, false).unwrap();
    outer.purge().unwrap();
    assert_eq!(scratch.read("inner/file"), "two");
    assert_eq!(inner.changes().unwrap().len(), 1);
    inner.rollback(None, false).unwrap();
    assert_eq!(scratch.read("inner/file"), "one");
    let path = Path::new("inner/file");
    assert_eq!(fingerprint(&scratch.project)[path], before[path]);
}

/// The directory with it in it was moved, and another one is in its place.
#[test]
fn an_inner_one_whose_directory_was_moved_away() {
    let scratch = project();
    let mut inner = begin(&scratch, "inner");
    std::fs::rename(scratch.project.join("inner"), scratch.project.join("moved")).unwrap();
    scratch.write("inner/other", "an agent's");
    inner.rollback(None, false).unwrap();
    assert_eq!(scratch.read("inner/file"), "one");
    assert_eq!(scratch.read("moved/file"), "one", "it is outside of the checkpoint");
    assert!(!scratch.project.join("inner/other").exists());
}

/// A directory that moves from step to step, with another in it that moves as well, and takes the place of a third:
/// a checkpoint before each step.
#[test]
fn directories_that_were_renamed_between_them() {
    let rename = |scratch: &Scratch, from: &str, to: &str| {
        std::fs::rename(scratch.project.join(from), scratch.project.join(to)).unwrap();
    };
    let steps: [&[(&str, &str)]; 3] = [
        &[("a", "moved"), ("moved/b", "b"), ("b/c", "moved/c")],
        // Two change places, below one that has moved.
        &[("moved", "far/away"), ("far/away/c", "c"), ("b", "far/away/c"), ("c", "b")],
        &[("far", "a"), ("a/away/c", "c"), ("a/away", "c/d")],
    ];
    let furnished = |scratch: &Scratch| {
        for path in ["a/one", "a/b/two", "a/b/c/three", "far/four"] {
            scratch.write(path, path);
        }
    };
    for strategy in ["copy", "reflink", "btrfs"] {
        for back_to in [vec![0], vec![1, 0], vec![2, 1, 0], vec![2, 0]] {
            let mounted = match strategy {
                "copy" => None,
                "reflink" => mounted("xfs", ""),
                _ => mounted("btrfs", ""),
            };
            let scratch = match &mounted {
                Some(mounted) => scratch_on(mounted, strategy == "btrfs"),
                None if strategy == "copy" => scratch_in(Path::new("/dev/shm")),
                None => continue,
            };
            furnished(&scratch);
            let (mut trees, mut checkpoints) = (Vec::new(), Vec::new());
            for renames in steps {
                trees.push(fingerprint(&scratch.project));
                let options = Options { strategy: Some(strategy.to_owned()), ..Options::default() };
                let dirs = std::slice::from_ref(&scratch.project);
                checkpoints.push(Checkpoint::create(&scratch.store, dirs, &options).unwrap());
                for (from, to) in renames {
                    rename(&scratch, from, to);
                }
            }
            for step in back_to {
                let changes = checkpoints[step].changes().unwrap();
                let renamed = changes.iter().any(|change| change.kind == ChangeKind::Renamed);
                assert!(renamed, "{strategy}, {step}: {changes:?}");
                checkpoints[step].rollback(None, false).unwrap();
                assert_eq!(fingerprint(&scratch.project), trees[step], "{strategy}, {step}");
                checkpoints[step].purge().unwrap();
                for (earlier, checkpoint) in checkpoints.iter_mut().enumerate().take(step) {
                    assert!(!checkpoint.changes().unwrap().is_empty(), "{strategy}, {earlier}");
                }
            }
        }
    }
}

/// The directory around it has another name: there is no place to bring it back to until that is brought back.
#[test]
fn an_inner_one_below_a_directory_that_was_renamed() {
    let scratch = project();
    scratch.write("inner/deep/file", "one");
    let before = fingerprint(&scratch.project);
    let mut outer = begin(&scratch, "");
    let mut inner = begin(&scratch, "inner/deep");
    std::fs::rename(scratch.project.join("inner"), scratch.project.join("elsewhere")).unwrap();
    scratch.write("elsewhere/deep/file", "two");
    let renamed = fingerprint(&scratch.project);
    let error = inner.rollback(None, false).unwrap_err();
    assert_eq!(error.code(), "ERR_NONO_ROLLBACK_IO", "{error}");
    assert_eq!(error.path(), Some(&*scratch.project.join("inner/deep")), "{error}");
    assert_eq!(fingerprint(&scratch.project), renamed);
    assert_eq!(state_of(&scratch, &inner), State::Active);
    std::fs::rename(scratch.project.join("elsewhere"), scratch.project.join("inner")).unwrap();
    inner.rollback(None, false).unwrap();
    assert_eq!(scratch.read("inner/deep/file"), "one");
    outer.rollback(None, false).unwrap();
    assert_eq!(fingerprint(&scratch.project), before);
}
