//! The flags of chattr(1): they come back, and where they forbid a rollback it is refused by name before
//! anything starts.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::mount::{mounted, run, scratch_on};
use common::{
    APPEND, CASEFOLD, IMMUTABLE, NOATIME, NOCOW, NODUMP, Scratch, fingerprint, flags, set_flags,
};
use nono_snapshot::{Change, ChangeKind, Checkpoint, Options};

const KINDS: [(&str, &str); 4] =
    [("ext4", "copy"), ("xfs", "reflink"), ("btrfs", "reflink"), ("btrfs", "btrfs")];

/// On each file system, with the strategy that fits it.
fn each(work: impl Fn(&Scratch, &str, &dyn Fn() -> Checkpoint)) {
    for (kind, strategy) in KINDS {
        let Some(mounted) = mounted(kind, "") else { continue };
        let scratch = scratch_on(&mounted, strategy == "btrfs");
        let options = Options { strategy: Some(strategy.to_owned()), ..Options::default() };
        let dirs = std::slice::from_ref(&scratch.project);
        work(&scratch, kind, &|| Checkpoint::create(&scratch.store, dirs, &options).unwrap());
        loosen(scratch.root.path());
    }
}

/// So that the test's directories can be deleted.
fn loosen(root: &Path) {
    run("chattr", &["-R", "-f", "-i", "-a", root.to_str().unwrap()]).unwrap_or_default();
}

fn ends_with_nothing_left(scratch: &Scratch, mut checkpoint: Checkpoint) {
    checkpoint.purge().unwrap();
    scratch.store.recover().unwrap();
    assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
}

#[test]
fn all_of_them_come_back() {
    each(|scratch, kind, make| {
        for (name, wanted) in [
            ("plain", 0),
            ("no-dump", NODUMP),
            ("no-time", NOATIME | NODUMP),
            ("fixed", IMMUTABLE),
            ("log", APPEND),
            ("dir/inside", IMMUTABLE | NODUMP),
        ] {
            scratch.write(name, name);
            assert!(set_flags(&scratch.project.join(name), wanted), "{kind}: {name}");
        }
        if kind == "btrfs" {
            scratch.write("uncopied", "");
            assert!(set_flags(&scratch.project.join("uncopied"), NOCOW));
            scratch.write("uncopied", "written in place");
        }
        assert!(set_flags(&scratch.project.join("dir"), IMMUTABLE | NOATIME));
        let before = fingerprint(&scratch.project);
        let mut checkpoint = make();
        assert_eq!(checkpoint.changes().unwrap(), [], "{kind}");
        loosen(&scratch.project);
        scratch.write("plain", "wrecked");
        fs::remove_dir_all(scratch.project.join("dir")).unwrap();
        for name in ["no-dump", "no-time", "fixed", "log"] {
            fs::remove_file(scratch.project.join(name)).unwrap();
        }
        // The agent's own, which would be in the way of the deletion.
        scratch.write("agent/log", "x");
        assert!(set_flags(&scratch.project.join("agent/log"), APPEND));
        assert!(set_flags(&scratch.project.join("agent"), IMMUTABLE));
        checkpoint.rollback(None, false).unwrap();
        assert_eq!(fingerprint(&scratch.project), before, "{kind}");
        ends_with_nothing_left(scratch, checkpoint);
        assert_eq!(fingerprint(&scratch.project), before, "{kind}");
    });
}

#[test]
fn they_are_listed_when_they_change() {
    each(|scratch, kind, make| {
        for name in ["gained", "lost", "dir/same"] {
            scratch.write(name, name);
        }
        set_flags(&scratch.project.join("lost"), NODUMP);
        let mut checkpoint = make();
        set_flags(&scratch.project.join("gained"), NODUMP);
        set_flags(&scratch.project.join("lost"), 0);
        set_flags(&scratch.project.join("dir"), NOATIME);
        let changes = checkpoint.changes().unwrap();
        let listed =
            changes.iter().map(|Change { path, kind, .. }| (path.to_str().unwrap(), *kind));
        let wanted = ["dir", "gained", "lost"].map(|path| (path, ChangeKind::Xattr));
        assert_eq!(listed.collect::<Vec<_>>(), wanted, "{kind}");
        let paths = ["dir", "gained"].map(PathBuf::from);
        checkpoint.rollback(Some(&paths), false).unwrap();
        assert_eq!(flags(&scratch.project.join("gained")), 0, "{kind}");
        assert_eq!(flags(&scratch.project.join("dir")), 0, "{kind}");
        checkpoint.commit(Some(&[PathBuf::from("lost")])).unwrap();
        assert_eq!(checkpoint.changes().unwrap(), [], "{kind}");
    });
}

