//! The directories above a path as the kernel names it: absolute, with single slashes and no dots.
//! [`Path::ancestors`] and comparing [`Path`]s take every path apart into components anew, and the
//! supervisor does this for each parked call.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// `path` itself and what is above it, up to the root.
pub(crate) fn upwards(path: &Path) -> impl Iterator<Item = &Path> {
    std::iter::successors(Some(path), |below| {
        let bytes = below.as_os_str().as_bytes();
        let slash = bytes.iter().rposition(|byte| *byte == b'/')?;
        (bytes.len() > 1).then(|| Path::new(OsStr::from_bytes(&bytes[..slash.max(1)])))
    })
}

/// The last name of `path`; nothing for the root.
pub(crate) fn name(path: &Path) -> &[u8] {
    names(path).next_back().unwrap_or_default()
}

/// The names that `path` is made of.
pub(crate) fn names(path: &Path) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.as_os_str().as_bytes().split(|byte| *byte == b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_standard_library() {
        for path in ["/", "/a", "/a/b", "/a/.b/c.d"].map(Path::new) {
            assert_eq!(upwards(path).collect::<Vec<_>>(), path.ancestors().collect::<Vec<_>>());
            assert_eq!(name(path), path.file_name().unwrap_or_default().as_bytes());
        }
        assert_eq!(upwards(Path::new("pipe:[1]")).count(), 1);
    }
}
