//! The requests of linux/btrfs.h and their structures.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;

/// `BTRFS_IOC_SNAP_DESTROY`, `_IOW(0x94, 15, struct btrfs_ioctl_vol_args)`
const SNAP_DESTROY: u64 = 0x5000_940f;
/// `BTRFS_IOC_TREE_SEARCH_V2`, `_IOWR(0x94, 17, struct btrfs_ioctl_search_args_v2)`
const TREE_SEARCH_V2: u64 = 0xc070_9411;
/// `BTRFS_IOC_SNAP_CREATE_V2`, `_IOW(0x94, 23, struct btrfs_ioctl_vol_args_v2)`
const SNAP_CREATE_V2: u64 = 0x5000_9417;
/// `BTRFS_IOC_GET_SUBVOL_INFO`, `_IOR(0x94, 60, struct btrfs_ioctl_get_subvol_info_args)`
const GET_SUBVOL_INFO: u64 = 0x81f8_943c;
/// `BTRFS_IOC_GET_SUBVOL_ROOTREF`, `_IOWR(0x94, 61, struct btrfs_ioctl_get_subvol_rootref_args)`
const GET_SUBVOL_ROOTREF: u64 = 0xd000_943d;

/// An argument of 4096 bytes, aligned as the kernel's structures are.
#[repr(C, align(8))]
struct Page([u8; 4096]);

impl Page {
    /// Both `btrfs_ioctl_vol_args` structures: a descriptor first, a name at `name_at`.
    fn new(fd: i64, name: &OsStr, name_at: usize) -> io::Result<Box<Self>> {
        let mut page = Box::new(Self([0; 4096]));
        page.0[..8].copy_from_slice(&fd.to_ne_bytes());
        let name = name.as_bytes();
        if name.len() > 255 {
            return Err(io::ErrorKind::InvalidFilename.into());
        }
        page.0[name_at..name_at + name.len()].copy_from_slice(name);
        Ok(page)
    }
}

fn ioctl(fd: impl AsFd, request: u64, page: &mut Page) -> io::Result<()> {
    // SAFETY: every request used here reads and writes at most 4096 bytes at its argument, and the
    // page lives across the call.
    let status = unsafe { libc::ioctl(fd.as_fd().as_raw_fd(), request as _, page.0.as_mut_ptr()) };
    if status < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn number(bytes: &[u8], at: usize) -> u64 {
    bytes[at..].first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes))
}

/// What a subvolume says about itself.
pub(super) struct Info {
    pub(super) id: u64,
    pub(super) uuid: [u8; 16],
    /// Of the subvolume that it was made a snapshot of.
    pub(super) parent: [u8; 16],
    /// The transaction that made it.
    pub(super) made: u64,
}

