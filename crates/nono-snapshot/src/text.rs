//! The difference of two files, for people.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, openat, readlinkat};
use similar::{Algorithm, TextDiff};

use crate::compare::Side;
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

/// What a file has to be compared by.
pub(crate) enum Contents {
    Known(Vec<u8>),
    TooLarge,
}

/// Compares two files line by line.
pub(crate) fn diff(sides: [Option<Contents>; 2]) -> FileDiff {
    let mut texts = [const { Vec::new() }; 2];
    for (text, side) in texts.iter_mut().zip(sides) {
        match side {
            Some(Contents::TooLarge) => return FileDiff::TooLarge,
            Some(Contents::Known(bytes)) if bytes.contains(&0) => return FileDiff::Binary,
            Some(Contents::Known(bytes)) => *text = bytes,
            None => {}
        }
    }
    let diff = TextDiff::configure()
        .algorithm(Algorithm::Myers)
        .timeout(std::time::Duration::from_secs(2))
        .diff_lines(texts[0].as_slice(), texts[1].as_slice());
    FileDiff::Text(diff.unified_diff().context_radius(3).to_string())
}

/// Reads a file of a tree, reached without any symbolic link: since the change was listed, one may have
/// taken the place of a directory, and lead to what is not to be shown.
pub(crate) fn contents(tree: &Side, path: &Path) -> Result<Contents> {
    read(tree, path).with_context("read", || tree.path.join(path))
}

fn read(tree: &Side, path: &Path) -> io::Result<Contents> {
    let (dir, name) = (tree.parent_of(path)?, split(path).1);
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let found = openat(&dir, name, flags, Mode::empty())?;
    match stat_fd(&found)?.meta.file_type() {
        FileType::Symlink => Ok(Contents::Known(readlinkat(&found, "", Vec::new())?.into_bytes())),
        FileType::RegularFile => {
            // Should it be a FIFO by now, nobody is waited for.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let file = File::from(openat(&dir, name, flags, Mode::empty())?);
            let mut bytes = Vec::new();
            file.take(LARGEST_DIFF + 1).read_to_end(&mut bytes)?;
            let is_small = bytes.len() as u64 <= LARGEST_DIFF;
            Ok(if is_small { Contents::Known(bytes) } else { Contents::TooLarge })
        }
        _ => Ok(Contents::Known(Vec::new())),
    }
}
