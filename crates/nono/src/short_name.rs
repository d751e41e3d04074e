//! Second names that FAT and NTFS give to files: `GIT~1` is `.git` there. The kernel follows them, and
//! does not tell whose they are.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::ancestry::{name, upwards};
use crate::mountinfo::mounts;

/// File systems that have them, or may be served by one that has: as they are called in
/// `/proc/filesystems`, and by FUSE programs.
const KINDS: &[&[u8]] = &[
    b"vfat",
    b"msdos",
    b"ntfs",
    b"ntfs3",
    b"fuseblk", // ntfs-3g
    b"cifs",
    b"smb3",
    b"9p", // WSL's drives
    b"drvfs",
    b"vboxsf",
    b"prl_fs",
    b"vmhgfs",
    b"fuse.vmhgfs-fuse",
];

/// Where such file systems are mounted.
pub(crate) fn places() -> Vec<PathBuf> {
    places_in(&std::fs::read("/proc/self/mountinfo").unwrap_or_default())
}

fn places_in(mountinfo: &[u8]) -> Vec<PathBuf> {
    mounts(mountinfo).filter(|mount| KINDS.contains(&mount.kind)).map(|mount| mount.point).collect()
}

/// The part of `path`, which is below one of these places, that ends in a short name.
pub(crate) fn part<'a>(path: &'a Path, places: &[PathBuf]) -> Option<&'a Path> {
    let place = places
        .iter()
        .filter(|place| path.starts_with(place))
        .max_by_key(|place| place.as_os_str().as_bytes().len())?;
    let is_below = |part: &&Path| part.as_os_str().len() > place.as_os_str().len();
    upwards(path).take_while(is_below).find(|part| is_short(name(part)))
}

/// Whether a name may be a short one: at most eight letters, `~` and a number at their end, and an
/// extension of at most three.
fn is_short(name: &[u8]) -> bool {
    let dot = name.iter().rposition(|byte| *byte == b'.').unwrap_or(name.len());
    let (base, extension) = name.split_at(dot);
    let Some(tilde) = base.iter().rposition(|byte| *byte == b'~') else { return false };
    let number = &base[tilde + 1..];
    let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
    is_number && tilde > 0 && base.len() <= 8 && extension.len() <= 4
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &[u8] = b"\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
30 22 8:17 / /media/My\\040stick rw,nosuid shared:1 master:2 - vfat /dev/sdb1 rw
31 22 0:40 / /mnt/c rw - 9p C:\\134 rw
";

    #[test]
    fn finds_where_they_are() {
        assert_eq!(places_in(MOUNTINFO), ["/media/My stick", "/mnt/c"].map(PathBuf::from));
        assert!(places_in(b"").is_empty());
    }

    #[test]
    fn tells_them_by_their_form() {
        let places = [PathBuf::from("/mnt/c")];
        let part = |path| part(Path::new(path), &places).and_then(Path::to_str);
        assert_eq!(part("/mnt/c/w/GIT~1/hooks/x"), Some("/mnt/c/w/GIT~1"));
        assert_eq!(part("/mnt/c/NO1A2B~12.JSO"), None);
        assert_eq!(part("/mnt/c/NONO~12.JSO"), Some("/mnt/c/NONO~12.JSO"));
        for path in ["/mnt/c/notes.txt~", "/mnt/c/x.~1~", "/mnt/c/~1", "/mnt/d/GIT~1", "/mnt/c"] {
            assert_eq!(part(path), None, "{path}");
        }
    }
}
