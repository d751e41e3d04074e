//! Any sequence of operations is undone: random trees and random operations, compared with what was
//! there before.
//! `NONO_PROPERTY_SEQUENCES` sets how many for every strategy (default 200 for copies and
//! fewer for others; the scripts `soak` and `soak:zfs` of @nono/rollback run 10,000).

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::mount::{Pool, mounted, scratch_on};
use common::{
    Fingerprint, Scratch, fingerprint, in_overlay, namespaces_work, scratch_in,
    searched_and_walked, set_xattr,
};
use nono_snapshot::{Change, Checkpoint, Mounter, Options};

/// xorshift64*: reproducible from the seed that a failure prints.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % limit
    }

    fn pick<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

fn all(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.to_owned()];
    let mut next = 0;
    while next < found.len() {
        if found[next].symlink_metadata().unwrap().is_dir() {
            found.extend(fs::read_dir(&found[next]).unwrap().map(|entry| entry.unwrap().path()));
        }
        next += 1;
    }
    found
}

/// One operation somewhere in the tree. Those that don't apply to what they meet fail, as they do
/// for an agent.
fn operate(root: &Path, random: &mut Random) {
    let entries = all(root);
    let mut below = entries.iter().skip(1).cloned().collect::<Vec<_>>();
    if below.is_empty() {
        below.push(root.join("first"));
    }
    let (one, two) = (random.pick(&below).clone(), random.pick(&below).clone());
    let new = random.pick(&entries).join(random.pick(&["a", "b", "c", "d"]));
    let size = random.below(9000);
    let _ = match random.below(15) {
        0 => fs::write(&new, vec![b'n'; size]),
        1 => fs::write(&one, vec![b'w'; size]),
        2 => fs::File::options()
            .append(true)
            .open(&one)
            .and_then(|file| file.write_all_at(b"appended", 0)),
        3 => fs::File::options().write(true).open(&one).and_then(|file| file.set_len(size as u64)),
        4 => map_and_write(&one),
        5 => fs::rename(&one, &new),
        6 => fs::rename(&one, &two),
        7 => fs::hard_link(&one, &new),
        8 => fs::remove_file(&one),
        9 => fs::remove_dir_all(&one),
        10 if one.is_symlink() => Ok(()),
        10 => fs::set_permissions(
            &one,
            fs::Permissions::from_mode(*random.pick(&[0o700, 0o711, 0o755, 0o4755])),
        ),
        11 => {
            set_xattr(&one, "user.x", &[size as u8]);
            Ok(())
        }
        12 => symlink("a/b", &new),
        13 => fs::create_dir(&new),
        _ => rustix::fs::mknodat(
            rustix::fs::CWD,
            &new,
            rustix::fs::FileType::Socket,
            0o600.into(),
            0,
        )
        .map_err(Into::into),
    };
}

fn map_and_write(path: &Path) -> std::io::Result<()> {
    let meta = path.symlink_metadata()?;
    if !meta.is_file() || meta.len() == 0 {
        return Ok(());
    }
    let file = fs::File::options().read(true).write(true).open(path)?;
    // SAFETY: a fresh shared mapping of one byte of an open file; nobody truncates it meanwhile.
    unsafe {
        let map = libc::mmap(
            std::ptr::null_mut(),
            1,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            std::os::fd::AsRawFd::as_raw_fd(&file),
            0,
        );
        if map != libc::MAP_FAILED {
            *map.cast::<u8>() = b'm';
            libc::munmap(map, 1);
        }
    }
    Ok(())
}

fn sequences() -> std::ops::Range<u64> {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().unwrap())
    };
    let start = number("NONO_PROPERTY_SEED", 1);
    start..start + number("NONO_PROPERTY_SEQUENCES", 200)
}

/// One in so many, unless somebody has asked for a number.
fn some_sequences(step: usize) -> impl Iterator<Item = u64> {
    let is_soak = std::env::var_os("NONO_PROPERTY_SEQUENCES").is_some();
    sequences().step_by(if is_soak { 1 } else { step })
}

fn random(seed: u64) -> Random {
    Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
}