/// What can't be renamed, and a directory in which nothing can, is named before anything starts.
#[test]
fn what_cannot_be_moved_is_refused_by_name() {
    each(|scratch, kind, make| {
        let refused = |checkpoint: &mut Checkpoint, paths: Option<&[PathBuf]>, named: &Path| {
            let error = checkpoint.rollback(paths, false).unwrap_err();
            assert_eq!(error.code(), "ERR_NONO_IMMUTABLE", "{kind}: {error}");
            assert_eq!(error.path(), Some(named), "{kind}");
            assert!(!scratch.store.list().unwrap()[0].unfinished);
        };
        for name in ["first", "fixed", "dir/inside", "gone"] {
            scratch.write(name, "before");
        }
        assert!(set_flags(&scratch.project.join("gone"), IMMUTABLE));
        let mut checkpoint = make();
        loosen(&scratch.project);
        fs::remove_file(scratch.project.join("gone")).unwrap();
        for name in ["first", "fixed", "dir/inside"] {
            scratch.write(name, "after");
        }
        for (flagged, path) in [("fixed", "fixed"), ("dir", "dir/inside")] {
            set_flags(&scratch.project.join(flagged), IMMUTABLE);
            let paths = ["first", path].map(PathBuf::from);
            refused(&mut checkpoint, Some(&paths), &scratch.project.join(flagged));
            assert_eq!(scratch.read("first"), "after", "{kind}: nothing was changed");
            set_flags(&scratch.project.join(flagged), 0);
        }
        let paths = ["first", "gone"].map(PathBuf::from);
        refused(&mut checkpoint, Some(&paths), &scratch.project.join("gone"));
        assert_eq!(scratch.read("first"), "after", "{kind}: nothing was changed");
        for fixed in [&*scratch.project, scratch.root.path()] {
            assert!(set_flags(fixed, APPEND));
            refused(&mut checkpoint, None, fixed);
            let options = Options::default();
            let dirs = std::slice::from_ref(&scratch.project);
            let error = Checkpoint::create(&scratch.store, dirs, &options).unwrap_err();
            assert_eq!(error.code(), "ERR_NONO_IMMUTABLE", "{kind}: {error}");
            set_flags(fixed, 0);
        }
        checkpoint.rollback(None, false).unwrap();
        assert_eq!(scratch.read("dir/inside"), "before");
        assert_eq!(flags(&scratch.project.join("gone")), IMMUTABLE);
    });
}

/// The discarded tree is deleted, a file that has a name elsewhere stays what it was there.
#[test]
fn a_name_outside_keeps_them() {
    each(|scratch, kind, make| {
        if kind == "btrfs" {
            return; // No link leads out of a subvolume, and elsewhere it is the same code.
        }
        let mut checkpoint = make();
        scratch.write("linked", "x");
        let outside = scratch.root.path().join("outside");
        fs::hard_link(scratch.project.join("linked"), &outside).unwrap();
        assert!(set_flags(&outside, IMMUTABLE));
        checkpoint.rollback(None, false).unwrap();
        assert_eq!(fs::read_dir(&scratch.project).unwrap().count(), 0);
        ends_with_nothing_left(scratch, checkpoint);
        assert_eq!(flags(&outside), IMMUTABLE, "{kind}");
    });
}

/// Names in such a directory are looked up without regard to case. It can become one only while it is
/// empty.
#[test]
fn a_directory_without_regard_to_case() {
    let Some(mounted) = common::mount::made("ext4", &["-O", "casefold"], "") else { return };
    let scratch = scratch_on(&mounted, false);
    let dir = scratch.project.join("dir");
    fs::create_dir(&dir).unwrap();
    if !set_flags(&dir, CASEFOLD) {
        println!("SKIPPED: rollback of case-insensitive directories: the kernel has none");
        return;
    }
    scratch.write("dir/Name", "x");
    assert_eq!(scratch.read("dir/nAME"), "x");
    let mut checkpoint = scratch.checkpoint(&[]);
    fs::remove_dir_all(&dir).unwrap();
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(scratch.read("dir/nAME"), "x");
    assert_eq!(flags(&dir), CASEFOLD);
}

/// To which quotas are counted. New entries get that of a directory with the flag P.
#[test]
fn projects_come_back() {
    let Some(mounted) = mounted("xfs", "") else { return };
    let scratch = scratch_on(&mounted, false);
    let project = scratch.project.to_str().unwrap();
    if run("chattr", &["-p", "42", "+P", project]).is_err() {
        println!("SKIPPED: rollback of projects: chattr can't set them");
        return;
    }
    scratch.write("dir/file", "x");
    let listed = || {
        let of = |what: &str| std::process::Command::new("lsattr").args(["-p", what]).output();
        ["", "dir"].map(|dir| {
            let output = of(scratch.project.join(dir).to_str().unwrap()).unwrap().stdout;
            String::from_utf8(output)
                .unwrap()
                .lines()
                .map(|line| line[..5].trim().to_owned())
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(listed(), [["42"], ["42"]]);
    for strategy in ["reflink", "copy"] {
        let options = Options { strategy: Some(strategy.to_owned()), ..Options::default() };
        let dirs = std::slice::from_ref(&scratch.project);
        let mut checkpoint = Checkpoint::create(&scratch.store, dirs, &options).unwrap();
        fs::remove_file(scratch.project.join("dir/file")).unwrap();
        checkpoint.rollback(Some(&[PathBuf::from("dir/file")]), false).unwrap();
        assert_eq!(listed(), [["42"], ["42"]], "{strategy}: one path");
        checkpoint.rollback(None, false).unwrap();
        assert_eq!(listed(), [["42"], ["42"]], "{strategy}");
    }
}

/// An ordinary user can't give a copy what only root can set: said by name, and nothing is left behind.
#[test]
fn what_an_ordinary_user_cannot_set_is_refused_at_the_beginning() {
    let Some(mounted) = mounted("ext4", "") else { return };
    let scratch = scratch_on(&mounted, false);
    scratch.write("dir/fixed", "x");
    run("chown", &["-R", "65534:65534", scratch.root.path().to_str().unwrap()]).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(mounted.dir.path(), open).unwrap();
    let fixed = scratch.project.join("dir/fixed");
    assert!(set_flags(&fixed, IMMUTABLE));
    common::as_nobody(|| {
        let dirs = std::slice::from_ref(&scratch.project);
        let error = Checkpoint::create(&scratch.store, dirs, &Options::default()).unwrap_err();
        assert_eq!(error.path(), Some(fixed.as_path()), "{error}");
        assert!(error.to_string().contains("flags"), "{error}");
        assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
    });
    loosen(scratch.root.path());
}
