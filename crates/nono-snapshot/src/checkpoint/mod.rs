//! A checkpoint and what can be done with it.

mod create;
mod look;
mod retire;

use std::path::{Component, Path, PathBuf};

use crate::error::{Context, Error, Result};
use crate::exclude::Exclude;
use crate::holders::{Holder, holders};
use crate::meta::Time;
use crate::mounts::refuse_mounts_inside;
use crate::record::{ENDED, Mounter, Record, State, boot_id};
use crate::remove::remove_tree;
use crate::room::with_room;
use crate::select::{Paths, Selection};
use crate::step::Step;
use crate::store::{Store, is_complete};
use crate::strategy::overlay::{Mount, Overlay};
use crate::strategy::{self, Placement, Strategy};
use crate::transaction::{
    Transaction, remove_durably, remove_soon, run_or_undo, sync_file_system, sync_parent,
};

/// How a checkpoint is made.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The strategy's name; `None` takes the first that fits.
    pub strategy: Option<String>,
    /// What to leave alone, in the manner of `.gitignore`.
    pub exclude: Vec<String>,
    /// Who will mount the checkpoint's mounts; `None`: nobody, so overlay isn't chosen by itself.
    pub mounter: Option<Mounter>,
}

/// What a rollback found.
#[derive(Debug, Clone, Default)]
pub struct RollbackReport {
    /// Processes that had files of the directories open. They go on in the discarded tree.
    pub holders: Vec<Holder>,
}

/// The state of some directories at one time, and the way back to it.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    store: Store,
    pub(crate) record: Record,
}

