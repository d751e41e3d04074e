//! A default ACL gives what is made in a directory more than it had: nothing that comes back inherits one.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::mount::{mounted, scratch_on};
use common::{Scratch, fingerprint, set_xattr};
use nono_snapshot::{Checkpoint, Options};

/// The ACL of linux/posix_acl_xattr.h that gives the user 12345 everything.
fn acl() -> Vec<u8> {
    let entry = |tag: u16, permission: u16, id: u32| {
        [&tag.to_le_bytes()[..], &permission.to_le_bytes(), &id.to_le_bytes()].concat()
    };
    let entries =
        [entry(1, 7, !0), entry(2, 7, 12345), entry(4, 5, !0), entry(16, 7, !0), entry(32, 0, !0)];
    [vec![2, 0, 0, 0], entries.concat()].concat()
}

fn begin(scratch: &Scratch, strategy: &str) -> Checkpoint {
    let options = Options {
        strategy: Some(strategy.to_owned()),
        exclude: vec!["excluded".to_owned()],
        ..Options::default()
    };
    Checkpoint::create(&scratch.store, std::slice::from_ref(&scratch.project), &options).unwrap()
}

#[test]
fn nothing_inherits_one() {
    for (kind, strategy) in
        [("ext4", "copy"), ("xfs", "reflink"), ("btrfs", "reflink"), ("btrfs", "btrfs")]
    {
        let Some(mounted) = mounted(kind, "") else { continue };
        let scratch = scratch_on(&mounted, strategy == "btrfs");
        for path in ["dir/file", "dir/inner/file", "excluded/file", "dir/excluded", "file"] {
            scratch.write(path, "before");
        }
        // After they were made, so that none of them has it.
        for path in ["", "dir", "dir/inner"] {
            let at = scratch.project.join(path);
            assert!(set_xattr(&at, "system.posix_acl_default", &acl()), "{kind}: {path}");
        }
        let before = fingerprint(&scratch.project);
        let mut checkpoint = begin(&scratch, strategy);
        fs::remove_dir_all(scratch.project.join("dir/inner")).unwrap();
        fs::remove_file(scratch.project.join("dir/file")).unwrap();
        let paths = ["dir/inner", "dir/file"].map(PathBuf::from);
        checkpoint.rollback(Some(&paths), false).unwrap();
        for path in ["dir/inner/file", "dir/file", "dir/inner"].map(Path::new) {
            assert_eq!(fingerprint(&scratch.project)[path], before[path], "{kind}, {strategy}");
        }
        scratch.write("file", "after");
        checkpoint.rollback(None, false).unwrap();
        assert_eq!(fingerprint(&scratch.project), before, "{kind}, {strategy}");
    }
}
