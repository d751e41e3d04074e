//! A directory that is itself on an overlay, as in a container, or holds the layers of one.

mod common;

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use common::mount::{Mounted, mounted, run};
use common::{fingerprint, memory, scratch_in, set_xattr, xattrs};
use nono_snapshot::{Checkpoint, Options, Store};

/// An overlay over a directory with a file.
fn overlay() -> Option<(Mounted, PathBuf)> {
    let mounted = mounted("ext4", "")?;
    let at = |name: &str| mounted.at().join(name);
    for name in ["lower/project", "upper", "work", "merged"] {
        fs::create_dir_all(at(name)).unwrap();
    }
    fs::write(at("lower/project/file"), "before").unwrap();
    let layers = format!(
        "lowerdir={},upperdir={},workdir={}",
        at("lower").display(),
        at("upper").display(),
        at("work").display()
    );
    let merged = at("merged");
    run("mount", &["-t", "overlay", "nono", "-o", &layers, merged.to_str().unwrap()]).unwrap();
    Some((mounted, merged))
}

/// overlayfs doesn't rename a directory of a lower layer: said at the beginning, not when it is to come back.
#[test]
fn a_directory_of_a_lower_layer_is_refused_and_a_new_one_comes_back() {
    let Some((_mounted, merged)) = overlay() else { return };
    let outcome = std::panic::catch_unwind(|| {
        let store = Store::open(&merged.join("state")).unwrap();
        let create =
            |dir: &Path| Checkpoint::create(&store, &[dir.to_owned()], &Options::default());
        let project = merged.join("project");
        let before = fingerprint(&project);
        let error = create(&project).unwrap_err();
        assert_eq!(error.code(), "ERR_NONO_STRATEGY_UNSUPPORTED");
        assert!(error.to_string().contains("EXDEV"), "{error}");
        assert_eq!(fingerprint(&project), before);
        assert_eq!(fs::read_dir(store.path()).unwrap().count(), 0);
        let new = merged.join("new");
        fs::create_dir_all(new.join("dir")).unwrap();
        fs::write(new.join("dir/file"), "before").unwrap();
        let before = fingerprint(&new);
        let mut checkpoint = create(&new).unwrap();
        fs::remove_dir_all(new.join("dir")).unwrap();
        checkpoint.rollback(None, false).unwrap();
        assert_eq!(fingerprint(&new), before);
        checkpoint.purge().unwrap();
    });
    run("umount", &[merged.to_str().unwrap()]).unwrap();
    outcome.unwrap();
}

/// Containers of an ordinary user have their layers in a directory like any other: whiteouts, and notes in
/// attributes, are somebody's data.
#[test]
fn layers_in_the_directory_come_back_as_they_were() {
    let scratch = scratch_in(&memory());
    for path in ["layer/dir/file", "layer/opaque/file", "layer/opaque/deleted"] {
        scratch.write(path, path);
    }
    let at = |path: &str| scratch.project.join(path);
    let whiteout = |path: &str| {
        let kind = rustix::fs::FileType::CharacterDevice;
        rustix::fs::mknodat(rustix::fs::CWD, at(path), kind, 0o600.into(), 0).is_ok()
    };
    let has_whiteouts = whiteout("layer/dir/whiteout");
    if !set_xattr(&at("layer/opaque"), "user.overlay.opaque", b"y") {
        println!("SKIPPED: rollback of layers: the file system has no attributes");
        return;
    }
    let before = fingerprint(&scratch.project);
    let mut checkpoint = scratch.checkpoint(&[]);
    fs::remove_file(at("layer/opaque/deleted")).unwrap();
    scratch.write("layer/dir/file", "after");
    checkpoint.rollback(Some(&[PathBuf::from("layer")]), false).unwrap();
    let notes = xattrs(&at("layer/opaque"));
    assert_eq!(
        notes.get("user.overlay.opaque\0").or(notes.get("user.overlay.opaque")),
        Some(&b"y".to_vec())
    );
    fs::remove_dir_all(at("layer")).unwrap();
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(fingerprint(&scratch.project), before);
    if has_whiteouts {
        assert!(at("layer/dir/whiteout").symlink_metadata().unwrap().file_type().is_char_device());
    }
}
