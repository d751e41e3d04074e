//! Steps that shape what the sandbox sees of the file system.

use crate::sys::{self, Result, call};

/// Attaches a detached tree at `path`, which is not followed if it is a symbolic link.
pub fn move_tree(tree: i32, path: *const u8) -> Result<()> {
    const MOVE_MOUNT_F_EMPTY_PATH: u64 = 4;
    let moved = call!(MOVE_MOUNT, tree, c"".as_ptr(), sys::AT_FDCWD, path, MOVE_MOUNT_F_EMPTY_PATH);
    sys::close(tree);
    moved.map(|_| ())
}

/// `mount_setattr(2)` on `path` and all mounts below it.
pub fn set_attributes(path: *const u8, set: u64) -> Result<()> {
    let attributes = [set, 0, 0, 0];
    call!(
        MOUNT_SETATTR,
        sys::AT_FDCWD,
        path,
        sys::AT_RECURSIVE,
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
pub fn add_rule(ruleset: i32, path: *const u8, access: u64) -> Result<()> {
    const LANDLOCK_RULE_PATH_BENEATH: u64 = 1;
    #[repr(C, packed)]
    struct PathBeneath {
        access: u64,
        parent: i32,
    }
    let parent = call!(OPENAT, sys::AT_FDCWD, path, sys::O_PATH | sys::O_CLOEXEC, 0)?;
    let rule = PathBeneath { access, parent: parent as i32 };
    let added = call!(LANDLOCK_ADD_RULE, ruleset, LANDLOCK_RULE_PATH_BENEATH, &raw const rule, 0);
    sys::close(parent as i32);
    added.map(|_| ())
}
