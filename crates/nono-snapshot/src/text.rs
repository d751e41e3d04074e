//! The difference of two files, for people.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use similar::{Algorithm, TextDiff};

use crate::error::{Context, Result};

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
/// compared by its text.
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
    let kind = std::fs::symlink_metadata(path)?.file_type();
    if kind.is_symlink() {
        return Ok(Some(std::fs::read_link(path)?.into_os_string().into_encoded_bytes()));
    }
    if !kind.is_file() {
        return Ok(Some(Vec::new()));
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LARGEST_DIFF + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= LARGEST_DIFF).then_some(bytes))
}
