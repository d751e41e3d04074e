//! File systems that really are full, read-only or broken: the tree stays what it was, the checkpoint
//! is still listed, and works once the fault is gone.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::mount::{mounted, run, scratch_on};
use common::{fingerprint, furnish, scratch_in, wreck};
use nono_snapshot::{Checkpoint, Options, State, Store};
use rustix::fs::FallocateFlags;

fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        println!("SKIPPED: rollback on {what}: mounting needs root");
    }
    root
}

/// Takes all the space there is, without writing it.
fn fill(dir: &Path) {
    let mut size = 1 << 20;
    while size > 0 {
        let path = dir.join(format!("fill-{size}"));
        // A new name may need a block as well.
        let Ok(file) = fs::File::options().append(true).create(true).open(path) else { return };
        let end = file.metadata().unwrap().len();
        if rustix::fs::fallocate(&file, FallocateFlags::empty(), end, size).is_err() {
            size /= 2;
        }
    }
}

/// What filled the disk is undone all the same: a whole rollback needs little, and that is kept.
#[test]
fn a_full_disk() {
    if !is_root("a full disk") {
        return;
    }
    for kind in ["ext4", "tmpfs", "xfs"] {
        let Some(mounted) = mounted(kind, "") else { continue };
        let scratch = scratch_on(&mounted, false);
        furnish(&scratch.project);
        let before = fingerprint(&scratch.project);
        let mut checkpoint = scratch.checkpoint(&[]);
        wreck(&scratch.project);
        fill(&scratch.project);
        // Where a file that is allocated and not written has data, depends on how much of it is in memory.
        let seen = || {
            let mut seen = fingerprint(&scratch.project);
            seen.retain(|path, _| !path.as_os_str().as_encoded_bytes().starts_with(b"fill"));
            seen
        };
        let wrecked = seen();
        let deleted = PathBuf::from("deep/er");
        let error = checkpoint.rollback(Some(std::slice::from_ref(&deleted)), false).unwrap_err();
        assert!(error.to_string().contains("No space left"), "{kind}: {error}");
        assert_eq!(seen(), wrecked, "{kind}: nothing has changed");
        assert_eq!(scratch.store.list().unwrap()[0].state, State::Active);
        checkpoint.rollback(None, false).unwrap_or_else(|error| panic!("{kind}: {error}"));
        assert_eq!(fingerprint(&scratch.project), before, "{kind}");
        checkpoint.purge().unwrap();
    }
}

/// The records are on a disk of their own, which is full: a long journal is more than what is kept for it, and
/// the note of what was done may no longer fit after a shorter one.
#[test]
fn a_store_without_space_for_the_journal() {
    if !is_root("a full store") {
        return;
    }
    for kind in ["ext4", "tmpfs"] {
        let Some(mounted) = mounted(kind, "") else { continue };
        let (mut done, mut refused) = (0, 0);
        for count in [10, 600, 700, 800, 900, 3000] {
            let scratch = scratch_in(Path::new("/dev/shm"));
            let store = Store::open(&mounted.at().join(format!("state-{count}"))).unwrap();
            let write = |text: &str| {
                (0..count).for_each(|n| scratch.write(&format!("dir/file-{n}"), text));
            };
            write("before");
            let paths = [PathBuf::from("dir")];
            let before = fingerprint(&scratch.project);
            let options = Options { strategy: Some("copy".to_owned()), ..Options::default() };
            let dirs = std::slice::from_ref(&scratch.project);
            let mut checkpoint = Checkpoint::create(&store, dirs, &options).unwrap();
            write("after");
            let after = fingerprint(&scratch.project);
            fill(&mounted.at());
            let outcome = checkpoint.rollback(Some(&paths), false);
            let now = fingerprint(&scratch.project);
            let listed = &store.list().unwrap()[0];
            assert_eq!(listed.state, State::Active, "{kind}, {count}");
            for entry in fs::read_dir(mounted.at()).unwrap().map(Result::unwrap) {
                if entry.file_name().as_encoded_bytes().starts_with(b"fill") {
                    fs::remove_file(entry.path()).unwrap();
                }
            }
            match outcome {
                Ok(_) => done += 1,
                Err(error) => {
                    assert!(
                        error.to_string().contains("No space left"),
                        "{kind}, {count}: {error}"
                    );
                    refused += 1;
                    println!("{kind}, {count}: {error}, unfinished: {}", listed.unfinished);
                    if listed.unfinished {
                        assert_eq!(now, before, "{kind}, {count}: it was done, and not noted");
                        store.recover().unwrap();
                    } else {
                        assert_eq!(now, after, "{kind}, {count}: nothing has changed");
                        checkpoint.rollback(Some(&paths), false).unwrap();
                    }
                }
            }
            assert_eq!(fingerprint(&scratch.project), before, "{kind}, {count}");
            assert!(checkpoint.changes().unwrap().is_empty());
            checkpoint.dispose().unwrap();
        }
        println!("{kind}: {done} done, {refused} refused");
        assert!(done > 0 && refused > 0, "{kind}: {done} done, {refused} refused");
    }
}

