//! What would lose somebody's data: other programs at work meanwhile, and what they leave in the way.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use common::mount::{mounted, run, scratch_on};
use common::{fingerprint, furnish, scratch, scratch_in};
use nono_snapshot::{ChangeKind, Checkpoint, Options, State, Store};

/// `rm -rf` of the directory itself, or something else in its place.
#[test]
fn a_deleted_directory_comes_back() {
    for (kind, strategy) in [("ext4", "copy"), ("btrfs", "btrfs")] {
        let Some(mounted) = mounted(kind, "") else { continue };
        for (exclude, instead) in
            [("", ""), ("", "file"), ("", "link"), ("out", ""), ("out", "file")]
        {
            let scratch = scratch_on(&mounted, strategy == "btrfs");
            furnish(&scratch.project);
            let before = fingerprint(&scratch.project);
            let options = Options {
                strategy: Some(strategy.to_owned()),
                exclude: Some(exclude.to_owned())
                    .into_iter()
                    .filter(|text| !text.is_empty())
                    .collect(),
                mounter: None,
            };
            let dirs = std::slice::from_ref(&scratch.project);
            let mut checkpoint = Checkpoint::create(&scratch.store, dirs, &options).unwrap();
            let elsewhere = tempfile::tempdir_in(scratch.root.path()).unwrap();
            fs::write(elsewhere.path().join("other"), "untouched").unwrap();
            fs::remove_dir_all(&scratch.project).unwrap();
            match instead {
                "file" => fs::write(&scratch.project, "not a directory").unwrap(),
                "link" => {
                    std::os::unix::fs::symlink(elsewhere.path(), &scratch.project).unwrap();
                }
                _ => {}
            }
            let changes = checkpoint.changes().unwrap();
            let listed = changes.iter().map(|change| (change.kind, change.path.as_path()));
            let wanted = before.keys().map(|path| (ChangeKind::Deleted, path.as_path()));
            assert!(listed.eq(wanted), "{changes:?}");
            checkpoint.rollback(None, false).unwrap();
            assert_eq!(fingerprint(&scratch.project), before, "{kind}, instead: {instead}");
            assert_eq!(scratch.store.list().unwrap()[0].state, State::RolledBack);
            checkpoint.purge().unwrap();
            scratch.store.recover().unwrap();
            assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
            assert_eq!(fingerprint(&scratch.project), before, "{kind}, instead: {instead}");
            assert_eq!(fs::read(elsewhere.path().join("other")).unwrap(), b"untouched");
        }
    }
}

/// Somebody mounts something in the tree that is about to be deleted.
#[test]
fn what_is_mounted_in_a_discarded_tree_is_not_deleted() {
    let Some(mounted) = mounted("tmpfs", "") else { return };
    let valuable = mounted.at().join("valuable");
    fs::create_dir(&valuable).unwrap();
    fs::write(valuable.join("file"), "somebody's").unwrap();
    let scratch = scratch();
    scratch.write("dir/file", "x");
    let mut checkpoint = scratch.checkpoint(&[]);
    checkpoint.rollback(None, false).unwrap();
    let at = scratch.store.path().join(checkpoint.id()).join("0/tree/dir");
    run("mount", &["--bind", valuable.to_str().unwrap(), at.to_str().unwrap()]).unwrap();
    let purged = checkpoint.purge();
    let left = fs::read_to_string(valuable.join("file"));
    run("umount", &[at.to_str().unwrap()]).unwrap();
    assert_eq!(left.unwrap(), "somebody's");
    let error = purged.unwrap_err();
    assert!(error.path().is_some_and(|path| path.ends_with("tree/dir")), "{error}");
    checkpoint.purge().unwrap();
    checkpoint.dispose().unwrap();
}

