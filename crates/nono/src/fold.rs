//! Names that a file system may take for one: where case does not count, `.GIT` is `.git`, and git,
//! which asks for the latter, finds the former.
//!
//! What has case folded, and is decomposed, is compared wherever a name must not be written or read,
//! whatever the file system: ext4, f2fs and tmpfs fold one directory and not the next, and a command
//! may have made it. Linux folds by these rules (`utf8nfdicf` in fs/unicode, after Unicode's section
//! 3.13), HFS+ and APFS by similar ones; NTFS and FAT only by case.

use std::borrow::Cow;
use std::ffi::OsString;
use std::ops::RangeInclusive;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use unicode_normalization::UnicodeNormalization;

use crate::ancestry::names;

/// Letters that leave no trace in a folded name: Unicode's Default_Ignorable_Code_Point
/// (DerivedCoreProperties.txt, version 16).
const IGNORED: &[RangeInclusive<char>] = &[
    '\u{ad}'..='\u{ad}',
    '\u{34f}'..='\u{34f}',
    '\u{61c}'..='\u{61c}',
    '\u{115f}'..='\u{1160}',
    '\u{17b4}'..='\u{17b5}',
    '\u{180b}'..='\u{180f}',
    '\u{200b}'..='\u{200f}',
    '\u{202a}'..='\u{202e}',
    '\u{2060}'..='\u{206f}',
    '\u{3164}'..='\u{3164}',
    '\u{fe00}'..='\u{fe0f}',
    '\u{feff}'..='\u{feff}',
    '\u{ffa0}'..='\u{ffa0}',
    '\u{fff0}'..='\u{fff8}',
    '\u{1bca0}'..='\u{1bca3}',
    '\u{1d173}'..='\u{1d17a}',
    '\u{e0000}'..='\u{e0fff}',
];

/// A path with as many names, each of them folded.
pub(crate) fn folded(path: &Path) -> Cow<'_, Path> {
    let bytes = path.as_os_str().as_bytes();
    if bytes.iter().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase()) {
        return Cow::Borrowed(path);
    }
    let names: Vec<_> = names(path).map(folded_name).collect();
    Cow::Owned(PathBuf::from(OsString::from_vec(names.join(&b'/'))))
}

fn folded_name(name: &[u8]) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(name) else {
        return name.to_ascii_lowercase(); // no letters beyond ASCII, to any file system
    };
    let folded = folded_text(text).into_bytes();
    if folded.is_empty() { name.to_owned() } else { folded }
}

/// Text as it is compared.
pub(crate) fn folded_text(text: &str) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // Upper case first: `ß` and `ſ` fold to `ss` and `s`, but are lower case already.
    let fold = |letter: char| letter.to_uppercase().flat_map(char::to_lowercase);
    let is_seen = |letter: &char| !IGNORED.iter().any(|ignored| ignored.contains(letter));
    text.nfd().flat_map(fold).nfd().filter(is_seen).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(one: &str, other: &str) -> bool {
        folded(Path::new(one)) == folded(Path::new(other))
    }

    #[test]
    fn takes_for_one_what_a_file_system_may() {
        for (one, other) in [
            ("/w/.GIT/Hooks", "/w/.git/hooks"),
            ("/w/.git/hoo\u{212a}s", "/w/.git/hooks"), // KELVIN SIGN
            ("/w/.ba\u{17f}hrc", "/w/.bashrc"),        // LONG S
            ("/w/.g\u{200c}it", "/w/.git"),            // CVE-2014-9390
            ("/w/stra\u{df}e", "/w/STRASSE"),
            ("/w/\u{e9}", "/w/E\u{301}"),
            ("/w/\u{3c2}", "/w/\u{3a3}"),
        ] {
            assert!(same(one, other), "{one} {other}");
        }
        assert!(!same("/w/.git", "/w/.gist"));
        assert!(!same("/w/a\u{200b}", "/w/b"));
    }

    #[test]
    fn keeps_as_many_names() {
        for path in ["/", "/a", "/A/\u{200b}/B", "/\u{ad}", "pipe:[1]"] {
            let count = |path: &Path| names(path).count();
            assert_eq!(count(&folded(Path::new(path))), count(Path::new(path)), "{path}");
        }
        assert_ne!(folded(Path::new("/a/\u{200b}/b")), Path::new("/a//b"));
    }

    #[test]
    fn leaves_bytes_that_are_no_text() {
        let path = Path::new(std::ffi::OsStr::from_bytes(b"/W/\xff\xc3A"));
        assert_eq!(folded(path).as_os_str().as_bytes(), b"/w/\xff\xc3a");
    }
}