/// What is listed covers all that differs. Files only: what changed for a directory may be its time
/// alone, which isn't listed.
fn check_listed(changes: &[Change], before: &Fingerprint, after: &Fingerprint, seed: u64) {
    for (path, text) in after {
        let is_dir = text.starts_with("mode 4");
        let listed = changes.iter().any(|change| {
            change.path == *path || change.from.is_some() && path.starts_with(&change.path)
        });
        let same = before.get(path).map(|text| text.split(" links").next())
            == Some(text.split(" links").next());
        assert!(is_dir || listed || same, "seed {seed}: {path:?} changed and is not listed");
    }
}

fn check_same(scratch: &Scratch, strategy: &str, expected: &Fingerprint, what: &str) {
    let mut now = fingerprint(&scratch.project);
    if strategy == "zfs" {
        // zfs-fuse once in a while says a time one second later for the root of a mounted dataset.
        now.insert(PathBuf::new(), expected[Path::new("")].clone());
    }
    assert_eq!(now, *expected, "{what}");
}

/// A random tree, a checkpoint, random operations, perhaps a second checkpoint and more of them; then
/// back, in one of several ways.
fn undone(scratch: &Scratch, strategy: &str, seed: u64) {
    let mut random = random(seed);
    let options = Options { strategy: Some(strategy.to_owned()), ..Options::default() };
    let make = || {
        let dirs = std::slice::from_ref(&scratch.project);
        Checkpoint::create(&scratch.store, dirs, &options)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"))
    };
    let back = |checkpoint: &mut Checkpoint, paths: Option<&[PathBuf]>| {
        let done = checkpoint.rollback(paths, false);
        done.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    };
    let way = random.below(4);
    // Long enough that the times tell what has changed: then the second checkpoint's copies are made
    // known to the first.
    let settles = way == 2 && random.below(2) == 0;
    let settle = || {
        if settles {
            std::thread::sleep(std::time::Duration::from_millis(30));
        }
    };
    for _ in 0..random.below(12) {
        operate(&scratch.project, &mut random);
    }
    let before = fingerprint(&scratch.project);
    settle();
    let mut outer = make();
    for _ in 0..=random.below(12) {
        operate(&scratch.project, &mut random);
    }
    let after = fingerprint(&scratch.project);
    let list = |checkpoint: &mut Checkpoint| match strategy {
        "btrfs" => searched_and_walked(checkpoint),
        _ => checkpoint.changes().unwrap(),
    };
    let changes = list(&mut outer);
    check_listed(&changes, &before, &after, seed);
    match (way, changes.first()) {
        // One entry is brought back before the rest.
        (0 | 1, Some(change)) => back(&mut outer, Some(std::slice::from_ref(&change.path))),
        // A second checkpoint is rolled back to before the first.
        (2, _) => {
            let mut inner = make();
            for _ in 0..=random.below(6) {
                operate(&scratch.project, &mut random);
            }
            settle();
            back(&mut inner, None);
            check_same(scratch, strategy, &after, &format!("seed {seed}: the inner checkpoint"));
            if settles {
                inner.purge().unwrap();
            }
            for _ in 0..random.below(6) {
                operate(&scratch.project, &mut random);
            }
            let now = fingerprint(&scratch.project);
            check_listed(&list(&mut outer), &before, &now, seed);
        }
        _ => {}
    }
    back(&mut outer, None);
    check_same(scratch, strategy, &before, &format!("seed {seed}"));
    outer.purge().unwrap();
    scratch.store.recover().unwrap();
}

#[test]
fn any_sequence_of_operations_is_undone() {
    for seed in sequences() {
        undone(&scratch_in(Path::new("/dev/shm")), "copy", seed);
    }
}

fn on(kind: &str, strategy: &str) {
    let Some(mounted) = mounted(kind, "") else { return };
    for seed in some_sequences(4) {
        undone(&scratch_on(&mounted, strategy == "btrfs"), strategy, seed);
    }
}

#[test]
fn on_ext4() {
    on("ext4", "copy");
}

#[test]
fn on_xfs_with_shared_blocks() {
    on("xfs", "reflink");
}

#[test]
fn on_btrfs_with_snapshots() {
    on("btrfs", "btrfs");
}

#[test]
fn on_btrfs_with_shared_blocks() {
    on("btrfs", "reflink");
}