/// A program moves a file from where the copy has not been yet to where it has been: it would be in
/// neither, and a rollback would delete the only one there is.
#[test]
fn a_file_that_moves_during_the_copy_is_not_lost() {
    let (mut made, mut refused) = (0, 0);
    for _ in 0..60 {
        let scratch = scratch_in(Path::new("/dev/shm"));
        for n in 0..40 {
            scratch.write(&format!("d{n}/file"), "x");
        }
        scratch.write("d0/moving", "precious");
        // Its birth is before the checkpoint, by more than a clock tick.
        std::thread::sleep(std::time::Duration::from_millis(12));
        let (done, started) = (AtomicBool::new(false), std::sync::Barrier::new(2));
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                started.wait();
                for n in (0..40).cycle() {
                    if done.load(Ordering::Relaxed) {
                        break;
                    }
                    let place = |n: usize| scratch.project.join(format!("d{}/moving", n % 40));
                    fs::rename(place(n), place(n + 1)).unwrap();
                }
            });
            started.wait();
            let options = Options { strategy: Some("copy".to_owned()), ..Options::default() };
            let dirs = std::slice::from_ref(&scratch.project);
            let outcome = Checkpoint::create(&scratch.store, dirs, &options);
            done.store(true, Ordering::Relaxed);
            outcome
        });
        match outcome {
            Err(_) => refused += 1,
            Ok(mut checkpoint) => {
                checkpoint.rollback(None, false).unwrap();
                let places = (0..40).map(|n| scratch.project.join(format!("d{n}/moving")));
                assert!(places.filter(|path| path.exists()).count() > 0, "it is gone");
                made += 1;
            }
        }
    }
    println!("{made} made, {refused} refused");
}

/// The end of a file's data is looked for where by then is no file any more.
#[test]
fn a_sparse_file_that_shrinks_while_it_is_copied() {
    use std::os::unix::fs::FileExt;
    let (mut made, mut refused) = (0, 0);
    let scratch = scratch_in(Path::new("/dev/shm"));
    let image = fs::File::create(scratch.project.join("image")).unwrap();
    for _ in 0..60 {
        let (done, started) = (AtomicBool::new(false), std::sync::Barrier::new(2));
        let outcome = std::thread::scope(|scope| {
            scope.spawn(|| {
                started.wait();
                while !done.load(Ordering::Relaxed) {
                    (0..50).for_each(|n| image.write_all_at(b"data", n << 17).unwrap());
                    image.set_len(0).unwrap();
                }
            });
            started.wait();
            let options = Options { strategy: Some("copy".to_owned()), ..Options::default() };
            let dirs = std::slice::from_ref(&scratch.project);
            let outcome = Checkpoint::create(&scratch.store, dirs, &options);
            done.store(true, Ordering::Relaxed);
            outcome
        });
        match outcome {
            Err(error) => {
                assert_eq!(error.code(), "ERR_NONO_FILE_CHANGING", "{error}");
                refused += 1;
            }
            Ok(mut checkpoint) => {
                checkpoint.dispose().unwrap();
                made += 1;
            }
        }
    }
    println!("{made} made, {refused} refused");
}

/// Deleting what a crash interrupted would delete the other half of it.
#[test]
fn what_was_interrupted_is_finished_before_it_is_deleted() {
    let scratch = scratch();
    for name in ["a", "b", "c"] {
        scratch.write(name, "before");
    }
    let mut checkpoint = scratch.checkpoint(&[]);
    for name in ["a", "b", "c"] {
        scratch.write(name, "after");
    }
    let task = format!("{}|{}", scratch.store.path().display(), checkpoint.id());
    let mut killed = 0;
    for step in 0..40 {
        let own = std::env::current_exe().unwrap();
        let status = std::process::Command::new(own)
            .args(["--exact", "child", "--test-threads=1"])
            .env("NONO_HOSTILE", &task)
            .env("NONO_SNAPSHOT_FAULT", format!("{step}:kill"))
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap();
        let texts = ["a", "b", "c"].map(|name| scratch.read(name));
        killed += usize::from(!status.success());
        if texts[0] != texts[2] {
            checkpoint.dispose().unwrap();
            let texts = ["a", "b", "c"].map(|name| scratch.read(name));
            assert_eq!(texts, ["before"; 3], "killed at step {step}");
            return;
        }
        scratch.store.recover().unwrap();
        for name in ["a", "b", "c"] {
            scratch.write(name, "after");
        }
    }
    panic!("killed {killed} times, and never in the middle");
}

