//! The store itself: several who use it at once, what they leave behind when they die, and what others put into it.

mod common;

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use common::mount::run;
use common::{Scratch, scratch, scratch_in};
use nono_snapshot::{Checkpoint, State, Store};

fn sequence(scratch: &Scratch, id: &str) -> u64 {
    let record = fs::read(scratch.store.path().join(id).join("record")).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    record["sequence"].as_u64().unwrap()
}

/// Which of two is the later one says what ends when the other is rolled back to.
#[test]
fn checkpoints_made_at_once_have_an_order() {
    let scratch = scratch_in(Path::new("/dev/shm"));
    scratch.write("file", "x");
    let start = std::sync::Barrier::new(8);
    let ids: Vec<String> = std::thread::scope(|scope| {
        let make = || {
            start.wait();
            scratch.checkpoint(&[]).id().to_owned()
        };
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let order: HashSet<u64> = ids.iter().map(|id| sequence(&scratch, id)).collect();
    assert_eq!(order, (1..=8).collect());
    let first = ids.iter().find(|id| sequence(&scratch, id) == 1).unwrap();
    Checkpoint::open(&scratch.store, first).unwrap().rollback(None, false).unwrap();
    let states = scratch.store.list().unwrap().into_iter().map(|listed| listed.state);
    let wanted = std::iter::once(State::RolledBack).chain([State::Superseded; 7]);
    assert!(states.eq(wanted));
}

/// What ends a checkpoint is not overwritten by whoever notes at the same time that it is on disk.
#[test]
fn a_flush_at_the_same_time_brings_nothing_back() {
    for round in 0..80 {
        let scratch = scratch_in(Path::new("/dev/shm"));
        scratch.write("kept", "excluded, which takes a journal");
        let (mut outer, mut inner) = (scratch.checkpoint(&["kept"]), scratch.checkpoint(&["kept"]));
        let start = std::sync::Barrier::new(2);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                start.wait();
                for _ in 0..8 {
                    inner.flush().unwrap();
                }
            });
            start.wait();
            outer.rollback(None, false).unwrap();
        });
        let state = Checkpoint::open(&scratch.store, inner.id()).unwrap().state();
        assert_eq!(state, State::Superseded, "round {round}");
    }
}

/// Whoever deletes a checkpoint is not disturbed by others who do.
#[test]
fn all_recover_at_once() {
    for _ in 0..20 {
        let scratch = scratch_in(Path::new("/dev/shm"));
        scratch.write("file", "x");
        let mut first = scratch.checkpoint(&[]);
        (0..5).for_each(|_| drop(scratch.checkpoint(&[])));
        first.rollback(None, false).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| scratch.store.recover().unwrap());
            }
        });
        scratch.store.recover().unwrap();
        assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
    }
}

/// Whoever died before the record was written left a directory for it.
#[test]
fn what_has_no_record_is_deleted_and_nothing_else() {
    let scratch = scratch();
    let at = |name: &str| scratch.store.path().join(name);
    for name in ["01987654321-0123456789", "notes", "0-x", "sub-dir"] {
        fs::create_dir(at(name)).unwrap();
        fs::set_permissions(at(name), PermissionsExt::from_mode(0o700)).unwrap();
    }
    fs::write(at("01987654321-0123456789").join("lock"), "").unwrap();
    fs::write(at("file"), "somebody's").unwrap();
    let checkpoint = scratch.checkpoint(&[]);
    scratch.store.recover().unwrap();
    let mut left: Vec<_> = fs::read_dir(scratch.store.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    left.sort();
    let mut wanted = ["0-x", "file", "notes", "sub-dir", checkpoint.id()];
    wanted.sort();
    assert_eq!(left, wanted);
}

/// A record says what is renamed, and by whom it is read: one of somebody else's is none.
#[test]
fn what_others_put_into_it_is_not_carried_out() {
    let victim = scratch();
    victim.write("file", "before");
    let checkpoint = victim.checkpoint(&[]);
    victim.write("file", "after");
    let id = checkpoint.id().to_owned();
    let (home, planted) = (victim.store.path().join(&id), scratch());
    let at = planted.store.path().join(&id);
    let is_none = |why: &str| {
        let store = Store::open(planted.store.path()).unwrap();
        assert_eq!(store.list().unwrap().len(), 0, "{why}");
        assert_eq!(store.recover().unwrap(), Default::default(), "{why}");
        let error = Checkpoint::open(&store, &id).unwrap_err();
        assert_eq!(error.code(), "ERR_NONO_UNKNOWN_CHECKPOINT", "{why}");
        assert!(at.join("record").exists(), "{why}");
    };
    symlink(&home, &at).unwrap();
    is_none("a link");
    fs::remove_file(&at).unwrap();
    run("cp", &["-a", home.to_str().unwrap(), at.to_str().unwrap()]).unwrap();
    assert_eq!(planted.store.list().unwrap().len(), 1, "one's own");
    fs::set_permissions(&at, PermissionsExt::from_mode(0o777)).unwrap();
    is_none("others can write to it");
    fs::set_permissions(&at, PermissionsExt::from_mode(0o700)).unwrap();
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(&at, Some(12345), None).unwrap();
        is_none("it is somebody else's");
    }
    assert_eq!(victim.read("file"), "after");
}

/// A link to it is another name for it.
#[test]
fn a_store_by_a_link() {
    let scratch = scratch();
    scratch.write("file", "before");
    let link = scratch.root.path().join("link");
    symlink(scratch.store.path(), &link).unwrap();
    let store = Store::open(&link).unwrap();
    assert_eq!(store.path(), scratch.store.path());
    let inside = scratch.root.path().join("inside");
    fs::create_dir(scratch.project.join("state")).unwrap();
    symlink(scratch.project.join("state"), &inside).unwrap();
    let dirs = std::slice::from_ref(&scratch.project);
    let within = Store::open(&inside).unwrap();
    let error = Checkpoint::create(&within, dirs, &Default::default()).unwrap_err();
    assert_eq!(error.code(), "ERR_NONO_NESTED_DIRECTORIES");
}