/// Few: a rollback of zfs-fuse unmounts and takes a second.
#[test]
fn on_zfs() {
    let Some(pool) = Pool::new() else { return };
    for seed in some_sequences(100) {
        let name = format!("p{seed}");
        undone(&pool.scratch(&name), "zfs", seed);
        pool.destroy(&name);
    }
}

/// Runs in the overlay: operations, and what the tree then looks like, for the test below.
#[test]
fn child() {
    let Ok(task) = std::env::var("NONO_PROPERTY_CHILD") else { return };
    let (seed, root) = task.split_once('|').unwrap();
    let (mut random, root) = (random(seed.parse().unwrap()), Path::new(root));
    for _ in 0..=random.below(16) {
        operate(root, &mut random);
    }
    // The descriptor 9 is the test's.
    fs::write("/proc/self/fd/9", format!("{:?}", of_overlay(&fingerprint(root)))).unwrap();
}

/// Without what a user namespace or overlayfs shows differently: owners, times of directories, and
/// names of one file of which some were copied up.
fn of_overlay(fingerprint: &Fingerprint) -> Vec<(PathBuf, String)> {
    let strip = |text: &String| {
        let is_dir = text.starts_with("mode 4");
        let (mode, rest) = text.split(" links ").next().unwrap().split_once(" owner ").unwrap();
        let kept = format!("{mode} {}", rest.split_once(' ').unwrap().1);
        let contents = text.split(" first ").nth(1).and_then(|rest| rest.split_once(' '));
        let kept = if is_dir {
            kept.replace(kept.split(" mtime ").nth(1).unwrap().split(' ').next().unwrap(), "")
        } else {
            kept
        };
        format!("{kept} {}", contents.map_or("", |(_, contents)| contents))
    };
    fingerprint.iter().map(|(path, text)| (path.clone(), strip(text))).collect()
}

/// The directory is untouched until the changes are applied; then it is what the sandbox saw; and a
/// rollback, before or after, brings everything back.
#[test]
fn in_an_overlay() {
    let root = rustix::process::geteuid().is_root();
    let mut mounters = Vec::new();
    if namespaces_work() {
        mounters.push(Mounter::Unprivileged);
    }
    if root {
        mounters.push(Mounter::Privileged);
    }
    for mounter in mounters {
        for seed in some_sequences(4) {
            let mut random = random(seed);
            let scratch = scratch_in(&common::memory());
            for _ in 0..random.below(16) {
                operate(&scratch.project, &mut random);
            }
            let before = fingerprint(&scratch.project);
            let options = Options {
                strategy: Some("overlay".to_owned()),
                mounter: Some(mounter),
                ..Options::default()
            };
            let dirs = std::slice::from_ref(&scratch.project);
            let mut checkpoint = Checkpoint::create(&scratch.store, dirs, &options).unwrap();
            let seen = tempfile::NamedTempFile::new().unwrap();
            let script = format!(
                "NONO_PROPERTY_CHILD='{seed}|{}' {} --exact child --test-threads=1 >/dev/null 9>{}",
                scratch.project.display(),
                std::env::current_exe().unwrap().display(),
                seen.path().display()
            );
            in_overlay(&checkpoint.mounts()[0], mounter, &script);
            assert_eq!(fingerprint(&scratch.project), before, "seed {seed}: before it is applied");
            let isolated = checkpoint.changes().unwrap();
            if random.below(2) == 0 {
                checkpoint.apply().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                let now = fingerprint(&scratch.project);
                let inside = fs::read_to_string(seen.path()).unwrap();
                assert_eq!(format!("{:?}", of_overlay(&now)), inside, "seed {seed}: {mounter:?}");
                check_listed(&isolated, &before, &now, seed);
                if random.below(2) == 0 {
                    checkpoint.withdraw().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                    assert_eq!(fingerprint(&scratch.project), before, "seed {seed}: withdrawn");
                    checkpoint.apply().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
                    assert_eq!(fingerprint(&scratch.project), now, "seed {seed}: applied again");
                }
            }
            checkpoint.rollback(None, false).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            assert_eq!(fingerprint(&scratch.project), before, "seed {seed}: {mounter:?}");
        }
    }
}
