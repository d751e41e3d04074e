//! The text of `/proc/PID/mountinfo` (`proc_pid_mountinfo(5)`).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

/// A mount as a line tells of it.
pub(crate) struct Mount<'a> {
    pub(crate) line: &'a [u8],
    /// Where it is mounted.
    pub(crate) point: PathBuf,
    /// The kind of its file system, as in `/proc/filesystems`.
    pub(crate) kind: &'a [u8],
}

pub(crate) fn mounts(text: &[u8]) -> impl Iterator<Item = Mount<'_>> {
    text.split_inclusive(|byte| *byte == b'\n').filter_map(Mount::read)
}

impl<'a> Mount<'a> {
    /// The mount point is the fifth field; the kind is the first one after a dash.
    fn read(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.trim_ascii_end().split(|byte| *byte == b' ');
        let point = PathBuf::from(unescaped(fields.nth(4)?));
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(Mount { line, point, kind })
    }
}

/// Space, tab, newline and backslash are octal there.
fn unescaped(mut field: &[u8]) -> OsString {
    let mut bytes = Vec::with_capacity(field.len());
    while let Some((byte, rest)) = field.split_first() {
        let octal = (*byte == b'\\').then(|| rest.get(..3)).flatten();
        let octal = octal.and_then(|digits| std::str::from_utf8(digits).ok());
        let octal = octal.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        bytes.push(octal.unwrap_or(*byte));
        field = if octal.is_some() { &rest[3..] } else { rest };
    }
    OsString::from_vec(bytes)
}
