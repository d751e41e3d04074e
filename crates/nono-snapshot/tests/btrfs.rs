//! What has changed since a snapshot, found in the trees of btrfs: everything that a look at every inode
//! finds, and nothing else.

mod common;

use std::fs;
use std::path::PathBuf;

use common::mount::{Mounted, mounted, run, scratch_on};
use common::{Scratch, furnish, searched_and_walked, wreck};
use nono_snapshot::{ChangeKind, Checkpoint, Options};

fn subvolume() -> Option<(Mounted, Scratch)> {
    let mounted = mounted("btrfs", "")?;
    let scratch = scratch_on(&mounted, true);
    Some((mounted, scratch))
}

fn begin(scratch: &Scratch) -> Checkpoint {
    let options = Options { strategy: Some("btrfs".to_owned()), ..Options::default() };
    Checkpoint::create(&scratch.store, std::slice::from_ref(&scratch.project), &options).unwrap()
}

fn listed(checkpoint: &mut Checkpoint) -> Vec<(ChangeKind, PathBuf)> {
    let changes = searched_and_walked(checkpoint);
    changes.into_iter().map(|change| (change.kind, change.path)).collect()
}

fn modified(path: &str) -> (ChangeKind, PathBuf) {
    (ChangeKind::Modified, path.into())
}

#[test]
fn every_kind_of_change() {
    let Some((_mounted, scratch)) = subvolume() else { return };
    furnish(&scratch.project);
    let mut checkpoint = begin(&scratch);
    assert_eq!(listed(&mut checkpoint), []);
    wreck(&scratch.project);
    assert!(listed(&mut checkpoint).len() > 10);
}

/// Only the inode in the tree has changed: no directory has, and the size and the modification time are
/// what they were.
#[test]
fn a_change_that_hides() {
    let Some((_mounted, scratch)) = subvolume() else { return };
    scratch.write("a/b/c/file", "one");
    scratch.write("a/b/other", "one");
    let file = scratch.project.join("a/b/c/file");
    let time = fs::metadata(&file).unwrap().modified().unwrap();
    let mut checkpoint = begin(&scratch);
    scratch.write("a/b/c/file", "two");
    fs::File::options().write(true).open(&file).unwrap().set_modified(time).unwrap();
    assert_eq!(listed(&mut checkpoint), [modified("a/b/c/file")]);
}

/// Their names do not fit into one item of the tree.
#[test]
fn a_file_with_many_long_names() {
    let Some((_mounted, scratch)) = subvolume() else { return };
    scratch.write("first", "one");
    let name = |number: usize| format!("{number:0200}");
    for number in 0..300 {
        fs::hard_link(scratch.project.join("first"), scratch.project.join(name(number))).unwrap();
    }
    let mut checkpoint = begin(&scratch);
    scratch.write("first", "two");
    let mut expected: Vec<_> = (0..300).map(|number| modified(&name(number))).collect();
    expected.push(modified("first"));
    assert_eq!(listed(&mut checkpoint), expected);
}

#[test]
fn directories_that_were_moved_over_each_other() {
    let Some((_mounted, scratch)) = subvolume() else { return };
    for path in ["one/in/file", "one/in/same", "two/in/file", "three/file"] {
        scratch.write(path, path);
    }
    let at = |path: &str| scratch.project.join(path);
    let mut checkpoint = begin(&scratch);
    fs::rename(at("one"), at("three/one")).unwrap();
    fs::rename(at("two"), at("one")).unwrap();
    scratch.write("three/one/in/file", "changed on the way");
    // Something else has its former name.
    let moved = (ChangeKind::Added, PathBuf::from("three/one/in/file"));
    assert!(listed(&mut checkpoint).contains(&moved));
}

/// The directory consists of a later snapshot then, or of one that a later snapshot was made of.
#[test]
fn after_rollbacks_to_later_checkpoints() {
    let Some((_mounted, scratch)) = subvolume() else { return };
    scratch.write("file", "one");
    scratch.write("dir/untouched", "one");
    let mut outer = begin(&scratch);
    scratch.write("file", "two");
    for _ in 0..2 {
        let mut inner = begin(&scratch);
        scratch.write("dir/new", "gone again");
        inner.rollback(None, false).unwrap();
        inner.purge().unwrap();
        assert_eq!(listed(&mut outer), [modified("file")]);
        scratch.write("dir/deeper/new", "new");
        assert_eq!(listed(&mut outer).len(), 3);
        fs::remove_dir_all(scratch.project.join("dir/deeper")).unwrap();
    }
}

/// The trees have nothing in common, and nothing was written since the checkpoint.
#[test]
fn another_subvolume_in_its_place() {
    let Some((mounted, scratch)) = subvolume() else { return };
    let (other, aside) = (mounted.at().join("other"), mounted.at().join("aside"));
    run("btrfs", &["-q", "subvolume", "create", other.to_str().unwrap()]).unwrap();
    fs::write(other.join("file"), "another").unwrap();
    scratch.write("file", "one");
    scratch.write("gone", "one");
    let mut checkpoint = begin(&scratch);
    fs::rename(&scratch.project, aside).unwrap();
    fs::rename(other, &scratch.project).unwrap();
    let gone = (ChangeKind::Deleted, PathBuf::from("gone"));
    assert_eq!(listed(&mut checkpoint), [modified("file"), gone]);
}

/// What is committed changes the snapshot as well.
#[test]
fn after_a_commit_of_some_paths() {
    let Some((_mounted, scratch)) = subvolume() else { return };
    scratch.write("kept", "one");
    scratch.write("undone", "one");
    let mut checkpoint = begin(&scratch);
    scratch.write("kept", "two");
    scratch.write("undone", "two");
    checkpoint.commit(Some(&[PathBuf::from("kept")])).unwrap();
    assert_eq!(listed(&mut checkpoint), [modified("undone")]);
    scratch.write("kept", "three");
    assert_eq!(listed(&mut checkpoint), [modified("kept"), modified("undone")]);
}

/// A file that was mapped, and written to, before the snapshot, is written to again.
#[test]
fn mapped_memory() {
    let Some((_mounted, scratch)) = subvolume() else { return };
    scratch.write("mapped", &"-".repeat(5000));
    let file = fs::File::options().read(true).write(true).open(scratch.project.join("mapped"));
    let file = file.unwrap();
    // SAFETY: a fresh shared mapping of an open file, which nobody truncates.
    let map = unsafe {
        let map = rustix::mm::mmap(
            std::ptr::null_mut(),
            5000,
            rustix::mm::ProtFlags::READ | rustix::mm::ProtFlags::WRITE,
            rustix::mm::MapFlags::SHARED,
            &file,
            0,
        );
        map.unwrap().cast::<u8>()
    };
    // SAFETY: within the mapping.
    unsafe { map.write(b'1') };
    let mut checkpoint = begin(&scratch);
    // SAFETY: as above.
    unsafe { map.write(b'2') };
    assert_eq!(listed(&mut checkpoint), [modified("mapped")]);
    // SAFETY: it is not used any more.
    unsafe { rustix::mm::munmap(map.cast(), 5000) }.unwrap();
}