impl Checkpoint {
    /// Opens a checkpoint made earlier, perhaps by another process.
    pub fn open(store: &Store, id: &str) -> Result<Self> {
        let unknown =
            || Error::UnknownCheckpoint { id: id.to_owned(), store: store.path().to_owned() };
        let mut components = Path::new(id).components();
        if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
            return Err(unknown());
        }
        let record = store.record(&store.home(id))?.ok_or_else(unknown)?;
        Ok(Self::from_record(store.clone(), record))
    }

    pub(crate) fn from_record(store: Store, record: Record) -> Self {
        Self { store, record }
    }

    /// Its id.
    pub fn id(&self) -> &str {
        &self.record.id
    }

    /// When it was made, in milliseconds since the epoch.
    pub fn created(&self) -> u64 {
        self.record.created
    }

    /// What has become of it, as far as this process knows.
    pub fn state(&self) -> State {
        self.record.state
    }

    /// The strategy's name and why it was chosen.
    pub fn strategy(&self) -> (&str, &str) {
        (&self.record.strategy, &self.record.reason)
    }

    /// Its directories.
    pub fn dirs(&self) -> impl Iterator<Item = &Path> {
        self.record.placements.iter().map(|placement| placement.dir.as_path())
    }

    fn kind(&self) -> Result<&'static dyn Strategy> {
        strategy::by_name(&self.record.strategy).ok_or_else(|| Error::Corrupt {
            path: self.store.home(self.id()),
            reason: format!("its strategy {:?} is unknown to this version", self.record.strategy),
        })
    }

    /// Brings the directories, or only `paths`, back. `refuse_held`: do nothing when processes hold
    /// files in them.
    ///
    /// A whole rollback ends this checkpoint and the later ones of the same directories. The
    /// discarded tree is deleted by [`purge`](Self::purge).
    pub fn rollback(
        &mut self,
        paths: Option<&[PathBuf]>,
        refuse_held: bool,
    ) -> Result<RollbackReport> {
        with_room(|| self.bring_back(paths, refuse_held))
    }

    fn bring_back(
        &mut self,
        paths: Option<&[PathBuf]>,
        refuse_held: bool,
    ) -> Result<RollbackReport> {
        let _lock = self.store.lock(self.id())?;
        self.refresh("rolling back")?;
        let selections = self.selections(paths)?;
        self.dirs().try_for_each(refuse_mounts_inside)?;
        let holders = holders(&self.replaced(&selections));
        if let (true, Some(holder)) = (refuse_held, holders.first()) {
            let Holder { pid, command, path, .. } = holder.clone();
            return Err(Error::Held { path, pid, command });
        }
        if !self.record.durable {
            self.sync_vaults()?;
            self.note_durable()?;
        }
        let (strategy, exclude) = (self.kind()?, self.exclude()?);
        let mut steps = if paths.is_none() { self.steps_of_later()? } else { Vec::new() };
        steps.extend(self.steps(&selections, |placement, select| {
            strategy.rollback(placement, &exclude, select)
        })?);
        if let ([_], [placement], None) = (&steps[..], &self.record.placements[..], paths)
            && strategy.will_show(placement)
            && self.later()?.is_empty()
        {
            self.restore(&steps)?;
            return Ok(RollbackReport { holders });
        }
        let then = if paths.is_some() { self.state() } else { State::RolledBack };
        self.carry_out(steps, then, paths.is_some())?;
        Ok(RollbackReport { holders })
    }

    /// What gets other inodes.
    fn replaced(&self, selections: &[Option<Selection>]) -> Vec<PathBuf> {
        if self.state() == State::Active && !self.mounts().is_empty() {
            return Vec::new(); // What changed is in the upper layer.
        }
        let selected = self.dirs().zip(selections).flat_map(|(dir, select)| match select {
            Some(Selection::All) => vec![dir.to_owned()],
            Some(Selection::Paths(paths)) => {
                paths.topmost().into_iter().map(|path| dir.join(path)).collect()
            }
            None => Vec::new(),
        });
        selected.collect()
    }

    /// Goes back by one step. It needs neither a journal nor a flush: that it was done shows
    /// ([`Record::read`]), and whatever is on disk after a power failure is the old tree or the new one.
    /// [`purge`](Self::purge) makes it lasting.
    fn restore(&mut self, steps: &[Step]) -> Result<()> {
        let began = Time::now();
        let note = serde_json::to_vec(&began).map_err(std::io::Error::from);
        // On a full disk it can't be written, and need not be.
        let _ = note.and_then(|note| std::fs::write(self.store.home(self.id()).join(ENDED), note));
        run_or_undo(steps)??;
        self.record.state = State::RolledBack;
        self.record.ended = Some(began);
        Ok(())
    }

    /// What the sandbox has to mount, each over its target, before the first command: overlay only.
    pub fn mounts(&self) -> Vec<Mount> {
        let placements = self.record.placements.iter();
        let is_overlay = self.record.strategy == Overlay.name();
        placements.filter(|_| is_overlay).map(Overlay::mount).collect()
    }

    /// Overlay: brings the sandbox's changes into the directories, once its commands have ended and
    /// the mounts are gone. What was there before stays in the upper layer, for a rollback.
    pub fn apply(&mut self) -> Result<()> {
        with_room(|| self.bring_in())
    }

    fn bring_in(&mut self) -> Result<()> {
        let _lock = self.store.lock(self.id())?;
        self.refresh("applying")?;
        if self.state() == State::Applied || self.mounts().is_empty() {
            return Ok(());
        }
        let (strategy, exclude) = (self.kind()?, self.exclude()?);
        let steps: Result<Vec<_>> = self
            .record
            .placements
            .iter()
            .map(|placement| strategy.apply(placement, &exclude))
            .collect();
        self.carry_out(steps?.concat(), State::Applied, true)
    }

    /// Overlay: takes what [`apply`](Self::apply) brought into the directories out of them again, so
    /// that the mounts can be made once more and show it.
    pub fn withdraw(&mut self) -> Result<()> {
        let _lock = self.store.lock(self.id())?;
        self.refresh("withdrawing")?;
        if self.state() != State::Applied {
            return Ok(());
        }
        let strategy = self.kind()?;
        let placements = self.record.placements.iter();
        let steps: Result<Vec<_>> =
            placements.map(|placement| strategy.withdraw(placement)).collect();
        self.carry_out(steps?.concat(), State::Active, true)
    }

    /// Keeps the changes, or only those of `paths`: they are no longer rolled back. Keeping all of
    /// them ends the checkpoint.
    pub fn commit(&mut self, paths: Option<&[PathBuf]>) -> Result<()> {
        with_room(|| self.keep(paths))
    }

    fn keep(&mut self, paths: Option<&[PathBuf]>) -> Result<()> {
        let _lock = self.store.lock(self.id())?;
        self.refresh("committing")?;
        self.refuse_if_needed()?;
        let selections = self.selections(paths)?;
        let (strategy, exclude) = (self.kind()?, self.exclude()?);
        let steps = self
            .steps(&selections, |placement, select| strategy.commit(placement, &exclude, select))?;
        let then = if paths.is_some() { self.state() } else { State::Committed };
        let moved = !steps.is_empty();
        self.carry_out(steps, then, moved)
    }

    /// The steps of all directories in which something is selected.
    fn steps(
        &self,
        selections: &[Option<Selection>],
        of: impl Fn(&Placement, &Selection) -> Result<Vec<Step>>,
    ) -> Result<Vec<Step>> {
        let mut steps = Vec::new();
        for (placement, select) in self.record.placements.iter().zip(selections) {
            let Some(select) = select else { continue };
            match of(placement, select) {
                Ok(planned) => steps.extend(planned),
                Err(error) => {
                    self.abandon();
                    return Err(error);
                }
            }
        }
        Ok(steps)
    }

    /// Half a copy on a full disk would be in the way of the next attempt.
    fn abandon(&self) {
        let Ok(strategy) = self.kind() else { return };
        for placement in &self.record.placements {
            // The error that led here is the one to report.
            let _ = strategy.abandon(placement);
        }
    }

    fn carry_out(&mut self, steps: Vec<Step>, then: State, flush: bool) -> Result<()> {
        if flush {
            self.sync_vaults()?;
        }
        let journal = self.store.home(self.id()).join("journal");
        let transaction = Transaction { steps, then, began: Time::now() };
        if let Err(error) = transaction.run(&journal) {
            // While there is a journal, what it is about may be what was prepared.
            if !journal.exists() {
                self.abandon();
            }
            return Err(error);
        }
        self.conclude(&transaction)
    }

    /// Records the outcome of the steps in the journal, which are done, and removes the journal.
    pub(crate) fn conclude(&mut self, transaction: &Transaction<State>) -> Result<()> {
        let (strategy, then) = (self.kind()?, transaction.then);
        for placement in &self.record.placements {
            strategy.conclude(placement, &transaction.steps, then)?;
        }
        if then == State::RolledBack {
            self.supersede_later()?;
        }
        let home = self.store.home(self.id());
        if self.record.state != then {
            self.record.state = then;
            self.record.ended = (then == State::RolledBack).then_some(transaction.began);
            self.record.write(&home)?;
        }
        let journal = home.join("journal");
        if !then.is_open() {
            // Should it come back after a power failure, the record says that it is over.
            return remove_soon(&journal);
        }
        remove_durably(&journal)?;
        let mut placements = self.record.placements.iter();
        placements.try_for_each(|placement| remove_tree(&placement.stage()))
    }

    /// Does what is left of a rollback or commit that a crash interrupted; false when there is none.
    pub(crate) fn finish_interrupted(&mut self) -> Result<bool> {
        // The journal of a checkpoint that is over was done with, whatever is left of it.
        if !self.state().is_open() {
            return Ok(false);
        }
        let Some(transaction) = Transaction::left_at(&self.store.home(self.id()).join("journal"))?
        else {
            return Ok(false);
        };
        let strategy = self.kind()?;
        for placement in &self.record.placements {
            let is_in_it = |step: &Step| {
                step.places().iter().any(|place| place.full().starts_with(strategy.tree(placement)))
            };
            if transaction.steps.iter().any(is_in_it) {
                strategy.make_reachable(placement)?;
            }
        }
        transaction.finish()?;
        self.conclude(&transaction)?;
        Ok(true)
    }

    /// Flushes the pre-image to disk, so that it also survives a power failure. Until then the
    /// checkpoint is good within this boot, and refuses to be used after another.
    pub fn flush(&mut self) -> Result<()> {
        self.sync_vaults()?;
        let _lock = self.store.lock(self.id())?;
        // That may have taken seconds, in which others rolled it back, or superseded it.
        *self = Self::open(&self.store, self.id())?;
        if !self.state().is_open() {
            return Ok(());
        }
        self.note_durable()?;
        sync_parent(&self.store.home(self.id())).context("flush", self.store.path())
    }

    fn note_durable(&mut self) -> Result<()> {
        self.record.durable = true;
        self.record.write(&self.store.home(self.id()))
    }

    fn sync_vaults(&self) -> Result<()> {
        let mut placements = self.record.placements.iter();
        placements.try_for_each(|placement| sync_file_system(&placement.vault))
    }

    fn exclude(&self) -> Result<Exclude> {
        Exclude::new(&self.record.exclude)
    }

    /// Reads the record again and refuses what is over, incomplete or not to be trusted.
    fn refresh(&mut self, operation: &'static str) -> Result<()> {
        *self = Self::open(&self.store, self.id())?;
        let refused = |state: &str| Error::State {
            id: self.id().to_owned(),
            state: state.to_owned(),
            operation,
        };
        if !self.state().is_open() {
            return Err(refused(self.state().name()));
        }
        if self.store.home(self.id()).join("journal").exists() {
            return Err(refused("interrupted (run recover first)"));
        }
        if !is_complete(&self.record) {
            return Err(refused("incomplete"));
        }
        if !self.record.durable && self.record.boot != boot_id()? {
            return Err(Error::Corrupt {
                path: self.store.home(self.id()),
                reason: "the machine was restarted before it was flushed to disk".to_owned(),
            });
        }
        Ok(())
    }

    /// For each directory what is selected in it; `None`: nothing.
    fn selections(&self, paths: Option<&[PathBuf]>) -> Result<Vec<Option<Selection>>> {
        let Some(paths) = paths else {
            return Ok(vec![Some(Selection::All); self.record.placements.len()]);
        };
        let mut selected = vec![Paths::default(); self.record.placements.len()];
        let first = &self.record.placements[0].dir;
        for path in paths {
            // A relative path is meant within the directory when there is only one.
            let full = if path.is_absolute() || selected.len() > 1 {
                path.clone()
            } else {
                first.join(path)
            };
            let inside = self
                .dirs()
                .enumerate()
                .find_map(|(index, dir)| Some((index, full.strip_prefix(dir).ok()?)));
            match inside {
                Some((index, path))
                    if path.components().all(|part| matches!(part, Component::Normal(_))) =>
                {
                    selected[index].insert(path);
                }
                _ => return Err(Error::PathOutside(path.clone())),
            }
        }
        Ok(selected
            .into_iter()
            .map(|paths| (!paths.is_empty()).then_some(Selection::Paths(paths)))
            .collect())
    }
}
