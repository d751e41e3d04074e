//! After a rollback to a copy the directory consists of other inodes. What an earlier checkpoint
//! knows of the former ones is carried over, or it would have to read every file to tell that it is
//! unchanged.

use crate::error::Result;
use crate::exclude::Exclude;
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
    let rebased = old.with_conditions(at, |path, entry| {
        let was = *old.meta(entry);
        // The same when the copy was made, and the copy has not been touched since.
        let is_copied = |meta: &&Meta| was.same_condition(meta) && !old.is_racy(entry);
        let copy = copied.find(path).map(|entry| copied.meta(entry)).filter(is_copied);
        let is = now.find(path).map(|entry| now.meta(entry)).filter(|is| is.was_settled(at));
        match (copy, is) {
            (Some(_), Some(is)) => Meta { ino: is.ino, ctime: is.ctime, btime: is.btime, ..was },
            _ => Meta { ino: was.ino | GONE, ..was },
        }
    });
    write_durably(&earlier.manifest(), &rebased.encode())
}
