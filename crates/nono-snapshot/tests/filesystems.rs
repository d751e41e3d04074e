//! One meaning on every file system: each is made in an image file and mounted for the test.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::{Scratch, fingerprint, furnish, wreck};
use nono_snapshot::{Checkpoint, Options, Store};

/// A mounted image that is unmounted, and its loop device detached, however the test ends.
struct Mounted {
    dir: tempfile::TempDir,
}

impl Mounted {
    fn at(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The loop device was attached by mount(8) and goes with the last unmount.
        let _ = Command::new("umount").arg("--lazy").arg(self.at()).status();
    }
}

fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output =
        Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

fn mounted(kind: &str, options: &str) -> Option<Mounted> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: rollback on {kind}: mounting needs root");
        return None;
    }
    let mounted = Mounted { dir: tempfile::tempdir().unwrap() };
    let (image, at) = (mounted.dir.path().join("image"), mounted.at());
    fs::create_dir(&at).unwrap();
    let (image, at) = (image.to_str().unwrap(), at.to_str().unwrap());
    if kind == "tmpfs" {
        run("mount", &["-t", "tmpfs", "-o", "size=64m", "none", at]).unwrap();
        return Some(mounted);
    }
    // Sparse: it takes as much as is written.
    fs::File::create(image).unwrap().set_len(400 << 20).unwrap();
    let flags: &[&str] = match kind {
        "xfs" => &["-q", "-m", "reflink=1"],
        _ => &["-q"],
    };
    let made = run(&format!("mkfs.{kind}"), &[flags, &[image]].concat());
    let made =
        made.and_then(|()| run("mount", &["-t", kind, "-o", &format!("loop{options}"), image, at]));
    if let Err(error) = made {
        println!("SKIPPED: rollback on {kind}: {error}");
        return None;
    }
    Some(mounted)
}

fn scratch_on(mounted: &Mounted, subvolume: bool) -> Scratch {
    let root = tempfile::tempdir_in(mounted.at()).unwrap();
    let project = root.path().join("project");
    if subvolume {
        run("btrfs", &["-q", "subvolume", "create", project.to_str().unwrap()]).unwrap();
    } else {
        fs::create_dir(&project).unwrap();
    }
    let store = Store::open(&root.path().join("state")).unwrap();
    Scratch { root, project, store }
}

/// The same for every strategy: list, roll back single paths, nest, commit, roll back everything.
fn conforms(scratch: &Scratch, strategy: &str, expected: &str) {
    furnish(&scratch.project);
    let before = fingerprint(&scratch.project);
    let options = Options { strategy: Some(strategy.to_owned()), ..Options::default() };
    let make = || {
        Checkpoint::create(&scratch.store, std::slice::from_ref(&scratch.project), &options)
            .unwrap()
    };
    let mut outer = make();
    assert_eq!(outer.strategy().0, expected, "{}", outer.strategy().1);
    assert_eq!(outer.changes().unwrap(), []);
    wreck(&scratch.project);
    let wrecked = fingerprint(&scratch.project);
    let mut inner = make();
    scratch.write("plain", "third version");
    fs::remove_dir_all(scratch.project.join("link")).unwrap();
    inner.rollback(Some(&[PathBuf::from("plain")]), false).unwrap();
    assert_eq!(scratch.read("plain"), "overwritten in place");
    scratch.write("plain", "third version");
    scratch.write("kept", "kept");
    inner.commit(Some(&[PathBuf::from("kept")])).unwrap();
    inner.rollback(None, false).unwrap();
    assert_eq!(scratch.read("kept"), "kept");
    fs::remove_file(scratch.project.join("kept")).unwrap();
    let mut now = fingerprint(&scratch.project);
    // Its times moved with the file that was kept and deleted just now.
    now.insert(PathBuf::new(), wrecked[Path::new("")].clone());
    assert_eq!(now, wrecked, "{expected}: the inner checkpoint");
    let listed: Vec<_> = outer.changes().unwrap().into_iter().map(|change| change.path).collect();
    assert!(
        listed.contains(&PathBuf::from("plain")) && !listed.contains(&PathBuf::from("read-only")),
        "{listed:?}"
    );
    outer.rollback(None, false).unwrap();
    assert_eq!(fingerprint(&scratch.project), before, "{expected}: the outer checkpoint");
    outer.purge().unwrap();
    scratch.store.recover().unwrap();
    assert_eq!(
        fs::read_dir(scratch.store.path()).unwrap().count(),
        0,
        "{expected} leaves nothing behind"
    );
}

#[test]
fn ext4() {
    let Some(mounted) = mounted("ext4", "") else { return };
    conforms(&scratch_on(&mounted, false), "auto", "copy");
}

#[test]
fn tmpfs() {
    let Some(mounted) = mounted("tmpfs", "") else { return };
    conforms(&scratch_on(&mounted, false), "auto", "copy");
}

#[test]
fn xfs() {
    let Some(mounted) = mounted("xfs", "") else { return };
    conforms(&scratch_on(&mounted, false), "auto", "reflink");
    conforms(&scratch_on(&mounted, false), "copy", "copy");
}

#[test]
fn btrfs() {
    let Some(mounted) = mounted("btrfs", "") else { return };
    conforms(&scratch_on(&mounted, true), "auto", "btrfs");
    conforms(&scratch_on(&mounted, false), "auto", "reflink");
}

#[test]
fn what_is_mounted_there_or_inside_is_refused() {
    let Some(mounted) = mounted("tmpfs", "") else { return };
    let create = |dir: &Path| {
        let store = Store::open(&mounted.dir.path().join("state")).unwrap();
        Checkpoint::create(&store, &[dir.to_owned()], &Options::default()).unwrap_err().code()
    };
    assert_eq!(create(&mounted.at()), "ERR_NONO_MOUNT_POINT");
    let around = mounted.dir.path().join("around");
    fs::create_dir_all(around.join("inner")).unwrap();
    run(
        "mount",
        &["--bind", mounted.at().to_str().unwrap(), around.join("inner").to_str().unwrap()],
    )
    .unwrap();
    let code = create(&around);
    run("umount", &[around.join("inner").to_str().unwrap()]).unwrap();
    assert_eq!(code, "ERR_NONO_SPANS_FILESYSTEMS");
}

/// The store is elsewhere, so the pre-image is kept beside the directory.
#[test]
fn a_store_on_another_file_system() {
    let Some(mounted) = mounted("tmpfs", "") else { return };
    let mut scratch = scratch_on(&mounted, false);
    let elsewhere = tempfile::tempdir().unwrap();
    scratch.store = Store::open(elsewhere.path()).unwrap();
    conforms(&scratch, "auto", "copy");
    assert!(!scratch.root.path().join(".nono-rollback").exists());
}
