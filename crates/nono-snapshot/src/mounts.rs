//! What is mounted inside a directory, which no snapshot of it covers.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};

/// Refuses a directory that has another file system inside.
pub(crate) fn refuse_mounts_inside(dir: &Path) -> Result<()> {
    match mount_points()?.into_iter().find(|point| point != dir && point.starts_with(dir)) {
        Some(point) => Err(Error::SpansFilesystems(point)),
        None => Ok(()),
    }
}

fn mount_points() -> Result<Vec<PathBuf>> {
    let path = Path::new("/proc/self/mountinfo");
    let table = std::fs::read(path).context("read", path)?;
    Ok(table.split(|&byte| byte == b'\n').filter_map(mount_point).collect())
}

/// The fifth field of a line (proc_pid_mountinfo(5)); space, tab, newline and backslash are octal.
fn mount_point(line: &[u8]) -> Option<PathBuf> {
    let field = line.split(|&byte| byte == b' ').nth(4)?;
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'\\').then(|| after.get(..3)).flatten();
        let octal = escaped
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(byte));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    Some(PathBuf::from(OsString::from_vec(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_in_mount_points_are_undone() {
        let line = br"36 35 98:0 /mnt1 /a\040b\134c\011d rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount_point(line), Some(PathBuf::from("/a b\\c\td")));
        assert_eq!(mount_point(b""), None);
    }
}
