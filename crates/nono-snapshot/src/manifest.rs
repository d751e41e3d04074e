//! The list of a tree: what was where, in which condition. It is what `changes()` compares with, so
//! that an unchanged file is never read.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::meta::{Meta, Time};
use crate::select::Selection;

/// A tree in memory. The entries of a directory are contiguous and sorted by name, so that two
/// manifests are compared by merging.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    nodes: Vec<Node>,
    names: Vec<u8>,
    /// Topmost excluded entries that were there.
    pub(crate) excluded: Vec<PathBuf>,
    /// When the walk began: what changed within a clock tick of it can't be told by its times.
    pub(crate) taken: Time,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    name: Range<u32>,
    meta: Meta,
    children: Range<u32>,
}

/// The position of an entry in its manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Entry(u32);

impl Manifest {
    pub(crate) const ROOT: Entry = Entry(0);

    fn node(&self, entry: Entry) -> &Node {
        &self.nodes[entry.0 as usize]
    }

    pub(crate) fn meta(&self, entry: Entry) -> &Meta {
        &self.node(entry).meta
    }

    pub(crate) fn name(&self, entry: Entry) -> &OsStr {
        let name = &self.node(entry).name;
        OsStr::from_bytes(&self.names[name.start as usize..name.end as usize])
    }

    /// The entries of a directory, by name.
    pub(crate) fn children(&self, entry: Entry) -> impl Iterator<Item = Entry> + Clone + use<> {
        self.node(entry).children.clone().map(Entry)
    }

    pub(crate) fn child(&self, entry: Entry, name: &OsStr) -> Option<Entry> {
        let children = self.node(entry).children.clone();
        let nodes = &self.nodes[children.start as usize..children.end as usize];
        let found = nodes.binary_search_by(|node| {
            self.names[node.name.start as usize..node.name.end as usize].cmp(name.as_bytes())
        });
        found.ok().map(|index| Entry(children.start + index as u32))
    }

    pub(crate) fn find(&self, path: &Path) -> Option<Entry> {
        path.iter().try_fold(Self::ROOT, |entry, name| self.child(entry, name))
    }

    /// Calls `visit` for every entry below `entry`, parents first.
    pub(crate) fn each(&self, entry: Entry, path: &Path, visit: &mut impl FnMut(&Path, Entry)) {
        // Not by recursion: how deep a tree is, is up to whoever made it.
        let mut above = vec![(path.to_owned(), self.node(entry).children.clone())];
        while let Some((path, children)) = above.last_mut() {
            let Some(child) = children.next().map(Entry) else {
                above.pop();
                continue;
            };
            let path = path.join(self.name(child));
            visit(&path, child);
            above.push((path, self.node(child).children.clone()));
        }
    }

    /// The directories with such entries somewhere below them.
    pub(crate) fn above(&self, is_such: impl Fn(Entry) -> bool) -> HashSet<Entry> {
        let mut above = HashSet::new();
        // Entries of a directory come after it.
        for (number, node) in self.nodes.iter().enumerate().rev() {
            let mut children = node.children.clone().map(Entry);
            if children.any(|child| is_such(child) || above.contains(&child)) {
                above.insert(Entry(number as u32));
            }
        }
        above
    }

    /// An entry that is not the same on the other list.
    pub(crate) fn first_difference(&self, other: &Self) -> Option<PathBuf> {
        if (&self.nodes, &self.names) == (&other.nodes, &other.names) {
            return None;
        }
        let mut found = None;
        self.each(Self::ROOT, Path::new(""), &mut |path, entry| {
            let same = other.find(path).is_some_and(|there| other.meta(there) == self.meta(entry));
            if !same && found.is_none() {
                found = Some(path.to_owned());
            }
        });
        // Something new, or the directory itself.
        Some(found.unwrap_or_default())
    }

    /// Whether a file on the list has several names.
    pub(crate) fn has_links(&self) -> bool {
        self.nodes.iter().any(|node| node.meta.nlink > 1 && !node.meta.is_dir())
    }

    /// Whether the entry may have changed after it was listed without its times showing it.
    pub(crate) fn is_racy(&self, entry: Entry) -> bool {
        !self.meta(entry).was_settled(self.taken)
    }

    /// Of these the times don't tell whether they have changed: they are compared by their contents.
    pub(crate) fn distrust(&mut self, which: impl Fn(&Meta) -> bool) {
        for node in self.nodes.iter_mut().filter(|node| which(&node.meta)) {
            // No entry has this one.
            node.meta.ctime = Time::default();
        }
    }

