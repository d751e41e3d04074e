//! Checkpoints of a directory and of one inside it: whichever is rolled back to, what was there then comes back,
//! and a later one of either is over.

mod common;

use std::path::{Path, PathBuf};

use common::{Fingerprint, Scratch, fingerprint, scratch_in};
use nono_snapshot::{Checkpoint, Options, State};

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
