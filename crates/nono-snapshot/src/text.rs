//! The difference of two files, for people.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, openat, readlinkat};
use similar::{Algorithm, TextDiff};

use crate::error::{Context, Result};
use crate::meta::stat_fd;
use crate::walk::split;

/// The difference between two versions of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileDiff {
    /// A unified diff without file names, three lines of context.
    Text(String),
    /// At least one side isn't text.
    Binary,
    /// At least one side is longer than [`LARGEST_DIFF`].
    TooLarge,
}

/// Longer files are not compared line by line: 1 MiB.
pub const LARGEST_DIFF: u64 = 1024 * 1024;

/// Compares two files line by line; `None` stands for a file that doesn't exist. A symbolic link is
/// compared by its text, and none is followed on the way to a file either.
pub fn diff_files(before: Option<&Path>, after: Option<&Path>) -> Result<FileDiff> {
    let mut sides = Vec::new();
    for path in [before, after] {
        match path.map(|path| contents(path).context("read", path)).transpose()? {
            Some(None) => return Ok(FileDiff::TooLarge),
            Some(Some(bytes)) if bytes.contains(&0) => return Ok(FileDiff::Binary),
            side => sides.push(side.flatten().unwrap_or_default()),
        }
    }
    let diff = TextDiff::configure()
        .algorithm(Algorithm::Myers)
        .timeout(std::time::Duration::from_secs(2))
        .diff_lines(sides[0].as_slice(), sides[1].as_slice());
    Ok(FileDiff::Text(diff.unified_diff().context_radius(3).to_string()))
}

fn contents(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let (dir, name) = parent_of(path)?;
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat(&dir, &name, flags, Mode::empty())?;
    match stat_fd(&found)?.meta.file_type() {
        FileType::Symlink => Ok(Some(readlinkat(&found, "", Vec::new())?.into_bytes())),
        FileType::RegularFile => {
            // Should it be a FIFO by now, nobody is waited for.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(openat(&dir, &name, flags, Mode::empty())?);
            let mut bytes = Vec::new();
            file.take(LARGEST_DIFF + 1).read_to_end(&mut bytes)?;
            Ok((bytes.len() as u64 <= LARGEST_DIFF).then_some(bytes))
        }
        _ => Ok(Some(Vec::new())),
    }
}

/// The directory around it, reached without any symbolic link: since the change was listed, one may have
/// taken the place of a directory, and lead to what is not to be shown.
fn parent_of(path: &Path) -> io::Result<(OwnedFd, OsString)> {
    let path = std::path::absolute(path)?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let (parent, name) = split(&path);
    let mut dir = openat(CWD, "/", flags, Mode::empty())?;
    for component in parent.components().skip(1) {
        dir = openat(&dir, component.as_os_str(), flags, Mode::empty())?;
    }
    Ok((dir, name.to_owned()))
}
