//! Somebody else who can write in the directory, or beside it, goes on while a checkpoint of it is made, looked at
//! and rolled back to: nothing outside of it is written or shown.

mod common;

use std::fs;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use common::mount::{mounted, scratch_on};
use common::{fingerprint, scratch, scratch_in};
use nono_snapshot::{Checkpoint, FileDiff, Options};

/// On btrfs what comes back waits in the directory itself, where others can rename it.
#[test]
fn a_link_in_the_place_of_what_waits_to_come_back() {
    let Some(mounted) = mounted("btrfs", "") else { return };
    let scratch = scratch_on(&mounted, true);
    // It takes a while to get there.
    let deep = "deep/".repeat(150);
    let names: Vec<String> = (0..150).map(|n| format!("{deep}d{n}")).collect();
    for name in &names {
        scratch.write(&format!("{name}/file"), "x");
    }
    let options = Options { strategy: Some("btrfs".to_owned()), ..Options::default() };
    let dirs = std::slice::from_ref(&scratch.project);
    let mut checkpoint = Checkpoint::create(&scratch.store, dirs, &options).unwrap();
    let (stage, elsewhere) =
        (scratch.project.join(".nono-rollback-stage"), scratch.root.path().join("elsewhere"));
    // By the names that are given to what waits.
    for n in 0..=names.len() {
        fs::create_dir_all(elsewhere.join(n.to_string())).unwrap();
    }
    let untouched = fingerprint(&elsewhere);
    let mut swapped = 0;
    for round in 0..5 {
        for name in &names {
            fs::remove_dir_all(scratch.project.join(name)).unwrap();
        }
        let paths: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
        let done = AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            let intruder = scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    if !stage.join((15 * round + 10).to_string()).exists() {
                        continue;
                    }
                    fs::rename(&stage, scratch.project.join(format!("aside-{round}"))).unwrap();
                    symlink(&elsewhere, &stage).unwrap();
                    return true;
                }
                false
            });
            let outcome = checkpoint.rollback(Some(&paths), false);
            done.store(true, Ordering::Relaxed);
            swapped += usize::from(intruder.join().unwrap());
            outcome
        });
        assert_eq!(fingerprint(&elsewhere), untouched, "round {round}: {outcome:?}");
        checkpoint.rollback(Some(&paths), false).unwrap();
        assert!(names.iter().all(|name| scratch.read(&format!("{name}/file")) == "x"));
    }
    assert!(swapped > 0, "nobody got between");
}

/// Between the list and the look at a file there is as much time as the reader takes.
#[test]
fn no_link_is_followed_to_what_a_change_shows() {
    let scratch = scratch();
    scratch.write("dir/file", "before\n");
    scratch.write("other", "before\n");
    let mut checkpoint = scratch.checkpoint(&[]);
    scratch.write("dir/file", "after\n");
    scratch.write("other", "after\n");
    let shown = |checkpoint: &mut Checkpoint, path: &str| {
        let changes = checkpoint.changes().unwrap();
        changes.into_iter().find(|change| change.path == Path::new(path)).unwrap()
    };
    let (nested, file) = (shown(&mut checkpoint, "dir/file"), shown(&mut checkpoint, "other"));
    let diff = |change: &nono_snapshot::Change| {
        checkpoint.diff(change.before_file.as_deref(), change.after_file.as_deref())
    };
    let text = "@@ -1 +1 @@\n-before\n+after\n".to_owned();
    assert_eq!(diff(&nested).unwrap(), FileDiff::Text(text.clone()));
    assert_eq!(diff(&file).unwrap(), FileDiff::Text(text));

    let secret = scratch.root.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "not to be shown\n").unwrap();
    fs::remove_dir_all(scratch.project.join("dir")).unwrap();
    symlink(&secret, scratch.project.join("dir")).unwrap();
    assert_eq!(diff(&nested).unwrap_err().code(), "ERR_NONO_ROLLBACK_IO");

    fs::remove_file(scratch.project.join("other")).unwrap();
    symlink(secret.join("file"), scratch.project.join("other")).unwrap();
    let FileDiff::Text(text) = diff(&file).unwrap() else { panic!("a link is its text") };
    assert!(text.contains("secret/file") && !text.contains("not to be shown"), "{text}");

    // Nor is anybody waited for.
    fs::remove_file(scratch.project.join("other")).unwrap();
    let mode = 0o600.into();
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(rustix::fs::CWD, scratch.project.join("other"), kind, mode, 0).unwrap();
    assert_eq!(diff(&file).unwrap(), FileDiff::Text("@@ -1 +0,0 @@\n-before\n".to_owned()));
}

/// What root keeps beside the directory, somebody could lead elsewhere who has made the place for it.
#[test]
fn a_place_that_others_made_or_can_change_is_refused() {
    // The store is on another file system, so what is kept is kept beside the directory.
    let project = scratch();
    let store = scratch_in(Path::new("/dev/shm"));
    let beside = project.root.path().join(".nono-rollback");
    let create = || {
        let options = Options { strategy: Some("copy".to_owned()), ..Options::default() };
        Checkpoint::create(&store.store, std::slice::from_ref(&project.project), &options)
    };
    let same_device = {
        use std::os::unix::fs::MetadataExt;
        let device = |path: &Path| path.metadata().unwrap().dev();
        device(project.root.path()) == device(store.root.path())
    };
    if same_device {
        println!("SKIPPED: a place beside the directory: there is one file system only");
        return;
    }
    let is_refused = |why: &str| {
        let error = create().unwrap_err();
        assert_eq!(error.code(), "ERR_NONO_STORE_UNUSABLE", "{why}: {error}");
        assert!(error.to_string().contains("is there already"), "{why}: {error}");
        assert_eq!(fs::read_dir(store.store.path()).unwrap().count(), 0, "{why}");
        assert_eq!(fs::read_dir(&beside).unwrap().count(), 0, "{why}");
    };
    fs::create_dir(&beside).unwrap();
    fs::set_permissions(&beside, PermissionsExt::from_mode(0o777)).unwrap();
    is_refused("others can write to it");
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(&beside, PermissionsExt::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&beside, Some(12345), None).unwrap();
        is_refused("it is somebody's");
    }
    fs::remove_dir(&beside).unwrap();
    symlink(store.root.path(), &beside).unwrap();
    assert!(create().is_err(), "it is a link");
    fs::remove_file(&beside).unwrap();
    fs::DirBuilder::new().mode(0o700).create(&beside).unwrap();
    let mut checkpoint = create().unwrap();
    checkpoint.rollback(None, false).unwrap();
    checkpoint.purge().unwrap();
}
