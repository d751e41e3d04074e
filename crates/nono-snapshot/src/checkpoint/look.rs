//! Looking at what has changed, without changing anything.

use std::path::Path;

use super::Checkpoint;
use crate::changes::Change;
use crate::compare::Side;
use crate::error::{Error, Result};
use crate::room::with_room;
use crate::store::Lock;
use crate::text::{self, FileDiff};

impl Checkpoint {
    /// What differs now, in each directory sorted by path.
    pub fn changes(&mut self) -> Result<Vec<Change>> {
        with_room(|| self.list_changes())
    }

    fn list_changes(&mut self) -> Result<Vec<Change>> {
        let _turn = self.turn()?;
        self.refresh("listing the changes")?;
        let (strategy, exclude) = (self.kind()?, self.exclude()?);
        let mut changes = Vec::new();
        for placement in &self.record.placements {
            changes.extend(strategy.changes(placement, &exclude)?);
        }
        Ok(changes)
    }

    /// Compares the contents of two files line by line, as [`Change::before_file`] and
    /// [`Change::after_file`] name them; `None` stands for one that doesn't exist. A symbolic link is
    /// compared by its text, and none is followed on the way to a file either.
    pub fn diff(&self, before: Option<&Path>, after: Option<&Path>) -> Result<FileDiff> {
        let mut sides = [None, None];
        for (side, path) in sides.iter_mut().zip([before, after]) {
            *side = path.map(|path| self.contents(path)).transpose()?;
        }
        Ok(text::diff(sides))
    }

    /// To look at what it keeps, where one at a time may.
    fn turn(&self) -> Result<Option<Lock>> {
        let is_alone = self.kind()?.is_seen_by_one();
        is_alone.then(|| self.store.lock_in_turn(self.id())).transpose()
    }

    fn contents(&self, path: &Path) -> Result<text::Contents> {
        let (strategy, _turn) = (self.kind()?, self.turn()?);
        for placement in &self.record.placements {
            let tree = strategy.tree(placement);
            if let Ok(inside) = path.strip_prefix(&tree) {
                strategy.make_reachable(placement)?;
                let contents = Side::open(&tree).and_then(|tree| text::contents(&tree, inside));
                strategy.release(placement)?;
                return contents;
            }
            for root in [&placement.dir, &placement.vault] {
                if let Ok(inside) = path.strip_prefix(root) {
                    return text::contents(&Side::open(root)?, inside);
                }
            }
        }
        Err(Error::PathOutside(path.to_owned()))
    }
}
