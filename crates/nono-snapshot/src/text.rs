//! The difference of two files, for people.

use std::fmt::Write;
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, OFlags, openat, readlinkat};
use similar::{Algorithm, DiffTag, capture_diff_slices_deadline, group_diff_ops};

use crate::compare::Side;
use crate::error::{Context, Result};
use crate::meta::stat_fd;
use crate::walk::split;

/// The difference between two versions of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileDiff {
    /// A unified diff without file names, three lines of context.
    Text(String),
    /// They differ, and at least one side isn't text in UTF-8.
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
            Some(Contents::Known(bytes)) => *text = bytes,
            None => {}
        }
    }
    if texts[0] == texts[1] {
        return FileDiff::Text(String::new());
    }
    match texts.each_ref().map(|text| std::str::from_utf8(text)) {
        [Ok(before), Ok(after)] if !before.contains('\0') && !after.contains('\0') => {
            FileDiff::Text(unified(&lines(before), &lines(after)))
        }
        _ => FileDiff::Binary,
    }
}

/// With their ends. A carriage return ends none: patch(1) and git-apply(1) count line feeds.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

fn unified(before: &[&str], after: &[&str]) -> String {
    let deadline = Instant::now() + Duration::from_secs(2);
    let steps = capture_diff_slices_deadline(Algorithm::Myers, before, after, Some(deadline));
    let mut text = String::new();
    for hunk in group_diff_ops(steps, 3) {
        let [Some(first), Some(last)] = [hunk.first(), hunk.last()] else { continue };
        let old = first.old_range().start..last.old_range().end;
        let new = first.new_range().start..last.new_range().end;
        let _ = writeln!(text, "@@ -{} +{} @@", range(&old), range(&new));
        for step in &hunk {
            let (tag, old, new) = step.as_tag_tuple();
            if tag == DiffTag::Equal {
                before[old].iter().for_each(|line| put(&mut text, ' ', line));
                continue;
            }
            before[old].iter().for_each(|line| put(&mut text, '-', line));
            after[new].iter().for_each(|line| put(&mut text, '+', line));
        }
    }
    text
}

fn put(text: &mut String, mark: char, line: &str) {
    text.push(mark);
    text.push_str(line);
    if !line.ends_with('\n') {
        text.push_str("\n\\ No newline at end of file\n");
    }
}

/// Counted from one; before the first of none is the line before.
fn range(lines: &Range<usize>) -> String {
    match lines.len() {
        0 => format!("{},0", lines.start),
        1 => format!("{}", lines.start + 1),
        count => format!("{},{count}", lines.start + 1),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn of(before: &[u8], after: &[u8]) -> FileDiff {
        diff([before, after].map(|side| Some(Contents::Known(side.to_vec()))))
    }

    #[test]
    fn hunks_have_three_lines_around_them() {
        let before: String = (1..=20).map(|number| format!("{number}\n")).collect();
        let after = before.replace("\n2\n", "\n2\n2b\n").replace("\n19\n", "\n");
        let hunks = "@@ -1,5 +1,6 @@\n 1\n 2\n+2b\n 3\n 4\n 5\n\
                     @@ -16,5 +17,4 @@\n 16\n 17\n 18\n-19\n 20\n";
        assert_eq!(of(before.as_bytes(), after.as_bytes()), FileDiff::Text(hunks.to_owned()));
    }

    #[test]
    fn the_end_of_a_line_is_a_line_feed() {
        let hunk = "@@ -1,2 +1 @@\n-a\rb\r\n-c\r\n\\ No newline at end of file\n+a\rb\n";
        assert_eq!(of(b"a\rb\r\nc\r", b"a\rb\n"), FileDiff::Text(hunk.to_owned()));
        let hunk = "@@ -0,0 +1 @@\n+\n";
        assert_eq!(of(b"", b"\n"), FileDiff::Text(hunk.to_owned()));
    }

    #[test]
    fn what_is_no_text_is_told_from_what_is_the_same() {
        assert_eq!(of(b"caf\xe9\n", b"cafe\n"), FileDiff::Binary);
        assert_eq!(of(b"a\n", b"a\0"), FileDiff::Binary);
        assert_eq!(of(b"\0\xff", b"\0\xff"), FileDiff::Text(String::new()));
    }
}
