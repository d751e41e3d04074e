//! Files that belong to somebody else, which only root can give back.

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use common::mount::run;
use common::{as_nobody, scratch};

/// A program that runs as its owner comes back as that of whoever brings it back: it does not run as them.
#[test]
fn a_program_of_somebody_else_loses_its_special_bits() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: rollback of a program of somebody else's: giving one away needs root");
        return;
    }
    let scratch = scratch();
    for name in ["theirs", "group", "own"] {
        scratch.write(name, "#!/bin/sh\n");
    }
    run("chown", &["-R", "65534:65534", scratch.root.path().to_str().unwrap()]).unwrap();
    let at = |name: &str| scratch.project.join(name);
    chown(at("theirs"), Some(12345), None).unwrap();
    chown(at("group"), None, Some(12345)).unwrap();
    for (name, mode) in [("theirs", 0o4755), ("group", 0o2755), ("own", 0o6755)] {
        fs::set_permissions(at(name), PermissionsExt::from_mode(mode)).unwrap();
    }
    as_nobody(|| {
        let mut checkpoint = scratch.checkpoint(&[]);
        scratch.write("new", "x");
        checkpoint.rollback(None, false).unwrap();
        checkpoint.purge().unwrap();
    });
    let now = ["theirs", "group", "own"].map(|name| {
        let meta = at(name).metadata().unwrap();
        (meta.uid(), meta.gid(), meta.mode() & 0o7777)
    });
    assert_eq!(now, [(65534, 65534, 0o755), (65534, 65534, 0o755), (65534, 65534, 0o6755)]);
}

/// Only its owner, or who can write to it, can give a directory another parent.
#[test]
fn a_directory_that_cannot_be_renamed_is_refused() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: rollback of a directory of somebody else's: giving one away needs root");
        return;
    }
    let scratch = scratch();
    scratch.write("file", "x");
    run("chown", &["65534:65534", scratch.root.path().to_str().unwrap()]).unwrap();
    run("chown", &["-R", "65534:65534", scratch.store.path().to_str().unwrap()]).unwrap();
    as_nobody(|| {
        let dirs = std::slice::from_ref(&scratch.project);
        let error = nono_snapshot::Checkpoint::create(&scratch.store, dirs, &Default::default());
        let error = error.unwrap_err();
        assert_eq!(error.code(), "ERR_NONO_STRATEGY_UNSUPPORTED", "{error}");
        assert!(error.to_string().contains("you can't rename it"), "{error}");
        assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
    });
}
