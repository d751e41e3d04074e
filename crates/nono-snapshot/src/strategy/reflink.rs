use std::fs::File;

use super::copy::{Copy, begin, commit, rollback};
use super::{Placement, Strategy, file_system, tree};
use crate::changes::Change;
use crate::copy::Contents;
use crate::error::Result;
use crate::exclude::Exclude;
use crate::select::Selection;
use crate::step::Step;

/// A second tree whose files share their blocks with the originals until either is written.
pub(crate) struct Reflink;

impl Strategy for Reflink {
    fn name(&self) -> &'static str {
        "reflink"
    }

    fn fits(&self, placement: &Placement) -> std::result::Result<String, String> {
        tree::replaceable(placement)?;
        let name = file_system(&placement.dir);
        match shares_blocks(placement) {
            Ok(()) => Ok(format!("{name} can share the blocks of files")),
            Err(error) => Err(format!("{name} can't share the blocks of files ({error})")),
        }
    }

    fn begin(&self, placement: &Placement, exclude: &Exclude) -> Result<()> {
        begin(placement, exclude, Contents::Shared)
    }

    fn changes(&self, placement: &Placement, exclude: &Exclude) -> Result<Vec<Change>> {
        Copy.changes(placement, exclude)
    }

    fn rollback(
        &self,
        placement: &Placement,
        exclude: &Exclude,
        select: &Selection,
    ) -> Result<Vec<Step>> {
        rollback(placement, exclude, select, Contents::Shared)
    }

    fn commit(
        &self,
        placement: &Placement,
        exclude: &Exclude,
        select: &Selection,
    ) -> Result<Vec<Step>> {
        commit(placement, exclude, select, Contents::Shared)
    }

    fn discard(&self, placement: &Placement) -> Result<()> {
        Copy.discard(placement)
    }
}

/// Clones a file of one block inside the vault.
fn shares_blocks(placement: &Placement) -> std::io::Result<()> {
    let (one, two) = (placement.vault.join("probe-1"), placement.vault.join("probe-2"));
    let cloned = (|| {
        std::fs::write(&one, [1; 4096])?;
        let (source, target) = (File::open(&one)?, File::create(&two)?);
        Ok(rustix::fs::ioctl_ficlone(target, source)?)
    })();
    for probe in [one, two] {
        // It need not exist: the first step may be the one that failed.
        let _ = std::fs::remove_file(probe);
    }
    cloned
}
