//! Steps that shape what the sandbox sees of the file system.

use crate::sys::{self, Result, call};

/// Closed when it is dropped.
struct Place(i32);

impl Drop for Place {
    fn drop(&mut self) {
        sys::close(self.0);
    }
}

/// Names what is at `path`; if it is resolved, without following any symbolic link (ELOOP).
fn open_place(path: *const u8, is_resolved: bool) -> Result<Place> {
    const RESOLVE_NO_SYMLINKS: u64 = 4;
    let place = if is_resolved {
        // struct open_how: flags, mode, how to resolve.
        let how = [sys::O_PATH | sys::O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS];
        call!(OPENAT2, sys::AT_FDCWD, path, how.as_ptr(), size_of_val(&how))
    } else {
        call!(OPENAT, sys::AT_FDCWD, path, sys::O_PATH | sys::O_CLOEXEC, 0)
    };
    place.map(|place| Place(place as i32))
}

/// Does something with the working directory at `path`.
pub fn enter(path: *const u8, work: impl FnOnce() -> Result<()>) -> Result<()> {
    call!(FCHDIR, open_place(path, true)?.0)?;
    let done = work();
    call!(CHDIR, c"/".as_ptr())?;
    done
}

/// `open_tree(2)`: a copy of what is at `path`, as `flags` say.
pub fn open_tree(path: *const u8, is_resolved: bool, flags: u64) -> Result {
    let place = open_place(path, is_resolved)?;
    call!(OPEN_TREE, place.0, c"".as_ptr(), flags | sys::AT_EMPTY_PATH)
}

/// Attaches a detached tree at `path`.
pub fn move_tree(tree: i32, path: *const u8, is_resolved: bool) -> Result<()> {
    const FROM_AND_TO_EMPTY_PATHS: u64 = 4 | 0x40; // MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH
    let tree = Place(tree);
    let place = open_place(path, is_resolved)?;
    let none = c"".as_ptr();
    call!(MOVE_MOUNT, tree.0, none, place.0, none, FROM_AND_TO_EMPTY_PATHS).map(|_| ())
}

/// `mount_setattr(2)` on `path` and all mounts below it.
pub fn set_attributes(path: *const u8, is_resolved: bool, set: u64) -> Result<()> {
    let attributes = [set, 0, 0, 0];
    let place = open_place(path, is_resolved)?;
    call!(
        MOUNT_SETATTR,
        place.0,
        c"".as_ptr(),
        sys::AT_RECURSIVE | sys::AT_EMPTY_PATH,
        attributes.as_ptr(),
        size_of_val(&attributes)
    )
    .map(|_| ())
}

pub fn make_directory(path: *const u8, mode: u64) -> Result<()> {
    match call!(MKDIRAT, sys::AT_FDCWD, path, mode) {
        Ok(_) | Err(sys::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

pub fn create_file(path: *const u8, mode: u64) -> Result<()> {
    let flags = sys::O_WRONLY | sys::O_CREAT | sys::O_NOCTTY | sys::O_CLOEXEC;
    let file = call!(OPENAT, sys::AT_FDCWD, path, flags, mode)?;
    sys::close(file as i32);
    Ok(())
}

pub fn write_file(path: *const u8, contents: *const u8, length: u64) -> Result<()> {
    let file = call!(OPENAT, sys::AT_FDCWD, path, sys::O_WRONLY | sys::O_CLOEXEC, 0)?;
    let written = call!(WRITE, file, contents, length);
    sys::close(file as i32);
    match written? {
        all if all as u64 == length => Ok(()),
        _ => Err(sys::EAGAIN),
    }
}

/// A Landlock rule for what is at `path` now that the mounts stand: private mounts have inodes of
/// their own, which the owner's rules cannot name.
pub fn add_rule(ruleset: i32, path: *const u8, is_resolved: bool, access: u64) -> Result<()> {
    const LANDLOCK_RULE_PATH_BENEATH: u64 = 1;
    #[repr(C, packed)]
    struct PathBeneath {
        access: u64,
        parent: i32,
    }
    let parent = open_place(path, is_resolved)?;
    let rule = PathBeneath { access, parent: parent.0 };
    call!(LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, &raw const rule, 0).map(|_| ())
}
