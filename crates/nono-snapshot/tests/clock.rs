//! A clock that was set back: files have times of the future, which say nothing about what is new.

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use common::Scratch;
use common::mount::{Mounted, mounted, run, scratch_on};
use nono_snapshot::{ChangeKind, Checkpoint, Options};

/// In 2035.
const FUTURE: i64 = 2_051_222_400;

/// Sets a time of a file that no system call sets, in the image.
fn set_time(mounted: &Mounted, scratch: &Scratch, path: &str, field: &str) {
    let (at, image) = (mounted.at(), mounted.dir.path().join("image"));
    let inside = scratch.project.join(path);
    let inside = inside.strip_prefix(&at).unwrap().to_str().unwrap().to_owned();
    let (at, image) = (at.to_str().unwrap(), image.to_str().unwrap());
    run("umount", &[at]).unwrap();
    let request = format!("set_inode_field /{inside} {field} @{FUTURE}");
    run("debugfs", &["-w", "-R", &request, image]).unwrap();
    run("mount", &["-t", "ext4", "-o", "loop", image, at]).unwrap();
}

/// Length and times are those of the checkpoint: the contents are not.
#[test]
fn a_change_with_the_very_times_of_before() {
    let Some(mounted) = mounted("ext4", "") else { return };
    let scratch = scratch_on(&mounted, false);
    scratch.write("file", "one");
    scratch.write("same", "one");
    let file = scratch.project.join("file");
    set_time(&mounted, &scratch, "file", "ctime");
    let was = fs::metadata(&file).unwrap();
    assert_eq!(was.ctime(), FUTURE, "debugfs has set it");
    let mut checkpoint = scratch.checkpoint(&[]);
    fs::write(&file, "two").unwrap();
    let written = fs::File::options().write(true).open(&file).unwrap();
    written.set_modified(was.modified().unwrap()).unwrap();
    drop(written);
    set_time(&mounted, &scratch, "file", "ctime");
    assert_eq!(fs::metadata(&file).unwrap().ctime(), FUTURE);
    let changes = checkpoint.changes().unwrap();
    assert_eq!(changes.len(), 1, "{changes:?}");
    assert_eq!((changes[0].kind, changes[0].path.to_str()), (ChangeKind::Modified, Some("file")));
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(scratch.read("file"), "one");
}

/// A file is moved while the copy is made, from where it has not been yet to where it has been. That it was born
/// after the checkpoint, by its time, does not make it one that may go.
#[test]
fn a_file_born_in_the_future_that_moves() {
    let Some(mounted) = mounted("ext4", "") else { return };
    let scratch = scratch_on(&mounted, false);
    for n in 0..40 {
        scratch.write(&format!("d{n}/file"), "x");
    }
    scratch.write("d0/moving", "precious");
    set_time(&mounted, &scratch, "d0/moving", "crtime");
    let place = |n: usize| scratch.project.join(format!("d{}/moving", n % 40));
    let mut at = 0;
    let mut refused = 0;
    for _ in 0..20 {
        let (done, started) = (AtomicBool::new(false), Barrier::new(2));
        let (outcome, moved) = std::thread::scope(|scope| {
            let mover = scope.spawn(|| {
                let mut now = at;
                started.wait();
                while !done.load(Ordering::Relaxed) {
                    fs::rename(place(now), place(now + 1)).unwrap();
                    now = (now + 1) % 40;
                }
                now
            });
            started.wait();
            let options = Options { strategy: Some("copy".to_owned()), ..Options::default() };
            let dirs = std::slice::from_ref(&scratch.project);
            let outcome = Checkpoint::create(&scratch.store, dirs, &options);
            done.store(true, Ordering::Relaxed);
            (outcome, mover.join().unwrap())
        });
        at = moved;
        let Ok(mut checkpoint) = outcome else {
            refused += 1;
            continue;
        };
        let kept = scratch.store.path().join(checkpoint.id()).join("0/tree");
        let is_kept = (0..40).any(|n| kept.join(format!("d{n}/moving")).exists());
        assert!(is_kept, "a rollback would delete it");
        checkpoint.dispose().unwrap();
    }
    println!("{refused} of 20 refused");
}
