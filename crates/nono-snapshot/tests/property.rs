//! Any sequence of operations is undone: random trees and random operations, compared with what was
//! there before. `NONO_PROPERTY_SEQUENCES` sets how many (default 200; the soak script runs 10,000).

mod common;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use common::{fingerprint, scratch_in, set_xattr};

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

#[test]
fn any_sequence_of_operations_is_undone() {
    let sequences =
        std::env::var("NONO_PROPERTY_SEQUENCES").map_or(200, |count| count.parse().unwrap());
    let start: u64 = std::env::var("NONO_PROPERTY_SEED").map_or(1, |seed| seed.parse().unwrap());
    for seed in start..start + sequences {
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let scratch = scratch_in(Path::new("/dev/shm"));
        for _ in 0..random.below(12) {
            operate(&scratch.project, &mut random);
        }
        let before = fingerprint(&scratch.project);
        let mut checkpoint = scratch.checkpoint(&[]);
        for _ in 0..=random.below(12) {
            operate(&scratch.project, &mut random);
        }
        let after = fingerprint(&scratch.project);
        let changes = checkpoint.changes().unwrap();
        // Files only: what changed for a directory may be its time alone, which isn't listed.
        for (path, text) in &after {
            let is_dir = text.starts_with("mode 4");
            let listed = changes.iter().any(|change| {
                change.path == *path || change.from.is_some() && path.starts_with(&change.path)
            });
            let same = before.get(path).map(|text| text.split(" links").next())
                == Some(text.split(" links").next());
            assert!(is_dir || listed || same, "seed {seed}: {path:?} changed and is not listed");
        }
        // Half of them bring one entry back first.
        if let (0, Some(change)) = (random.below(2), changes.first()) {
            checkpoint
                .rollback(Some(std::slice::from_ref(&change.path)), false)
                .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        checkpoint.rollback(None, false).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(fingerprint(&scratch.project), before, "seed {seed}");
    }
}