    /// This list with other conditions of the same entries, as they were at `taken`.
    pub(crate) fn with_conditions(
        &self,
        taken: Time,
        mut of: impl FnMut(&Path, Entry) -> Meta,
    ) -> Self {
        let mut list = self.clone();
        list.taken = taken;
        list.nodes[0].meta = of(Path::new(""), Self::ROOT);
        self.each(Self::ROOT, Path::new(""), &mut |path, entry| {
            list.nodes[entry.0 as usize].meta = of(path, entry);
        });
        list
    }

    /// This list with the selected entries as `now` has them.
    pub(crate) fn merged(&self, now: &Self, select: &Selection) -> Self {
        let mut builder = ManifestBuilder { taken: self.taken, ..ManifestBuilder::new() };
        let mut next_id = 1;
        let mut pending = vec![(select.root(), Some(Self::ROOT), Some(Self::ROOT), 0)];
        while let Some((directory, own, other, id)) = pending.pop() {
            let mut names: Vec<&OsStr> = own
                .iter()
                .flat_map(|&dir| self.children(dir))
                .map(|entry| self.name(entry))
                .collect();
            names.extend(
                other.iter().flat_map(|&dir| now.children(dir)).map(|entry| now.name(entry)),
            );
            names.sort_unstable();
            names.dedup();
            for name in names {
                let reach = select.below(directory, name);
                let own = own.and_then(|dir| self.child(dir, name));
                let other =
                    other.and_then(|dir| now.child(dir, name)).filter(|_| !reach.is_outside());
                let is = other.map(|entry| now.meta(entry));
                let was = own.map(|entry| self.meta(entry));
                // A directory above a selected entry that the list lacks came with it.
                let above = || is.filter(|meta| meta.is_dir());
                let picked = if reach.is_inside() { is } else { was.or_else(above) };
                let Some(meta) = picked else { continue };
                if meta.is_dir() {
                    builder.directories(id, vec![(name.to_owned(), *meta, next_id)]);
                    pending.push((reach, own, other, next_id));
                    next_id += 1;
                } else {
                    builder.entries(id, vec![(name.to_owned(), *meta)]);
                }
            }
        }
        let root = if select.root().is_inside() { now } else { self };
        builder.finish(*root.meta(Self::ROOT))
    }

    /// The bytes of the manifest's file.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64 + self.names.len() + self.nodes.len() * 120);
        bytes.extend_from_slice(MAGIC);
        put(&mut bytes, self.nodes.len() as u64);
        put(&mut bytes, self.names.len() as u64);
        put(&mut bytes, self.excluded.len() as u64);
        put_time(&mut bytes, self.taken);
        for node in &self.nodes {
            let Meta { mode, uid, gid, nlink, size, blocks, rdev, ino, mtime, ctime, btime } =
                node.meta;
            for number in [node.name.start, node.name.end, node.children.start, node.children.end] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for number in [mode, uid, gid, nlink] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            for number in [size, blocks, rdev, ino] {
                put(&mut bytes, number);
            }
            for time in [mtime, ctime, btime] {
                put_time(&mut bytes, time);
            }
        }
        bytes.extend_from_slice(&self.names);
        for path in &self.excluded {
            put(&mut bytes, path.as_os_str().len() as u64);
            bytes.extend_from_slice(path.as_os_str().as_bytes());
        }
        let sum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// Reads the bytes of the file at `path`.
    pub(crate) fn decode(bytes: &[u8], path: &Path) -> Result<Self> {
        let corrupt =
            |reason: &str| Error::Corrupt { path: path.to_owned(), reason: reason.to_owned() };
        let (body, sum) =
            bytes.split_last_chunk::<4>().ok_or_else(|| corrupt("it is too short"))?;
        if crc32fast::hash(body) != u32::from_le_bytes(*sum) {
            return Err(corrupt("its checksum is wrong"));
        }
        let mut input = Input(body);
        let manifest = input.manifest();
        manifest.ok_or_else(|| corrupt("it is not a manifest of this version"))
    }
}

const MAGIC: &[u8] = b"nono manifest 1\n";

fn put(bytes: &mut Vec<u8>, number: u64) {
    bytes.extend_from_slice(&number.to_le_bytes());
}

fn put_time(bytes: &mut Vec<u8>, time: Time) {
    bytes.extend_from_slice(&time.seconds.to_le_bytes());
    bytes.extend_from_slice(&time.nanoseconds.to_le_bytes());
}

