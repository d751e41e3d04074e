use super::tree;
use super::{Placement, Strategy, file_system};
use crate::changes::Change;
use crate::copy::{Contents, copy_tree};
use crate::error::{Context, Result};
use crate::exclude::Exclude;
use crate::fault;
use crate::holders::mapped_inodes;
use crate::meta::Time;
use crate::moved::refuse_moved;
use crate::remove::remove_tree;
use crate::select::Selection;
use crate::step::Step;

/// A second tree made by reading and writing: works everywhere.
pub(crate) struct Copy;

impl Strategy for Copy {
    fn name(&self) -> &'static str {
        "copy"
    }

    fn fits(&self, placement: &Placement) -> std::result::Result<String, String> {
        tree::replaceable(placement)?;
        Ok(format!("{} needs a copy of every file", file_system(&placement.dir)))
    }

    fn begin(&self, placement: &Placement, exclude: &Exclude) -> Result<()> {
        begin(placement, exclude, Contents::Bytes)
    }

    fn changes(&self, placement: &Placement, exclude: &Exclude) -> Result<Vec<Change>> {
        tree::changes_since(placement, exclude, &tree::kept(placement)?, &Selection::All)
    }

    fn rollback(
        &self,
        placement: &Placement,
        exclude: &Exclude,
        select: &Selection,
    ) -> Result<Vec<Step>> {
        rollback(placement, exclude, select, Contents::Bytes)
    }

    fn commit(
        &self,
        placement: &Placement,
        exclude: &Exclude,
        select: &Selection,
    ) -> Result<Vec<Step>> {
        commit(placement, exclude, select, Contents::Bytes)
    }

    fn discard(&self, placement: &Placement) -> Result<()> {
        remove_tree(&placement.vault)
    }
}

/// Copies the directory into the vault with its list, and names the copy last.
pub(crate) fn begin(placement: &Placement, exclude: &Exclude, contents: Contents) -> Result<()> {
    let partial = placement.partial();
    tree::private_directory(&partial)?;
    let began = Time::now();
    // Only the first write to a page of a mapped file moves its times, until the page is flushed: what
    // goes on writing to it can change the file without a trace. Who maps it from now on leaves one.
    let mapped = mapped_inodes();
    let mut manifest = copy_tree(&placement.dir, &partial, contents, exclude)?;
    manifest.taken = began;
    refuse_moved(&placement.dir, &manifest, exclude, began)?;
    manifest.distrust(|meta| meta.is_file() && mapped.contains(&meta.ino));
    let list = placement.manifest();
    std::fs::write(&list, manifest.encode()).context("write", &list)?;
    fault::point("complete").context("name", &partial)?;
    std::fs::rename(&partial, placement.tree()).context("name", &partial)
}

/// The steps back to the copy in the vault, whose entries come out of it as `contents`.
pub(crate) fn rollback(
    placement: &Placement,
    exclude: &Exclude,
    select: &Selection,
    contents: Contents,
) -> Result<Vec<Step>> {
    let kept = || tree::kept(placement);
    let stage = || tree::fresh_stage(placement);
    tree::rollback(placement, exclude, select, &kept, (contents, &stage))
}

/// The steps that bring the copy in the vault up to date, whose entries go into it as `contents`.
pub(crate) fn commit(
    placement: &Placement,
    exclude: &Exclude,
    select: &Selection,
    contents: Contents,
) -> Result<Vec<Step>> {
    let kept = || tree::kept(placement);
    let stage = || tree::fresh_stage(placement);
    tree::commit((placement, &placement.tree()), exclude, select, &kept, (contents, &stage))
}
