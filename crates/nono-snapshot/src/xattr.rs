//! Extended attributes, POSIX ACLs and file capabilities included: for the kernel all of them are
//! named byte strings of an inode.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

/// Names and values.
pub(crate) type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// An inode's attributes are reached through an open file, or, for what can't be opened for reading
/// (symbolic links, FIFOs, sockets, devices), through its name in an open directory.
#[derive(Clone, Copy)]
pub(crate) enum Inode<'a, F> {
    Open(&'a F),
    Named(&'a F, &'a OsStr),
}

impl<F: AsFd> Inode<'_, F> {
    /// The `l*xattr` calls take no directory: procfs lends the open one a path. The last component
    /// is not followed.
    fn path(&self) -> Option<CString> {
        match self {
            Self::Open(_) => None,
            Self::Named(dir, name) => {
                let mut path = format!("/proc/self/fd/{}/", dir.as_fd().as_raw_fd()).into_bytes();
                path.extend_from_slice(name.as_bytes());
                CString::new(path).ok()
            }
        }
    }

    /// Every attribute this process may see; none where the file system has no attributes.
    pub(crate) fn read(&self) -> io::Result<Xattrs> {
        let names = match self.names() {
            Err(Errno::NOTSUP) => return Ok(Xattrs::new()),
            names => names?,
        };
        let mut xattrs = Xattrs::new();
        for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
            match self.value(name) {
                Ok(value) => drop(xattrs.insert(name.to_owned(), value)),
                // Listed, yet not ours to read or gone meanwhile.
                Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(xattrs)
    }

    fn names(&self) -> Result<Vec<u8>, Errno> {
        // Nearly every inode has none or one short name: the first buffer suffices.
        let mut names = vec![0; 256];
        loop {
            let length = match self {
                Self::Open(fd) => rustix::fs::flistxattr(fd, &mut names[..]),
                Self::Named(..) => {
                    rustix::fs::llistxattr(self.path().ok_or(Errno::INVAL)?, &mut names[..])
                }
            };
            match length {
                Ok(length) => {
                    names.truncate(length);
                    return Ok(names);
                }
                // 64 KiB is XATTR_LIST_MAX, the kernel's own limit.
                Err(Errno::RANGE) if names.len() < 65536 => names.resize(65536, 0),
                Err(error) => return Err(error),
            }
        }
    }

    fn value(&self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let mut value = vec![0; 1024];
        loop {
            let length = match self {
                Self::Open(fd) => rustix::fs::fgetxattr(fd, name, &mut value[..]),
                Self::Named(..) => {
                    rustix::fs::lgetxattr(self.path().ok_or(Errno::INVAL)?, name, &mut value[..])
                }
            };
            match length {
                Ok(length) => {
                    value.truncate(length);
                    return Ok(value);
                }
                // 64 KiB is XATTR_SIZE_MAX.
                Err(Errno::RANGE) if value.len() < 65536 => value.resize(65536, 0),
                Err(error) => return Err(error),
            }
        }
    }

    pub(crate) fn set(&self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => rustix::fs::fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Named(..) => {
                let path = self.path().ok_or(Errno::INVAL)?;
                rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
            }
        }
    }

    pub(crate) fn remove(&self, name: &[u8]) -> io::Result<()> {
        let removed = match self {
            Self::Open(fd) => rustix::fs::fremovexattr(fd, name),
            Self::Named(..) => rustix::fs::lremovexattr(self.path().ok_or(Errno::INVAL)?, name),
        };
        match removed {
            Err(Errno::NODATA) => Ok(()),
            removed => Ok(removed?),
        }
    }

    /// Makes the attributes exactly `wanted`. What only root or a security module may set is left
    /// as it is when the kernel refuses; `user.*` and ACLs must succeed.
    pub(crate) fn write(&self, wanted: &Xattrs) -> io::Result<()> {
        let present = self.read()?;
        for (name, value) in wanted {
            if present.get(name) != Some(value) {
                permitted(name, self.set(name, value))?;
            }
        }
        for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
            permitted(
                name,
                self.remove(name)
                    .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)),
            )?;
        }
        Ok(())
    }
}

fn permitted(name: &[u8], outcome: Result<(), Errno>) -> io::Result<()> {
    let privileged = name.starts_with(b"security.") || name.starts_with(b"trusted.");
    match outcome {
        Err(Errno::PERM | Errno::ACCESS | Errno::NOTSUP) if privileged => Ok(()),
        outcome => Ok(outcome?),
    }
}
