//! What is mounted where: no snapshot of a directory covers what is mounted inside, and by a bind mount it
//! has a second path.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::error::{Context, Error, Result};

/// Refuses a directory that has another file system inside.
pub(crate) fn refuse_mounts_inside(dir: &Path) -> Result<()> {
    let inside = |mount: &Mount| mount.point != dir && mount.point.starts_with(dir);
    match mounts()?.into_iter().find(inside) {
        Some(mount) => Err(Error::SpansFilesystems(mount.point)),
        None => Ok(()),
    }
}

/// What is mounted at `dir`, as its file system names it: the topmost is the last on the list.
pub(crate) fn mounted_at(dir: &Path) -> Result<Option<PathBuf>> {
    Ok(mounts()?.into_iter().rfind(|mount| mount.point == dir).map(|mount| mount.source))
}

/// Which file system a path is on, and where in it: the same by whatever mount one comes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Location {
    device: Vec<u8>,
    path: PathBuf,
}

impl Location {
    pub(crate) fn is_within(&self, outer: &Self) -> bool {
        self.device == outer.device && self.path.starts_with(&outer.path)
    }
}

/// The location of each of the canonical paths.
pub(crate) fn locations(paths: &[PathBuf]) -> Result<Vec<Option<Location>>> {
    let mounts = mounts()?;
    let location = |path: &PathBuf| {
        let above = mounts.iter().filter(|mount| path.starts_with(&mount.point));
        // The last of equals is the topmost.
        let mount = above.max_by_key(|mount| mount.point.components().count())?;
        let inside = path.strip_prefix(&mount.point).ok()?;
        Some(Location { device: mount.device.clone(), path: mount.root.join(inside) })
    };
    Ok(paths.iter().map(location).collect())
}

#[derive(Debug, PartialEq, Eq)]
struct Mount {
    device: Vec<u8>,
    /// The directory of the file system that is mounted.
    root: PathBuf,
    point: PathBuf,
    source: PathBuf,
}

fn mounts() -> Result<Vec<Mount>> {
    let path = Path::new("/proc/self/mountinfo");
    let table = std::fs::read(path).context("read", path)?;
    Ok(table.split(|&byte| byte == b'\n').filter_map(mount).collect())
}

/// The third to fifth field of a line, and the second after the hyphen (proc_pid_mountinfo(5)).
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let (device, root, point) = (fields.nth(2)?.to_owned(), fields.next()?, fields.next()?);
    let source = fields.skip_while(|field| *field != b"-").nth(2)?;
    let [root, point, source] = [root, point, source].map(unescaped);
    Some(Mount { device, root, point, source })
}

/// Space, tab, newline and backslash are octal.
fn unescaped(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'\\').then(|| after.get(..3)).flatten();
        let octal = escaped
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(octal.unwrap_or(byte));
        rest = if octal.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_undone() {
        let line = br"36 35 98:0 /mnt1 /a\040b\134c\011d rw,noatime master:1 - ext3 /dev/a\040b rw";
        let [root, point, source] = ["/mnt1", "/a b\\c\td", "/dev/a b"].map(PathBuf::from);
        let device = b"98:0".to_vec();
        assert_eq!(mount(line), Some(Mount { device, root, point, source }));
        assert_eq!(mount(b""), None);
    }
}
