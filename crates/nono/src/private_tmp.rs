//! A temporary directory for one sandbox where there is no mount namespace to make `/tmp` private in:
//! a new directory of the host's, which only the sandbox is granted, named to programs by `TMPDIR`.

use std::ffi::{CString, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The directory. Dropped, it is deleted with all that is in it.
#[derive(Debug)]
pub(crate) struct PrivateTmp(PathBuf);

impl PrivateTmp {
    /// Makes one, which nobody but this user can enter.
    pub(crate) fn create() -> io::Result<Self> {
        let template = std::env::temp_dir().canonicalize()?.join("nono-tmp-XXXXXX");
        let mut template = CString::new(template.as_os_str().as_bytes())?.into_bytes_with_nul();
        // SAFETY: a C string whose last six letters are replaced in place (`mkdtemp(3)`).
        let made = unsafe { libc::mkdtemp(template.as_mut_ptr().cast()) };
        if made.is_null() {
            return Err(io::Error::last_os_error());
        }
        template.pop();
        Ok(PrivateTmp(OsString::from_vec(template).into()))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PrivateTmp {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0); // follows no links; what is left is in /tmp
    }
}
