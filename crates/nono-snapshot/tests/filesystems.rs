//! One meaning on every file system: each is made in an image file and mounted for the test.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::mount::{Pool, mounted, run, scratch_on};
use common::{Scratch, as_nobody, fingerprint, furnish, in_overlay, wreck};
use nono_snapshot::{Checkpoint, Mounter, Options, Store};

/// What is excluded is neither listed nor restored nor deleted, whatever strategy keeps the rest.
fn leaves_excluded_alone(scratch: &Scratch, strategy: &str, expected: &str) {
    for path in ["src/main", "node_modules/a/b", ".env.local", "pkg/node_modules/c", "target/out"] {
        scratch.write(path, path);
    }
    let options = Options {
        strategy: Some(strategy.to_owned()),
        exclude: ["node_modules", "/target/", "*.local"].map(str::to_owned).to_vec(),
        ..Options::default()
    };
    let dirs = std::slice::from_ref(&scratch.project);
    let mut checkpoint = Checkpoint::create(&scratch.store, dirs, &options).unwrap();
    assert_eq!(checkpoint.strategy().0, expected, "{}", checkpoint.strategy().1);
    let before = fingerprint(&scratch.project);
    scratch.write("src/main", "wrecked");
    scratch.write("node_modules/a/b", "changed while excluded");
    scratch.write("newdir/node_modules/d", "new while excluded");
    scratch.write("newdir/other", "new");
    fs::remove_dir_all(scratch.project.join("pkg/node_modules")).unwrap();
    fs::remove_file(scratch.project.join(".env.local")).unwrap();
    let listed: Vec<_> =
        checkpoint.changes().unwrap().into_iter().map(|change| change.path).collect();
    assert_eq!(listed, ["newdir", "newdir/other", "src/main"].map(PathBuf::from));
    scratch.write("both", "restored alone");
    checkpoint
        .rollback(Some(&[PathBuf::from("both"), PathBuf::from("node_modules")]), false)
        .unwrap();
    assert!(!scratch.project.join("both").exists());
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(scratch.read("src/main"), "src/main");
    assert_eq!(scratch.read("node_modules/a/b"), "changed while excluded");
    assert_eq!(scratch.read("newdir/node_modules/d"), "new while excluded");
    assert!(!scratch.project.join("newdir/other").exists());
    assert_eq!(scratch.read("target/out"), "target/out");
    assert!(!scratch.project.join("pkg/node_modules").exists());
    assert!(!scratch.project.join(".env.local").exists(), "deleted while excluded");
    let after = fingerprint(&scratch.project);
    for path in ["", "src", "pkg", "src/main"].map(Path::new) {
        assert_eq!(after[path], before[path], "{expected}: {path:?}");
    }
    checkpoint.purge().unwrap();
    scratch.store.recover().unwrap();
    assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
}

/// Does in the directory what a name stands for.
fn perform(what: &str, root: &Path) {
    match what {
        "wreck" => wreck(root),
        "more" => {
            fs::write(root.join("plain"), "third version").unwrap();
            fs::write(root.join("kept"), "kept").unwrap();
            fs::remove_dir_all(root.join("link")).unwrap();
            fs::rename(root.join("moved"), root.join("locked/again")).unwrap();
        }
        other => panic!("unknown work {other}"),
    }
}

/// Runs in the overlay, for [`act`].
#[test]
fn child() {
    let Ok(task) = std::env::var("NONO_WORK") else { return };
    let (what, root) = task.split_once('|').unwrap();
    perform(what, Path::new(root));
}

/// Does it as a sandbox would: under an overlay if the checkpoint asks for one, which is then applied.
fn act(checkpoint: &mut Checkpoint, what: &str, root: &Path) {
    let mounts = checkpoint.mounts();
    let Some(mount) = mounts.first() else { return perform(what, root) };
    let before = fingerprint(root);
    let script = format!(
        "NONO_WORK='{what}|{}' {} --exact child --test-threads=1 >/dev/null",
        root.display(),
        std::env::current_exe().unwrap().display(),
    );
    in_overlay(mount, Mounter::Privileged, &script);
    assert_eq!(fingerprint(root), before, "untouched until it is applied");
    checkpoint.apply().unwrap();
}

