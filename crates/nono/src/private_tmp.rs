//! A temporary directory for one sandbox where there is no mount namespace to make `/tmp` private in:
//! a new directory of the host's, which only the sandbox is granted, named to programs by `TMPDIR`.

use std::ffi::{CString, OsString};
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
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
        let _ = remove(&self.0); // what is left is in /tmp
    }
}

/// Deletes a directory that nobody is in any more, with all that is in it. What is below is moved up to its
/// top first: however deep a sandbox has made it, this takes neither descriptors nor stack for it, as
/// `std::fs::remove_dir_all` does for each level. No link is followed.
fn remove(top: &Path) -> io::Result<()> {
    let mut moved = 0;
    open_up(top)?;
    while empty(top, |directory| {
        open_up(directory)?;
        while empty(directory, |below| {
            open_up(below)?;
            move_to(below, top, &mut moved)
        })? {}
        fs::remove_dir(directory)
    })? {}
    fs::remove_dir(top)
}

/// Deletes the files in a directory, and has the directories in it dealt with; false: there were none.
fn empty(directory: &Path, mut deal_with: impl FnMut(&Path) -> io::Result<()>) -> io::Result<bool> {
    let mut was_empty = true;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        was_empty = false;
        match entry.file_type()?.is_dir() {
            true => deal_with(&entry.path())?,
            false => fs::remove_file(entry.path())?,
        }
    }
    Ok(!was_empty)
}

/// Whoever owns a directory may have taken the right to it away.
fn open_up(directory: &Path) -> io::Result<()> {
    fs::set_permissions(directory, Permissions::from_mode(0o700))
}

/// Moves a directory under a name that is free.
fn move_to(directory: &Path, top: &Path, moved: &mut u64) -> io::Result<()> {
    use io::ErrorKind::{AlreadyExists, DirectoryNotEmpty, NotADirectory};
    loop {
        *moved += 1;
        match fs::rename(directory, top.join(moved.to_string())) {
            Err(error)
                if matches!(error.kind(), AlreadyExists | DirectoryNotEmpty | NotADirectory) => {}
            other => return other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::{AsRawFd, FromRawFd};
    use std::os::unix::fs::symlink;

    #[test]
    fn a_deep_directory_is_deleted_without_a_deep_stack_and_no_link_is_followed() {
        let tmp = PrivateTmp::create().unwrap();
        let outside = PrivateTmp::create().unwrap();
        fs::write(outside.path().join("kept"), "").unwrap();
        symlink(outside.path(), tmp.path().join("link")).unwrap();
        fs::write(tmp.path().join("1"), "").unwrap(); // a name that is used for moving
        fs::create_dir_all(tmp.path().join("2/kept")).unwrap();
        let mut deepest = File::open(tmp.path()).unwrap();
        for depth in 0..1_000 {
            let (directory, name) = (deepest.as_raw_fd(), c"d".as_ptr());
            // SAFETY: C strings; a new descriptor that nobody else owns.
            deepest = unsafe {
                assert_eq!(libc::mkdirat(directory, name, 0o700), 0);
                File::from_raw_fd(libc::openat(directory, name, libc::O_RDONLY | libc::O_CLOEXEC))
            };
            if depth % 100 == 0 {
                let link = c"outside".as_ptr();
                let to = CString::new(outside.path().as_os_str().as_bytes()).unwrap();
                // SAFETY: C strings.
                assert_eq!(unsafe { libc::symlinkat(to.as_ptr(), deepest.as_raw_fd(), link) }, 0);
                deepest.set_permissions(Permissions::from_mode(0o700)).unwrap();
            }
        }
        fs::set_permissions(tmp.path().join("2"), Permissions::from_mode(0o0)).unwrap();
        fs::set_permissions(tmp.path(), Permissions::from_mode(0o0)).unwrap();
        let path = tmp.path().to_owned();
        let builder = std::thread::Builder::new().stack_size(64 * 1024);
        builder.spawn(move || drop(tmp)).unwrap().join().unwrap();
        assert!(!path.exists());
        assert!(outside.path().join("kept").exists());
    }
}
