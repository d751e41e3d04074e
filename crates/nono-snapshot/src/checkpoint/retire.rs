//! The end of a checkpoint: what it supersedes, and what is freed.

use std::path::Path;

use super::Checkpoint;
use super::create::original;
use crate::error::{Error, Result};
use crate::exclude::Exclude;
use crate::plan::Base;
use crate::rebase::rebase;
use crate::record::{Record, State};
use crate::remove::remove_tree;
use crate::select::Selection;
use crate::step::{Place, Step};
use crate::strategy::overlay::Overlay;
use crate::strategy::{Placement, Strategy};
use crate::transaction::sync_around;

impl Checkpoint {
    /// Later checkpoints of the same directories describe what no longer came about.
    pub(super) fn supersede_later(&self) -> Result<()> {
        for other in self.later()? {
            let home = self.store.home(&other.id);
            // Whoever flushes it would write down again that it is open.
            let _lock = match self.store.lock(&other.id) {
                // Somebody works with it, and will find out.
                Err(Error::Busy(_)) => None,
                Err(Error::UnknownCheckpoint { .. }) => continue,
                lock => Some(lock?),
            };
            let other = Record::read(&home)?.filter(|other| other.state.is_open());
            if let Some(mut other) = other {
                other.state = State::Superseded;
                other.write(&home)?;
            }
        }
        Ok(())
    }

    /// The open checkpoints of the same directories that were made after this one, oldest first.
    pub(super) fn later(&self) -> Result<Vec<Record>> {
        let mut records = self.store.records()?;
        records.retain(|other| {
            other.sequence > self.record.sequence && other.state.is_open() && self.overlaps(other)
        });
        Ok(records)
    }

    fn overlaps(&self, other: &Record) -> bool {
        other.placements.iter().any(|Placement { dir: other, .. }| {
            self.dirs().any(|dir| other.starts_with(dir) || dir.starts_with(other))
        })
    }

    fn is_overlay(record: &Record) -> bool {
        record.strategy == Overlay.name()
    }

    /// Overlay: what later ones have applied is undone first, the latest first. What an overlay
    /// replaced is kept by the checkpoint that replaced it.
    pub(super) fn steps_of_later(&self) -> Result<Vec<Step>> {
        if !Self::is_overlay(&self.record) {
            return Ok(Vec::new());
        }
        let mut steps = Vec::new();
        for other in self.later()?.iter().rev().filter(|other| Self::is_overlay(other)) {
            let exclude = Exclude::new(&other.exclude)?;
            for placement in &other.placements {
                steps.extend(Overlay.rollback(placement, &exclude, &Selection::All)?);
            }
        }
        Ok(steps)
    }

    /// Refuses to let go of what an earlier overlay needs for the way back ([`Self::steps_of_later`]).
    pub(super) fn refuse_if_needed(&self) -> Result<()> {
        let needs = |other: &Record| {
            let is_earlier = other.sequence < self.record.sequence && other.state == State::Applied;
            is_earlier && Self::is_overlay(other) && self.overlaps(other)
        };
        match self.store.records()?.into_iter().find(needs) {
            Some(earlier) if Self::is_overlay(&self.record) => {
                Err(Error::Needed { id: self.record.id.clone(), earlier: earlier.id })
            }
            _ => Ok(()),
        }
    }

    /// Deletes what is kept for this checkpoint, if it is over, and for superseded ones.
    pub fn purge(&mut self) -> Result<()> {
        self.make_lasting()?;
        let records = self.store.records()?;
        self.rebase_earlier(&records)?;
        for record in records.into_iter().filter(|record| {
            record.state == State::Superseded
                || (record.id == self.record.id && !record.state.is_open())
        }) {
            let other = Self::from_record(self.store.clone(), record);
            let _lock = match self.store.lock(other.id()) {
                Err(Error::Busy(_)) => continue,
                lock => lock?,
            };
            other.discard()?;
        }
        Ok(())
    }

    /// Earlier checkpoints learn what the directories consist of since this one was rolled back to.
    fn rebase_earlier(&self, records: &[Record]) -> Result<()> {
        let own = records.iter().find(|record| record.id == self.record.id);
        let Some((own, at)) = own.and_then(|own| Some((own, own.ended?))) else { return Ok(()) };
        let is_earlier = |other: &&Record| other.sequence < own.sequence && other.state.is_open();
        for other in records.iter().filter(is_earlier) {
            // Someone who works with it compares more, and nothing is wrong.
            let Ok(_lock) = self.store.lock(&other.id) else { continue };
            let home = self.store.home(&other.id);
            // Read again: it may be over by now.
            let Some(mut other) = Record::read(&home)?.filter(|other| other.state.is_open()) else {
                continue;
            };
            for earlier in &mut other.placements {
                let same = own.placements.iter().find(|placement| placement.dir == earlier.dir);
                if let Some(restored) = same.filter(|restored| restored.tree().exists()) {
                    rebase(earlier, restored, at)?;
                    earlier.original = original(&earlier.dir)?;
                }
            }
            other.write(&home)?;
        }
        Ok(())
    }

    /// Flushes a rollback to disk, and writes down that it was done.
    fn make_lasting(&self) -> Result<()> {
        if self.state() != State::RolledBack {
            return Ok(());
        }
        let places = self.record.placements.iter().flat_map(|placement| {
            [Base::of(&placement.dir).place(Path::new("")), Place::new(&placement.vault, "tree")]
        });
        sync_around(places.collect::<Vec<_>>().iter())?;
        self.record.write(&self.store.home(self.id()))
    }

    fn discard(&self) -> Result<()> {
        let strategy = self.kind()?;
        self.record.placements.iter().try_for_each(|placement| strategy.discard(placement))
    }

    /// Deletes the checkpoint and its record. The directories stay as they are, but for a rollback or
    /// commit that a crash interrupted: it is finished, as half of it is in what would be deleted.
    pub fn dispose(&mut self) -> Result<()> {
        let _lock = match self.store.lock(self.id()) {
            Err(Error::UnknownCheckpoint { .. }) => return Ok(()),
            lock => lock?,
        };
        if let Some(record) = Record::read(&self.store.home(self.id()))? {
            self.record = record;
        }
        self.finish_interrupted()?;
        if self.state() == State::Applied {
            self.refuse_if_needed()?;
        }
        self.give_up()?;
        self.erase()
    }

    /// Whether all it keeps is there to be looked at: its file system may not be mounted at the moment.
    /// The directories for it are made before anything else.
    pub(crate) fn is_within_reach(&self) -> bool {
        self.record.placements.iter().all(|placement| placement.vault.is_dir())
    }

    /// Should what follows be interrupted, it is known to be over.
    pub(crate) fn give_up(&mut self) -> Result<()> {
        if !self.state().is_open() {
            return Ok(());
        }
        self.record.state = State::Committed;
        self.record.write(&self.store.home(self.id()))
    }

    pub(crate) fn erase(&self) -> Result<()> {
        self.make_lasting()?;
        self.discard()?;
        for placement in &self.record.placements {
            let beside =
                placement.vault.parent().filter(|parent| parent.ends_with(".nono-rollback"));
            // Fails, as it should, while it holds other checkpoints.
            beside.map(std::fs::remove_dir);
        }
        remove_tree(&self.store.home(self.id()))
    }
}