/// What is left to decode.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    fn time(&mut self) -> Option<Time> {
        Some(Time { seconds: self.u64()?.cast_signed(), nanoseconds: self.u32()? })
    }

    fn manifest(&mut self) -> Option<Manifest> {
        if self.take(MAGIC.len())? != MAGIC {
            return None;
        }
        let (count, names_length, excluded_count) = (self.u64()?, self.u64()?, self.u64()?);
        let taken = self.time()?;
        let mut nodes = Vec::new();
        for number in 0..count {
            let name = self.u32()?..self.u32()?;
            let children = self.u32()?..self.u32()?;
            let (mode, uid, gid, nlink) = (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
            let (size, blocks, rdev, ino) = (self.u64()?, self.u64()?, self.u64()?, self.u64()?);
            let (mtime, ctime, btime) = (self.time()?, self.time()?, self.time()?);
            let meta = Meta { mode, uid, gid, nlink, size, blocks, rdev, ino, mtime, ctime, btime };
            // Entries of a directory come after it, so that none is below itself.
            let is_later = children.is_empty() || u64::from(children.start) > number;
            let is_in_order = name.start <= name.end && children.start <= children.end && is_later;
            if !is_in_order || u64::from(name.end) > names_length || u64::from(children.end) > count
            {
                return None;
            }
            nodes.push(Node { name, meta, children });
        }
        let names = self.take(names_length as usize)?.to_owned();
        let is_name = |node: &Node| {
            let name = &names[node.name.start as usize..node.name.end as usize];
            !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, 0 | b'/'))
        };
        if !nodes.iter().skip(1).all(is_name) {
            return None;
        }
        let mut excluded = Vec::new();
        for _ in 0..excluded_count {
            let length = self.u64()? as usize;
            excluded.push(PathBuf::from(OsStr::from_bytes(self.take(length)?)));
        }
        (self.0.is_empty() && !nodes.is_empty()).then_some(Manifest {
            nodes,
            names,
            excluded,
            taken,
        })
    }
}

/// Collects the listings of directories, which arrive in any order.
pub(crate) struct ManifestBuilder {
    /// By the walk's number of the directory: its entries, with the number of those that are directories.
    listings: Vec<Vec<(OsString, Meta, Option<usize>)>>,
    excluded: Vec<PathBuf>,
    taken: Time,
}

impl ManifestBuilder {
    pub(crate) fn new() -> Self {
        Self { listings: Vec::new(), excluded: Vec::new(), taken: Time::now() }
    }

    fn listing(&mut self, dir: usize) -> &mut Vec<(OsString, Meta, Option<usize>)> {
        if self.listings.len() <= dir {
            self.listings.resize_with(dir + 1, Vec::new);
        }
        &mut self.listings[dir]
    }

    pub(crate) fn entries(&mut self, dir: usize, entries: Vec<(OsString, Meta)>) {
        let listing = self.listing(dir);
        listing.extend(entries.into_iter().map(|(name, meta)| (name, meta, None)));
    }

    pub(crate) fn directories(&mut self, dir: usize, entries: Vec<(OsString, Meta, usize)>) {
        let listing = self.listing(dir);
        listing.extend(entries.into_iter().map(|(name, meta, id)| (name, meta, Some(id))));
    }

    pub(crate) fn excluded(&mut self, paths: Vec<PathBuf>) {
        self.excluded.extend(paths);
    }

    /// Lays the listings out breadth first.
    pub(crate) fn finish(mut self, root: Meta) -> Manifest {
        let mut nodes = vec![Node { name: 0..0, meta: root, children: 0..0 }];
        let mut names = Vec::new();
        let mut pending = std::collections::VecDeque::from([(0, 0)]);
        while let Some((node, dir)) = pending.pop_front() {
            let mut listing = self.listings.get_mut(dir).map(std::mem::take).unwrap_or_default();
            listing.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
            let first = nodes.len() as u32;
            for (name, meta, id) in listing {
                let start = names.len() as u32;
                names.extend_from_slice(name.as_bytes());
                if let Some(id) = id {
                    pending.push_back((nodes.len(), id));
                }
                nodes.push(Node { name: start..names.len() as u32, meta, children: 0..0 });
            }
            nodes[node].children = first..nodes.len() as u32;
        }
        self.excluded.sort_unstable();
        Manifest { nodes, names, excluded: self.excluded, taken: self.taken }
    }
}