/// The same for every strategy: list, roll back single paths, nest, commit, roll back everything.
/// Directories are renamed on the way.
fn conforms(scratch: &Scratch, strategy: &str, expected: &str) {
    furnish(&scratch.project);
    let before = fingerprint(&scratch.project);
    let is_overlay = expected == "overlay";
    let options = Options {
        strategy: Some(strategy.to_owned()),
        mounter: is_overlay.then_some(Mounter::Privileged),
        ..Options::default()
    };
    let make = || {
        Checkpoint::create(&scratch.store, std::slice::from_ref(&scratch.project), &options)
            .unwrap()
    };
    let mut outer = make();
    assert_eq!(outer.strategy().0, expected, "{}", outer.strategy().1);
    assert_eq!(outer.changes().unwrap(), []);
    act(&mut outer, "wreck", &scratch.project);
    let wrecked = fingerprint(&scratch.project);
    assert!(wrecked.contains_key(Path::new("moved")), "{expected}: a renamed directory");
    let mut inner = make();
    act(&mut inner, "more", &scratch.project);
    assert!(scratch.project.join("locked/again").is_dir(), "{expected}: a renamed directory");
    inner.rollback(Some(&[PathBuf::from("plain")]), false).unwrap();
    assert_eq!(scratch.read("plain"), "overwritten in place");
    let committed = inner.commit(Some(&[PathBuf::from("kept")]));
    if is_overlay {
        // The way back of the outer one leads through it.
        assert_eq!(committed.unwrap_err().code(), "ERR_NONO_CHECKPOINT_NEEDED");
    } else {
        committed.unwrap();
        scratch.write("plain", "third version");
    }
    inner.rollback(None, false).unwrap();
    assert_eq!(scratch.project.join("kept").exists(), !is_overlay);
    let mut now = fingerprint(&scratch.project);
    if now.remove(Path::new("kept")).is_some() {
        fs::remove_file(scratch.project.join("kept")).unwrap();
        // Its times moved with the file.
        now.insert(PathBuf::new(), wrecked[Path::new("")].clone());
    }
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

/// A program that has a file mapped writes to it without a system call that the file system could
/// see: what it wrote before the checkpoint is kept, what it writes after is undone.
fn sees_mapped_memory(scratch: &Scratch, strategy: &str) {
    use std::os::fd::AsRawFd;
    let path = scratch.project.join("mapped");
    fs::write(&path, [b'0'; 4096]).unwrap();
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a fresh mapping of a page of a file that nobody truncates.
    let map = unsafe {
        libc::mmap(std::ptr::null_mut(), 4096, protection, libc::MAP_SHARED, file.as_raw_fd(), 0)
    };
    if map == libc::MAP_FAILED {
        println!("SKIPPED: rollback of mapped memory by {strategy}: it can't be mapped there");
        return;
    }
    // SAFETY: the page is mapped, for writing, until the end of this function.
    let write = |byte: u8| unsafe { map.cast::<u8>().write_volatile(byte) };
    write(b'1');
    // So that its times are none of a clock tick at which everything is compared.
    std::thread::sleep(std::time::Duration::from_millis(60));
    let options = Options { strategy: Some(strategy.to_owned()), ..Options::default() };
    let dirs = std::slice::from_ref(&scratch.project);
    let mut checkpoint = Checkpoint::create(&scratch.store, dirs, &options).unwrap();
    write(b'2');
    // SAFETY: made above, and not used any more.
    unsafe { libc::munmap(map, 4096) };
    drop(file);
    let listed: Vec<_> =
        checkpoint.changes().unwrap().into_iter().map(|change| change.path).collect();
    assert_eq!(listed, [PathBuf::from("mapped")], "{strategy}");
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(fs::read(&path).unwrap()[0], b'1', "{strategy}");
    checkpoint.dispose().unwrap();
}

#[test]
fn ext4() {
    let Some(mounted) = mounted("ext4", "") else { return };
    sees_mapped_memory(&scratch_on(&mounted, false), "copy");
    conforms(&scratch_on(&mounted, false), "auto", "copy");
    leaves_excluded_alone(&scratch_on(&mounted, false), "auto", "copy");
    conforms(&scratch_on(&mounted, false), "auto", "overlay");
}

#[test]
fn tmpfs() {
    let Some(mounted) = mounted("tmpfs", "") else { return };
    sees_mapped_memory(&scratch_on(&mounted, false), "copy");
    conforms(&scratch_on(&mounted, false), "auto", "copy");
    conforms(&scratch_on(&mounted, false), "auto", "overlay");
}

#[test]
fn xfs() {
    let Some(mounted) = mounted("xfs", "") else { return };
    sees_mapped_memory(&scratch_on(&mounted, false), "reflink");
    conforms(&scratch_on(&mounted, false), "auto", "reflink");
    conforms(&scratch_on(&mounted, false), "copy", "copy");
    leaves_excluded_alone(&scratch_on(&mounted, false), "auto", "reflink");
    conforms(&scratch_on(&mounted, false), "auto", "overlay");
}

#[test]
fn btrfs() {
    let Some(mounted) = mounted("btrfs", "") else { return };
    sees_mapped_memory(&scratch_on(&mounted, true), "btrfs");
    conforms(&scratch_on(&mounted, true), "auto", "btrfs");
    leaves_excluded_alone(&scratch_on(&mounted, true), "auto", "btrfs");
    conforms(&scratch_on(&mounted, false), "auto", "reflink");
    conforms(&scratch_on(&mounted, false), "auto", "overlay");
}

#[test]
fn zfs() {
    let Some(pool) = Pool::new() else { return };
    sees_mapped_memory(&pool.scratch("mapped"), "zfs");
    conforms(&pool.scratch("conforms"), "auto", "zfs");
    leaves_excluded_alone(&pool.scratch("excluded"), "auto", "zfs");
    // It knows no exchange: a directory that is no dataset is refused before anything starts.
    let inner = pool.scratch("plain");
    fs::create_dir(inner.project.join("directory")).unwrap();
    let dirs = [inner.project.join("directory")];
    let error = Checkpoint::create(&inner.store, &dirs, &Options::default()).unwrap_err();
    assert_eq!(error.code(), "ERR_NONO_STRATEGY_UNSUPPORTED");
    assert!(error.to_string().contains("can't exchange two directories"), "{error}");
    assert_eq!(fs::read_dir(&inner.project).unwrap().count(), 1);
    // Somebody else's newer snapshot would be lost: refused, and nothing has changed.
    let scratch = pool.scratch("other");
    scratch.write("file", "before");
    let dirs = std::slice::from_ref(&scratch.project);
    let mut checkpoint = Checkpoint::create(&scratch.store, dirs, &Options::default()).unwrap();
    scratch.write("file", "after");
    let backup = format!("{}/other@backup", pool.name);
    run("zfs", &["snapshot", &backup]).unwrap();
    let error = checkpoint.rollback(None, false).unwrap_err();
    assert_eq!(error.code(), "ERR_NONO_STRATEGY_UNSUPPORTED");
    assert!(error.to_string().contains(&backup), "{error}");
    assert_eq!(scratch.read("file"), "after");
    run("zfs", &["destroy", &backup]).unwrap();
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(scratch.read("file"), "before");
    checkpoint.dispose().unwrap();
}

/// Root mounts, and an ordinary user does the rest: on btrfs with and without the permission to delete
/// subvolumes (`user_subvol_rm_allowed`).
#[test]
fn as_an_ordinary_user() {
    let kinds = [
        ("btrfs", ",user_subvol_rm_allowed", "btrfs"),
        ("btrfs", "", "btrfs"),
        ("xfs", "", "reflink"),
    ];
    for (kind, options, expected) in kinds {
        let Some(mounted) = mounted(kind, options) else { continue };
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o777);
        fs::set_permissions(mounted.dir.path(), Clone::clone(&open)).unwrap();
        fs::set_permissions(mounted.at(), open).unwrap();
        as_nobody(|| {
            assert!(!rustix::process::geteuid().is_root());
            conforms(&scratch_on(&mounted, kind == "btrfs"), "auto", expected);
            leaves_excluded_alone(&scratch_on(&mounted, kind == "btrfs"), "auto", expected);
        });
    }
}

#[test]
fn what_is_mounted_there_or_inside_is_refused() {
    let Some(mounted) = mounted("tmpfs", "") else { return };
    let create = |dir: &Path| {
        let store = Store::open(&mounted.dir.path().join("state")).unwrap();
        Checkpoint::create(&store, &[dir.to_owned()], &Options::default()).unwrap_err().code()
    };
    assert_eq!(create(&mounted.at()), "ERR_NONO_MOUNT_POINT");
    // Also for overlay, which could discard there, but never apply.
    let overlay = Options {
        strategy: Some("overlay".to_owned()),
        mounter: Some(Mounter::Privileged),
        ..Options::default()
    };
    let store = Store::open(&mounted.dir.path().join("state")).unwrap();
    let error = Checkpoint::create(&store, &[mounted.at()], &overlay).unwrap_err();
    assert!(error.to_string().contains("mount point"), "{error}");
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
