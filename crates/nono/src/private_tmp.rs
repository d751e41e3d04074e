//! A temporary directory for one sandbox where there is no mount namespace to make `/tmp` private in:
//! a new directory of the host's, which only the sandbox is granted, named to programs by `TMPDIR`.

use std::ffi::{CString, OsString};
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::descriptor::open_place;

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
/// `std::fs::remove_dir_all` does for each level. No link is followed, not even one that takes the place of
/// a directory meanwhile: another sandbox may be allowed to write to all of `/tmp`.
fn remove(top: &Path) -> io::Result<()> {
    let mut moved = 0;
    let held = Directory::open_up(top)?;
    while held.empty(|path| {
        let directory = Directory::open_up(path)?;
        while directory.empty(|below| {
            Directory::open_up(below)?;
            move_to(below, &held.path(), &mut moved)
        })? {}
        fs::remove_dir(path)
    })? {}
    fs::remove_dir(top)
}

/// A directory, whatever has its name by now.
struct Directory(File);

impl Directory {
    /// Whoever owns a directory may have taken the right to it away.
    fn open_up(path: &Path) -> io::Result<Self> {
        let directory = Directory(open_place(path, libc::O_DIRECTORY | libc::O_NOFOLLOW)?);
        fs::set_permissions(directory.path(), Permissions::from_mode(0o700))?;
        Ok(directory)
    }

    /// A path that leads to it. Names joined to this are of its entries.
    fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }

    /// Deletes the files in it, and has the directories in it dealt with; false: there were none.
    fn empty(&self, mut deal_with: impl FnMut(&Path) -> io::Result<()>) -> io::Result<bool> {
        let mut was_empty = true;
        for entry in fs::read_dir(self.path())? {
            let entry = entry?;
            was_empty = false;
            match entry.file_type()?.is_dir() {
                true => deal_with(&entry.path())?,
                false => fs::remove_file(entry.path())?,
            }
        }
        Ok(!was_empty)
    }
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
    use std::os::fd::FromRawFd;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

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

    /// Another sandbox that may write to `/tmp` may write below, too.
    #[test]
    fn no_link_is_followed_that_takes_the_place_of_a_directory_meanwhile() {
        let outside = PrivateTmp::create().unwrap();
        let kept = outside.path().join("kept");
        fs::write(&kept, "").unwrap();
        fs::set_permissions(outside.path(), Permissions::from_mode(0o750)).unwrap();
        let own = PrivateTmp::create().unwrap();
        let [top, link] = ["top", "link"].map(|name| own.path().join(name));
        let name = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
        let (one, other) = (name(&top.join("directory")), name(&link));
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let (here, how) = (libc::AT_FDCWD, libc::RENAME_EXCHANGE);
                    // SAFETY: C strings.
                    unsafe { libc::renameat2(here, one.as_ptr(), here, other.as_ptr(), how) };
                }
            });
            let end = Instant::now() + Duration::from_millis(500);
            while Instant::now() < end && kept.exists() {
                let _ = (fs::remove_dir(&link), symlink(outside.path(), &link));
                let _ = fs::create_dir_all(top.join("directory"));
                let _ = remove(&top);
            }
            over.store(true, Ordering::Relaxed);
        });
        assert!(kept.exists());
        assert_eq!(outside.path().metadata().unwrap().permissions().mode() & 0o777, 0o750);
    }
}
