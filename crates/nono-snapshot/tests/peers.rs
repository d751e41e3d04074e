//! What other tools that undo an agent's work got wrong, each as a test.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{IMMUTABLE, as_nobody, fingerprint, mount, scratch, scratch_in, set_flags};
use nono_snapshot::{ChangeKind, Checkpoint, Store};

/// Modes were set on rewritten files only, and without the special bits.
#[test]
fn a_mode_alone_is_restored_with_its_special_bits() {
    let scratch = scratch();
    scratch.write("tool", "#!/bin/sh");
    let tool = scratch.project.join("tool");
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o6755)).unwrap();
    fs::create_dir(scratch.project.join("shared")).unwrap();
    let shared = scratch.project.join("shared");
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o1770)).unwrap();
    let before = fingerprint(&scratch.project);
    let mut checkpoint = scratch.checkpoint(&[]);
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o777)).unwrap();
    fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
    let changes = checkpoint.changes().unwrap();
    let kinds: Vec<_> = changes.into_iter().map(|change| change.kind).collect();
    assert_eq!(kinds, [ChangeKind::Mode, ChangeKind::Mode]);
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(fingerprint(&scratch.project), before);
}

/// Parents were recreated with a default mode, empty directories not at all, and new ones stayed.
#[test]
fn directories_come_back_as_they_were_and_new_ones_go() {
    let scratch = scratch();
    scratch.write("private/deep/file", "x");
    for path in ["private", "private/deep"] {
        fs::set_permissions(scratch.project.join(path), fs::Permissions::from_mode(0o700)).unwrap();
    }
    fs::create_dir(scratch.project.join("empty")).unwrap();
    let before = fingerprint(&scratch.project);
    let mut checkpoint = scratch.checkpoint(&[]);
    fs::remove_dir_all(scratch.project.join("private")).unwrap();
    fs::remove_dir(scratch.project.join("empty")).unwrap();
    fs::create_dir_all(scratch.project.join("new/er/est")).unwrap();
    // The file alone brings its parents, with their modes.
    checkpoint.rollback(Some(&[PathBuf::from("private/deep/file")]), false).unwrap();
    let mode = |path: &str| fs::metadata(scratch.project.join(path)).unwrap().mode() & 0o7777;
    assert_eq!((mode("private"), mode("private/deep")), (0o700, 0o700));
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(fingerprint(&scratch.project), before);
}

/// Symbolic links were followed, which copied secrets from outside into the store, or never recreated.
#[test]
fn links_are_links() {
    let scratch = scratch();
    let secret = scratch.root.path().join("secret");
    fs::write(&secret, "hunter2").unwrap();
    symlink(&secret, scratch.project.join("link")).unwrap();
    symlink(scratch.root.path(), scratch.project.join("directory")).unwrap();
    let before = fingerprint(&scratch.project);
    let mut checkpoint = scratch.checkpoint(&[]);
    let search = std::process::Command::new("grep")
        .args(["-r", "-l", "hunter2"])
        .arg(scratch.store.path())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&search.stdout), "", "the secret is in the store");
    for name in ["link", "directory"] {
        fs::remove_file(scratch.project.join(name)).unwrap();
    }
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(fingerprint(&scratch.project), before);
    assert_eq!(fs::read_to_string(secret).unwrap(), "hunter2");
}

/// Version control, secrets, ignored files and large directories were left out unasked.
#[test]
fn nothing_is_left_out_unasked() {
    let scratch = scratch_in(Path::new("/dev/shm"));
    let names =
        [".git/HEAD", ".git/objects/ab/cd", ".env", "node_modules/a/index.js", "data.sqlite"];
    for path in names {
        scratch.write(path, path);
    }
    scratch.write(".gitignore", ".env\nnode_modules\n*.sqlite\nmany\n");
    for number in 0..12_000 {
        scratch.write(&format!("many/{number}"), "");
    }
    let before = fingerprint(&scratch.project);
    let mut checkpoint = scratch.checkpoint(&[]);
    for path in [".git", "node_modules", "many"] {
        fs::remove_dir_all(scratch.project.join(path)).unwrap();
    }
    scratch.write(".env", "leaked");
    fs::remove_file(scratch.project.join("data.sqlite")).unwrap();
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(fingerprint(&scratch.project), before);
}

/// Size and time were trusted: an agent that sets the time back changed a file unseen.
#[test]
fn a_forged_time_hides_nothing() {
    let scratch = scratch();
    scratch.write("file", "good");
    let path = scratch.project.join("file");
    let hour = std::time::Duration::from_secs(3600);
    let old = fs::metadata(&path).unwrap().modified().unwrap() - hour;
    let set = |path: &Path| {
        fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    };
    set(&path);
    std::thread::sleep(std::time::Duration::from_millis(50));
    let mut checkpoint = scratch.checkpoint(&[]);
    std::thread::sleep(std::time::Duration::from_millis(50));
    scratch.write("file", "evil");
    set(&path);
    let changes = checkpoint.changes().unwrap();
    assert_eq!((changes.len(), changes[0].kind), (1, ChangeKind::Modified));
}

/// The record was written at a clean end only: after a crash the state was there and could not be
/// found. Here it is found from another process, by the id alone.
#[test]
fn the_record_is_there_from_the_start() {
    let scratch = scratch();
    scratch.write("file", "before");
    let id = scratch.checkpoint(&[]).id().to_owned();
    scratch.write("file", "after");
    let store = Store::open(scratch.store.path()).unwrap();
    let listed = store.list().unwrap();
    assert_eq!((listed.len(), listed[0].complete), (1, true));
    Checkpoint::open(&store, &id).unwrap().rollback(None, false).unwrap();
    assert_eq!(scratch.read("file"), "before");
}

/// What could not be deleted was a warning, and the rest of the restore incomplete. A whole tree
/// changes places, so nothing in it has to be deletable; what stays in the store is reported.
#[test]
fn what_cannot_be_deleted_is_not_in_the_way() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: rollback of what another user made immutable: needs root");
        return;
    }
    let scratch = scratch();
    scratch.write("file", "before");
    let path = scratch.root.path().to_str().unwrap();
    mount::run("chown", &["-R", "65534:65534", path]).unwrap();
    let before = fingerprint(&scratch.project);
    let mut checkpoint = None;
    as_nobody(|| {
        checkpoint = Some(scratch.checkpoint(&[]));
        scratch.write("stuck", "x");
    });
    let mut checkpoint = checkpoint.unwrap();
    if !set_flags(&scratch.project.join("stuck"), IMMUTABLE) {
        println!("SKIPPED: rollback of an immutable file: the file system has no flags");
        return;
    }
    as_nobody(|| {
        checkpoint.rollback(None, false).unwrap();
        assert_eq!(fingerprint(&scratch.project), before);
        let error = checkpoint.purge().unwrap_err();
        assert!(error.path().is_some_and(|path| path.ends_with("tree/stuck")), "{error}");
    });
    checkpoint.purge().unwrap();
}
