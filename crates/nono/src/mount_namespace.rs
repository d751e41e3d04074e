//! Mounting in a sandbox's mount namespace after it was built.
//!
//! `nono-init` gave up the right to, and a process with several threads cannot enter a user namespace
//! (`setns(2)`). So a clone does it that shares our memory and descriptors until it ends: system calls
//! only, on prepared buffers.

use std::ffi::{CStr, CString, c_int, c_void};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use crate::descriptor::owned;
use crate::launch;

/// A sandbox's mount namespace, and the user namespace that it belongs to.
#[derive(Debug)]
pub(crate) struct MountNamespace {
    mounts: File,
    user: OwnedFd,
}

impl MountNamespace {
    /// From a descriptor that only names it (`O_PATH`).
    pub(crate) fn new(place: &OwnedFd) -> io::Result<Self> {
        let mounts = File::open(format!("/proc/self/fd/{}", place.as_raw_fd()))?;
        // SAFETY: no memory is involved, and a new descriptor is made (`ioctl_ns(2)`).
        let user = unsafe { owned(libc::ioctl(mounts.as_raw_fd(), libc::NS_GET_USERNS))? };
        Ok(MountNamespace { mounts, user })
    }

    /// Mounts a file of a directory over another file, read-only. The mount is what is returned.
    pub(crate) fn attach(&self, directory: &File, name: &CStr, over: &File) -> io::Result<OwnedFd> {
        let (directory, over) = (directory.as_raw_fd(), over.as_raw_fd());
        let tree = self.act(&Act::Attach { directory, name, over })?;
        // SAFETY: the clone made it among our descriptors, and has left it to us.
        unsafe { owned(tree) }
    }

    /// Takes a mount away. Processes that execute or have opened what is in it are not disturbed.
    pub(crate) fn detach(&self, mount: &OwnedFd) -> io::Result<()> {
        let name = CString::new(mount.as_raw_fd().to_string())?;
        match self.act(&Act::Detach { name: &name }) {
            // The kernel took it away when what it was over was deleted (`rmdir(2)`, EBUSY).
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(()),
            result => result.map(drop),
        }
    }

    fn act(&self, act: &Act<'_>) -> io::Result<RawFd> {
        let (mounts, user) = (self.mounts.as_raw_fd(), self.user.as_raw_fd());
        let mut task = Task { mounts, user, act, result: Err(libc::ECHILD) };
        launch::run_apart(carry_out, (&raw mut task).cast(), libc::CLONE_FILES)?;
        task.result.map_err(io::Error::from_raw_os_error)
    }
}

enum Act<'a> {
    Attach {
        directory: RawFd,
        name: &'a CStr,
        over: RawFd,
    },
    /// The number of the mount's descriptor.
    Detach {
        name: &'a CStr,
    },
}

/// What the clone reads, and where it leaves what came of it.
struct Task<'a> {
    mounts: RawFd,
    user: RawFd,
    act: &'a Act<'a>,
    result: Result<RawFd, c_int>,
}

extern "C" fn carry_out(task: *mut c_void) -> c_int {
    // SAFETY: the `Task` of `MountNamespace::act`, which waits for us.
    let task = unsafe { &mut *task.cast::<Task<'_>>() };
    task.result = match *task.act {
        Act::Attach { directory, name, over } => task.attach(directory, name, over),
        Act::Detach { name } => task.detach(name),
    };
    0
}

impl Task<'_> {
    /// The right to mount is had in the user namespace only.
    fn enter(&self) -> Result<(), c_int> {
        // SAFETY: no memory is involved.
        unsafe {
            checked(libc::setns(self.user, libc::CLONE_NEWUSER))?;
            checked(libc::setns(self.mounts, libc::CLONE_NEWNS))?;
        }
        Ok(())
    }

    fn attach(&self, directory: RawFd, name: &CStr, over: RawFd) -> Result<RawFd, c_int> {
        const OPEN_TREE_CLONE: c_int = 1;
        const TO_DESCRIPTOR: c_int = 4 | 0x40; // MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH
        let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC;
        // SAFETY: all-zero is a valid mount_attr.
        let mut attributes: libc::mount_attr = unsafe { std::mem::zeroed() };
        attributes.attr_set =
            libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
        self.enter()?;
        let (none, size) = (c"".as_ptr(), size_of_val(&attributes));
        // SAFETY: C strings, and a structure of the size that is told.
        unsafe {
            let tree =
                syscall(libc::syscall(libc::SYS_open_tree, directory, name.as_ptr(), flags))?;
            let change = libc::SYS_mount_setattr;
            syscall(libc::syscall(
                change,
                tree,
                none,
                libc::AT_EMPTY_PATH,
                &raw const attributes,
                size,
            ))
            .and_then(|_| {
                syscall(libc::syscall(libc::SYS_move_mount, tree, none, over, none, TO_DESCRIPTOR))
            })
            .inspect_err(|_| _ = libc::close(tree))?;
            Ok(tree)
        }
    }

    /// By the mount's descriptor, since the path to it may lead elsewhere by now. umount2() takes only
    /// paths, and `/proc` is to be found before this namespace is left.
    fn detach(&self, name: &CStr) -> Result<RawFd, c_int> {
        let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC;
        // SAFETY: C strings; the working directory is this process's own (no CLONE_FS).
        unsafe {
            let descriptors = checked(libc::open(c"/proc/self/fd".as_ptr(), flags))?;
            let detached = self
                .enter()
                .and_then(|()| checked(libc::fchdir(descriptors)))
                .and_then(|_| checked(libc::umount2(name.as_ptr(), libc::MNT_DETACH)));
            libc::close(descriptors);
            detached
        }
    }
}

fn syscall(result: libc::c_long) -> Result<RawFd, c_int> {
    checked(result as c_int)
}

fn checked(result: c_int) -> Result<RawFd, c_int> {
    // SAFETY: always valid on the calling thread.
    if result >= 0 { Ok(result) } else { Err(unsafe { *libc::__errno_location() }) }
}