/// By a bind mount a directory has a second path. A store in it would be exchanged with it, and deleted.
#[test]
fn what_lies_inside_by_another_path_is_refused() {
    let Some(mounted) = mounted("tmpfs", "") else { return };
    let scratch = scratch_on(&mounted, false);
    scratch.write("sub/dir/file", "x");
    let at = scratch.root.path().join("elsewhere");
    fs::create_dir(&at).unwrap();
    let inside = scratch.project.join("sub");
    run("mount", &["--bind", inside.to_str().unwrap(), at.to_str().unwrap()]).unwrap();
    let create = |store: &Store, dirs: &[PathBuf]| {
        Checkpoint::create(store, dirs, &Options::default()).map_err(|error| error.code())
    };
    let codes = [
        create(&Store::open(&at.join("state")).unwrap(), std::slice::from_ref(&scratch.project)),
        create(&scratch.store, &[scratch.project.clone(), at.join("dir")]),
    ];
    let beside = create(&scratch.store, &[at.join("dir")]);
    run("umount", &[at.to_str().unwrap()]).unwrap();
    for code in codes {
        assert_eq!(code.unwrap_err(), "ERR_NONO_NESTED_DIRECTORIES");
    }
    beside.unwrap();
}

/// Two processes at once: one of them does it, and the other is told.
#[test]
fn only_one_rolls_back() {
    for _ in 0..20 {
        let scratch = scratch_in(Path::new("/dev/shm"));
        scratch.write("file", "before");
        let made = scratch.checkpoint(&["kept"]);
        scratch.write("file", "after");
        let start = std::sync::Barrier::new(3);
        let outcomes = std::thread::scope(|scope| {
            let attempt = || {
                let mut own = Checkpoint::open(&scratch.store, made.id()).unwrap();
                start.wait();
                own.rollback(None, false).map_err(|error| error.code())
            };
            let threads = [scope.spawn(attempt), scope.spawn(attempt)];
            start.wait();
            scratch.store.recover().unwrap();
            threads.map(|thread| thread.join().unwrap())
        });
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "{outcomes:?}");
        assert_eq!(scratch.read("file"), "before");
    }
}

/// Whoever recovers before everything is mounted loses nothing.
#[test]
fn what_is_kept_on_a_disk_that_is_not_mounted_is_not_given_up() {
    let Some(mounted) = mounted("ext4", "") else { return };
    let (image, at) = (mounted.dir.path().join("image"), mounted.at());
    let (image, at) = (image.to_str().unwrap(), at.to_str().unwrap());
    let elsewhere = tempfile::tempdir().unwrap();
    let store = Store::open(elsewhere.path()).unwrap();
    let project = mounted.at().join("project");
    fs::create_dir(&project).unwrap();
    fs::write(project.join("file"), "before").unwrap();
    let mut checkpoint =
        Checkpoint::create(&store, std::slice::from_ref(&project), &Options::default()).unwrap();
    fs::write(project.join("file"), "after").unwrap();
    run("umount", &[at]).unwrap();
    let recovered = store.recover();
    run("mount", &["-o", "loop", image, at]).unwrap();
    assert_eq!(recovered.unwrap().removed, [""; 0]);
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(fs::read(project.join("file")).unwrap(), b"before");
    checkpoint.dispose().unwrap();
}

/// The flush in the background takes seconds: what became of the checkpoint meanwhile stays.
#[test]
fn a_late_flush_brings_nothing_back() {
    let scratch = scratch();
    scratch.write("file", "first");
    let mut outer = scratch.checkpoint(&[]);
    scratch.write("file", "second");
    let mut inner = scratch.checkpoint(&[]);
    outer.rollback(None, false).unwrap();
    inner.flush().unwrap();
    let states: Vec<_> =
        scratch.store.list().unwrap().into_iter().map(|listed| listed.state).collect();
    assert_eq!(states, [State::RolledBack, State::Superseded]);
}

/// Runs in a process of its own, for the test above.
#[test]
fn child() {
    let Ok(task) = std::env::var("NONO_HOSTILE") else { return };
    let (store, id) = task.split_once('|').unwrap();
    let store = nono_snapshot::Store::open(Path::new(store)).unwrap();
    let paths = ["a", "b", "c"].map(PathBuf::from);
    Checkpoint::open(&store, id).unwrap().rollback(Some(&paths), false).unwrap();
}
