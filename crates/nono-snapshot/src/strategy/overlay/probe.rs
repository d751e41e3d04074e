use std::io;
use std::path::Path;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

use crate::remove::remove_tree;

/// Mounts a small overlay in `vault` and renames a directory of its lower layer.
pub(super) fn renames_directories(vault: &Path) -> io::Result<()> {
    let scratch = vault.join("probe");
    let tried = (|| {
        for name in ["lower/dir", "upper", "work", "merged"] {
            std::fs::create_dir_all(scratch.join(name))?;
        }
        // The mount namespace is that of the thread, and is gone with it.
        let thread = std::thread::scope(|scope| scope.spawn(|| attempt(&scratch)).join());
        thread.unwrap_or_else(|_| Err(io::Error::other("the trial panicked")))
    })();
    remove_tree(&scratch).map_err(io::Error::other)?;
    tried
}

fn attempt(scratch: &Path) -> io::Result<()> {
    // SAFETY: a mount namespace and working directory of its own concern this thread only, which
    // ends right after and shares no file descriptor table either way.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS | UnshareFlags::FS)? };
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    // A path may hold what separates options. The working directory is that of the thread, too.
    rustix::process::chdir(scratch)?;
    // Without `volatile` the end of the mount flushes the whole file system of the upper layer.
    let layers = c"lowerdir=lower,upperdir=upper,workdir=work,redirect_dir=on,volatile";
    mount("nono", "merged", "overlay", MountFlags::empty(), layers)?;
    std::fs::rename("merged/dir", "merged/renamed")
}