/// About the subvolume that holds an open directory; `None` when this is another file system.
pub(super) fn info(root: impl AsFd) -> io::Result<Option<Info>> {
    let mut page = Page::new(0, OsStr::new(""), 8)?;
    match ioctl(root, GET_SUBVOL_INFO, &mut page) {
        Ok(()) => {
            let uuid = |at: usize| page.0[at..].first_chunk().copied().unwrap_or_default();
            let (id, made) = (number(&page.0, 0), number(&page.0, 352));
            Ok(Some(Info { id, uuid: uuid(296), parent: uuid(312), made }))
        }
        Err(error) if error.raw_os_error() == Some(libc::ENOTTY) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes a snapshot of the open `subvolume` as `name` in the directory `parent`.
pub(super) fn snapshot(subvolume: impl AsFd, parent: impl AsFd, name: &str) -> io::Result<()> {
    let source = subvolume.as_fd().as_raw_fd().into();
    ioctl(parent, SNAP_CREATE_V2, &mut *Page::new(source, OsStr::new(name), 56)?)
}

pub(super) fn destroy(parent: impl AsFd, name: &OsStr) -> io::Result<()> {
    ioctl(parent, SNAP_DESTROY, &mut *Page::new(0, name, 8)?)
}

pub(super) fn has_inner_subvolumes(root: impl AsFd) -> io::Result<bool> {
    let mut page = Page::new(0, OsStr::new(""), 8)?;
    ioctl(root, GET_SUBVOL_ROOTREF, &mut page)?;
    // min_treeid and 255 pairs come before num_items.
    Ok(page.0[8 + 255 * 16] > 0)
}

/// The key of an item in a tree; items are sorted by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) object: u64,
    pub(super) kind: u32,
    pub(super) offset: u64,
}

impl Key {
    fn after(self) -> Option<Self> {
        match (self.offset.checked_add(1), self.kind.checked_add(1)) {
            (Some(offset), _) => Some(Self { offset, ..self }),
            (None, Some(kind)) if kind <= 255 => Some(Self { kind, offset: 0, ..self }),
            _ => Some(Self { object: self.object.checked_add(1)?, kind: 0, offset: 0 }),
        }
    }
}

/// `struct btrfs_ioctl_search_args_v2` with its buffer.
#[repr(C)]
struct Arguments {
    tree: u64,
    objects: [u64; 2],
    offsets: [u64; 2],
    transactions: [u64; 2],
    kinds: [u32; 2],
    /// At most so many; the kernel says how many there were.
    items: u32,
    unused: [u32; 9],
    size: u64,
    buffer: [u8; BUFFER],
}

/// An item is smaller than a node of the tree, and that has 64 KiB at most.
const BUFFER: usize = 128 * 1024;
/// `struct btrfs_ioctl_search_header`: transaction, key and length of the item behind it.
const HEADER: usize = 32;

/// Reads the items of trees, for which the kernel wants CAP_SYS_ADMIN.
pub(super) struct Search(Box<Arguments>);

impl Search {
    pub(super) fn new() -> Self {
        Self(Box::new(Arguments {
            tree: 0,
            objects: [0; 2],
            offsets: [0; 2],
            transactions: [0; 2],
            kinds: [0; 2],
            items: 0,
            unused: [0; 9],
            size: BUFFER as u64,
            buffer: [0; BUFFER],
        }))
    }

    /// Calls `each` for the items from `first` to `last` of the tree of that number (0: of the subvolume
    /// that holds `root`) until it says false. Only nodes written in the transaction `since` or later are
    /// looked at.
    pub(super) fn items(
        &mut self,
        root: impl AsFd,
        tree: u64,
        (first, last): (Key, Key),
        since: u64,
        each: &mut dyn FnMut(Key, &[u8]) -> bool,
    ) -> io::Result<()> {
        let arguments = &mut *self.0;
        let mut next = Some(first);
        while let Some(from) = next.take().filter(|from| *from <= last) {
            arguments.tree = tree;
            arguments.objects = [from.object, last.object];
            arguments.offsets = [from.offset, last.offset];
            arguments.transactions = [since, u64::MAX];
            arguments.kinds = [from.kind, last.kind];
            arguments.items = u32::MAX;
            // SAFETY: the kernel reads and writes the structure, and in its buffer as many bytes as `size`
            // says; it lives across the call.
            let status = unsafe {
                let root = root.as_fd().as_raw_fd();
                libc::ioctl(root, TREE_SEARCH_V2 as _, std::ptr::from_mut(arguments))
            };
            if status < 0 {
                return Err(io::Error::last_os_error());
            }
            let mut rest = &arguments.buffer[..];
            for _ in 0..arguments.items {
                let (header, behind) = rest.split_at(HEADER);
                let word = |at: usize| {
                    u32::from_ne_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
                };
                let (item, behind) = behind.split_at(word(28) as usize);
                let key =
                    Key { object: number(header, 8), kind: word(24), offset: number(header, 16) };
                if !each(key, item) {
                    return Ok(());
                }
                (rest, next) = (behind, key.after());
            }
        }
        Ok(())
    }
}
