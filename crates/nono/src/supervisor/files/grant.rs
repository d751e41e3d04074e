//! Opening on somebody's word what no rule grants: exactly what was asked for, once.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use super::super::hands::Mode;
use super::super::record::Given;
use super::open::{amend, open_at, opened, reopen};
use super::reply::{Reply, Verdict};
use crate::descriptor::open_place;

/// An open that waits for a word: made without the sandbox's rules, on the object or in the directory
/// that was found when it was asked for.
pub(in crate::supervisor) struct Grant {
    /// The object, or the directory of what is to be made.
    pub(super) place: File,
    /// Its path.
    pub(super) path: PathBuf,
    /// The name of what is to be made, with its mode.
    pub(super) new: Option<(CString, Mode)>,
    pub(super) flags: i32,
}

impl Grant {
    /// Opens it on somebody's word.
    pub(in crate::supervisor) fn give(&self) -> Given {
        let answer = self.perform();
        let failed = answer.as_ref().err().map(|error| error.raw_os_error().unwrap_or(libc::EIO));
        let verdict = Verdict(answer);
        (failed.or(Some(0)), Box::new(move |listener, call| verdict.send(listener, call)))
    }

    fn perform(&self) -> io::Result<Reply> {
        let file = match self.open(&self.place) {
            // In the sandbox's view of the file system the place is read-only. In the owner's it is
            // not, if it is the same place.
            Err(error) if error.raw_os_error() == Some(libc::EROFS) => {
                let (ours, theirs) = (self.same_place_outside()?, self.place.metadata()?);
                let found = ours.metadata()?;
                if (found.dev(), found.ino()) != (theirs.dev(), theirs.ino()) {
                    return Err(error);
                }
                self.open(&ours)?
            }
            other => other?,
        };
        Ok(opened(file, self.flags))
    }

    fn open(&self, place: &File) -> io::Result<File> {
        let Some((name, mode)) = &self.new else {
            return reopen(place, self.flags & !(libc::O_CREAT | libc::O_NOFOLLOW), 0);
        };
        let flags = self.flags | libc::O_NOFOLLOW | libc::O_NOCTTY | libc::O_CLOEXEC;
        let make = |mode| open_at(place, name, flags, mode);
        mode.on_any_thread().make(make, amend)
    }

    fn same_place_outside(&self) -> io::Result<File> {
        open_place(&self.path, libc::O_NOFOLLOW)
    }
}
