//! After a rollback to a copy the directory consists of other inodes. What an earlier checkpoint
//! knows of the former ones is carried over, or it would have to read every file to tell that it is
//! unchanged.

use std::collections::HashMap;
use std::path::Path;

use crate::error::Result;
use crate::exclude::Exclude;
use crate::manifest::Manifest;
use crate::meta::{Meta, Time};
use crate::strategy::Placement;
use crate::strategy::tree::kept;
use crate::transaction::write_durably;
use crate::walk::scan;

/// No inode has this in its number; one that is gone gets it, so that it equals no other.
const GONE: u64 = 1 << 63;

/// Rewrites the list of `earlier`, a checkpoint of the same directory as `restored`, which was rolled
/// back to after `at`.
pub(crate) fn rebase(earlier: &Placement, restored: &Placement, at: Time) -> Result<()> {
    if !earlier.manifest().exists() || !restored.manifest().exists() {
        return Ok(()); // A snapshot has the inodes of the directory.
    }
    let (old, copied) = (kept(earlier)?.manifest, kept(restored)?.manifest);
    let now = scan(&restored.dir, &Exclude::none())?;
    // What had been renamed by then is found by its number.
    let mut places = HashMap::new();
    copied.each(Manifest::ROOT, Path::new(""), &mut |path, entry| {
        places.insert(copied.meta(entry).ino, path.to_owned());
    });
    let rebased = old.with_conditions(at, |path, entry| {
        let was = *old.meta(entry);
        let copy_at = |path: &Path| {
            let copy = copied.find(path).map(|entry| copied.meta(entry))?;
            let is = now.find(path).map(|entry| now.meta(entry))?;
            was.same_inode(copy).then_some((copy, is))
        };
        let by_number = || places.get(&was.ino).and_then(|path| copy_at(path));
        match copy_at(path).or_else(by_number) {
            // The same when the copy was made, and the copy has not been touched since.
            Some((copy, is))
                if was.same_condition(copy) && !old.is_racy(entry) && is.was_settled(at) =>
            {
                Meta { ino: is.ino, ctime: is.ctime, btime: is.btime, ..was }
            }
            // The same inode, of which it has to be seen in what it differs.
            Some((_, is)) => Meta { ino: is.ino, ctime: Time::default(), btime: is.btime, ..was },
            None => Meta { ino: was.ino | GONE, ..was },
        }
    });
    write_durably(&earlier.manifest(), &rebased.encode())
}