#[test]
fn a_file_system_that_became_read_only() {
    if !is_root("a read-only file system") {
        return;
    }
    let Some(mounted) = mounted("ext4", "") else { return };
    let scratch = scratch_on(&mounted, false);
    furnish(&scratch.project);
    let before = fingerprint(&scratch.project);
    let mut checkpoint = scratch.checkpoint(&[]);
    wreck(&scratch.project);
    let wrecked = fingerprint(&scratch.project);
    let at = mounted.at();
    run("mount", &["-o", "remount,ro", at.to_str().unwrap()]).unwrap();
    for paths in [None, Some(&[PathBuf::from("plain")][..])] {
        let error = checkpoint.rollback(paths, false).unwrap_err();
        assert!(error.to_string().contains("Read-only file system"), "{error}");
    }
    assert_eq!(fingerprint(&scratch.project), wrecked);
    assert_eq!(scratch.store.list().unwrap()[0].state, State::Active);
    run("mount", &["-o", "remount,rw", at.to_str().unwrap()]).unwrap();
    scratch.store.recover().unwrap();
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(fingerprint(&scratch.project), before);
}

/// An ext4 whose disk is smaller than it says: what doesn't fit is an input/output error once it is
/// written back. The pre-image is flushed before anything moves, so the error comes in time.
#[test]
fn a_disk_that_fails() {
    if !is_root("a failing disk") {
        return;
    }
    let memory = tempfile::tempdir().unwrap();
    let options = c"size=24m";
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("none", memory.path(), "tmpfs", flags, options).unwrap();
    let outcome = std::panic::catch_unwind(|| {
        let (image, at) = (memory.path().join("image"), memory.path().join("mnt"));
        fs::File::create(&image).unwrap().set_len(128 << 20).unwrap();
        fs::create_dir(&at).unwrap();
        let (image, at) = (image.to_str().unwrap(), at.to_str().unwrap());
        // Every metadata block is written by mkfs, so that only data meets the error.
        run(
            "mkfs.ext4",
            &["-q", "-J", "size=4", "-E", "lazy_itable_init=0,lazy_journal_init=0", image],
        )
        .unwrap();
        run("mount", &["-o", "loop,errors=continue", image, at]).unwrap();
        let failed = std::panic::catch_unwind(|| fails_in_time(Path::new(at)));
        run("umount", &["--lazy", at]).unwrap();
        failed.unwrap();
    });
    rustix::mount::unmount(memory.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
    outcome.unwrap();
}

fn fails_in_time(at: &Path) {
    let scratch = scratch_in(at);
    fs::write(scratch.project.join("big"), vec![7; 8 << 20]).unwrap();
    let big = fs::File::open(scratch.project.join("big")).unwrap();
    big.sync_all().unwrap();
    let options = Options { strategy: Some("copy".to_owned()), ..Options::default() };
    let dirs = std::slice::from_ref(&scratch.project);
    let mut checkpoint = Checkpoint::create(&scratch.store, dirs, &options).unwrap();
    scratch.write("big", "the agent's");
    // More than is left, also when a commit of the journal has freed what the file had before.
    // The disk may fail already meanwhile.
    let _ = fs::write(scratch.project.join("more"), vec![9; 24 << 20]);
    let error = checkpoint.rollback(None, false).unwrap_err();
    // ext4 becomes read-only when its journal meets the error first, and a loop device may pass on why
    // its file could not be written.
    let expected = ["Input/output error", "Read-only file system", "No space left on device"];
    assert!(expected.iter().any(|text| error.to_string().contains(text)), "{error}");
    assert_eq!(scratch.read("big"), "the agent's", "nothing was exchanged");
    assert_eq!(scratch.store.list().unwrap()[0].state, State::Active);
}
