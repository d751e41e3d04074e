//! Writable directories that commands see through an overlay: what they change is kept elsewhere, and
//! the directory itself stays as it is (`overlayfs`, Documentation/filesystems/overlayfs.rst).

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::descriptor::{open_resolved_place, owned};
use crate::error::{Error, Result};
use crate::policy::{self, Policy};

/// A directory that commands write to through an overlay, as a checkpoint asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverlayMount {
    /// The directory, below a write grant.
    pub target: PathBuf,
    /// Where changes go: an existing directory that no grant reaches.
    pub upper: PathBuf,
    /// An empty directory of the same file system, for the kernel's own use.
    pub work: PathBuf,
}

/// Overlays of one sandbox, with those that could be made by this process itself.
#[derive(Debug)]
pub(crate) struct Overlays {
    pub(crate) mounts: Vec<OverlayMount>,
    /// A detached mount for each, if this process may make them: only then directories can be
    /// renamed, since attributes of the kernel's own (`trusted.overlay.redirect`) take CAP_SYS_ADMIN in
    /// the initial user namespace. Empty: `nono-init` makes them, without, and `supervisor/files/carry.rs`
    /// moves directories.
    pub(crate) detached: Vec<OwnedFd>,
}

impl Overlays {
    /// Makes what can be made before the sandbox is.
    pub(crate) fn prepare(mounts: &[OverlayMount]) -> Self {
        let detached = mounts.iter().map(make_detached).collect::<io::Result<_>>();
        Overlays { mounts: mounts.to_vec(), detached: detached.unwrap_or_default() }
    }
}

impl OverlayMount {
    /// Checks it against the policy.
    pub(crate) fn check(&self, policy: &Policy) -> Result<Self> {
        let refuse = |reason: &str, path: &Path| {
            let reason = format!("{}: {reason}", path.display());
            Err(Error::InvalidCapabilities { field: "mounts", reason })
        };
        let [target, upper, work] = [&self.target, &self.upper, &self.work];
        let (target, upper, work) =
            (policy::canonical(target)?, policy::canonical(upper)?, policy::canonical(work)?);
        for directory in [&target, &upper, &work] {
            if !directory.is_dir() {
                return refuse("it is not a directory", directory);
            }
        }
        if !policy.access_to(&target).write {
            return refuse("no write grant reaches it", &target);
        }
        for own in [&upper, &work] {
            let access = policy.access_to(own);
            if access.read || access.write || access.execute {
                return refuse("a grant reaches it, so commands could change it", own);
            }
        }
        Ok(OverlayMount { target, upper, work })
    }

    /// The options of mount(2) for a user namespace, where the target is the working directory. A comma ends
    /// an option; a backslash takes that meaning away.
    pub(crate) fn unprivileged_options(&self) -> Vec<u8> {
        let mut options = b"lowerdir=.,".to_vec();
        for (name, path) in [("upperdir", &self.upper), ("workdir", &self.work)] {
            options.extend(format!("{name}=").bytes());
            for byte in path.as_os_str().as_bytes() {
                if matches!(byte, b'\\' | b',' | b':') {
                    options.push(b'\\');
                }
                options.push(*byte);
            }
            options.push(b',');
        }
        options.extend(b"userxattr,metacopy=off,index=off");
        options
    }
}

/// Whether this process may make overlays itself.
pub(crate) fn can_make() -> bool {
    open_context().is_ok()
}

fn open_context() -> io::Result<OwnedFd> {
    const FSOPEN_CLOEXEC: u32 = 1;
    // SAFETY: a C string, and a new descriptor is made.
    unsafe { owned(libc::syscall(libc::SYS_fsopen, c"overlay".as_ptr(), FSOPEN_CLOEXEC)) }
}

fn make_detached(mount: &OverlayMount) -> io::Result<OwnedFd> {
    const FSCONFIG_SET_STRING: u32 = 1;
    const FSCONFIG_CMD_CREATE: u32 = 6;
    const FSMOUNT_CLOEXEC: u32 = 1;
    let context = open_context()?;
    let configure = |command: u32, key: Option<&CStr>, value: Option<&CStr>| {
        let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
        let (fd, key, value) = (context.as_raw_fd(), pointer(key), pointer(value));
        // SAFETY: C strings, or null where the command takes none.
        match unsafe { libc::syscall(libc::SYS_fsconfig, fd, command, key, value, 0) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    let set = |key: &CStr, value: &[u8]| {
        configure(FSCONFIG_SET_STRING, Some(key), Some(&CString::new(value)?))
    };
    let lower = open_resolved_place(&mount.target)?;
    set(c"source", b"overlay")?;
    set(c"lowerdir", format!("/proc/self/fd/{}", lower.as_raw_fd()).as_bytes())?;
    set(c"upperdir", mount.upper.as_os_str().as_bytes())?;
    set(c"workdir", mount.work.as_os_str().as_bytes())?;
    for (key, value) in [(c"redirect_dir", "on"), (c"metacopy", "off"), (c"index", "off")] {
        set(key, value.as_bytes())?;
    }
    configure(FSCONFIG_CMD_CREATE, None, None)?;
    let attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV;
    let context = context.as_raw_fd();
    // SAFETY: no memory is involved, and a new descriptor is made.
    unsafe { owned(libc::syscall(libc::SYS_fsmount, context, FSMOUNT_CLOEXEC, attributes)) }
}
