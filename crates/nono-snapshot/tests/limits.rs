//! What file systems bound: links to a file, a user's space, the length of a file.

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use common::mount::{made, mounted, scratch_on};
use common::{as_nobody, fingerprint, scratch};
use nono_snapshot::{ChangeKind, State};

/// ext4's limit.
const MOST: usize = 65_000;

#[test]
fn a_file_with_as_many_links_as_there_can_be() {
    let Some(mounted) = mounted("ext4", "") else { return };
    let scratch = scratch_on(&mounted, false);
    scratch.write("first", "one");
    let at = |name: &str| scratch.project.join(name);
    for number in 1..MOST {
        fs::hard_link(at("first"), at(&number.to_string())).unwrap();
    }
    assert!(fs::hard_link(at("first"), at("one too many")).is_err());
    let mut checkpoint = scratch.checkpoint(&[]);
    assert_eq!(checkpoint.changes().unwrap(), []);
    fs::rename(at("5"), at("another")).unwrap();
    // A copy needs a name of its own until the rename.
    let error = checkpoint.rollback(Some(&[PathBuf::from("5")]), false).unwrap_err();
    assert!(error.to_string().contains("Too many links"), "{error}");
    assert!(!at("5").exists() && at("another").exists(), "nothing has changed");
    fs::remove_file(at("another")).unwrap();
    checkpoint.rollback(Some(&[PathBuf::from("5")]), false).unwrap();
    assert_eq!(fs::metadata(at("5")).unwrap().nlink() as usize, MOST);
    scratch.write("first", "two");
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(scratch.read("64999"), "one");
    assert_eq!(fs::metadata(at("first")).unwrap().nlink() as usize, MOST);
    assert_eq!(fs::read_dir(&scratch.project).unwrap().count(), MOST);
}

/// Gives the user `uid` so many KiB on the file system at `at`.
fn set_quota(at: &Path, uid: u32, kib: u64) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let line = mounts.lines().find(|line| line.split(' ').nth(1) == at.to_str()).unwrap();
    let device = std::ffi::CString::new(line.split(' ').next().unwrap()).unwrap();
    // SAFETY: numbers alone; zeros are valid.
    let mut limits: libc::dqblk = unsafe { std::mem::zeroed() };
    (limits.dqb_bhardlimit, limits.dqb_valid) = (kib, libc::QIF_BLIMITS);
    let command = libc::QCMD(libc::Q_SETQUOTA, libc::USRQUOTA);
    // SAFETY: the name ends with NUL and the structure lives across the call.
    let status = unsafe {
        libc::quotactl(command, device.as_ptr(), uid as i32, std::ptr::from_mut(&mut limits).cast())
    };
    assert_eq!(status, 0, "{}", std::io::Error::last_os_error());
}

/// Whoever used up the quota can still undo it.
#[test]
fn a_quota_that_is_used_up() {
    let features = ["-O", "quota", "-E", "quotatype=usrquota"];
    let Some(mounted) = made("ext4", &features, ",usrquota") else { return };
    for path in [mounted.dir.path(), &mounted.at()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
    }
    set_quota(&mounted.at(), 65534, 8 << 10);
    as_nobody(|| {
        let scratch = scratch_on(&mounted, false);
        scratch.write("deleted", &"x".repeat(100_000));
        scratch.write("plain", "one");
        let before = fingerprint(&scratch.project);
        let mut checkpoint = scratch.checkpoint(&[]);
        fs::remove_file(scratch.project.join("deleted")).unwrap();
        let (mut size, mut file) =
            (1 << 20, fs::File::create(scratch.project.join("fill")).unwrap());
        while size > 0 {
            if std::io::Write::write_all(&mut file, &vec![7; size]).is_err() {
                size /= 2;
            }
        }
        let error =
            checkpoint.rollback(Some(&[PathBuf::from("deleted")]), false).unwrap_err().to_string();
        assert!(error.contains("quota exceeded"), "{error}");
        assert!(!scratch.project.join("deleted").exists(), "nothing has changed");
        assert_eq!(scratch.store.list().unwrap()[0].state, State::Active);
        checkpoint.rollback(None, false).unwrap();
        assert_eq!(fingerprint(&scratch.project), before);
        checkpoint.purge().unwrap();
    });
}

/// Reading all of it would take minutes.
#[test]
fn a_sparse_file_of_a_terabyte() {
    let scratch = scratch();
    let path = scratch.project.join("disk.img");
    let file = fs::File::options().create_new(true).write(true).open(&path).unwrap();
    if let Err(error) = file.set_len(1 << 40) {
        println!("SKIPPED: a sparse file of a terabyte: {error}");
        return;
    }
    file.write_all_at(b"one", 1 << 39).unwrap();
    let started = Instant::now();
    let mut checkpoint = scratch.checkpoint(&[]);
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert_eq!(checkpoint.changes().unwrap()[0].kind, ChangeKind::Times);
    file.write_all_at(b"two", 1 << 39).unwrap();
    assert_eq!(checkpoint.changes().unwrap()[0].kind, ChangeKind::Modified);
    checkpoint.rollback(None, false).unwrap();
    let mut bytes = [0; 3];
    let back = fs::File::open(&path).unwrap();
    back.read_exact_at(&mut bytes, 1 << 39).unwrap();
    let meta = back.metadata().unwrap();
    assert_eq!((&bytes, meta.len()), (b"one", 1 << 40));
    assert!(meta.blocks() < 1000, "it has its holes");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}
