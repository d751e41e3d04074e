use std::io;
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::changes::Change;
use crate::error::{Context, Error, Result};
use crate::exclude::Exclude;
use crate::fault;
use crate::holders::{Holder, holders};
use crate::record::{Mounter, Record, State, boot_id};
use crate::remove::remove_tree;
use crate::select::Selection;
use crate::store::{Store, is_complete, new_home};
use crate::strategy::overlay::{Mount, Overlay};
use crate::strategy::{self, Demands, Placement, STRATEGIES, Strategy};
use crate::transaction::{Step, Transaction, remove_durably};
use crate::walk::open_directory;

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
    /// Keeps the state of `dirs`. Everything that could prevent a later rollback is refused before
    /// anything is written.
    pub fn create(store: &Store, dirs: &[PathBuf], options: &Options) -> Result<Self> {
        let exclude = Exclude::new(&options.exclude)?;
        let dirs = directories(store, dirs)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began = (now.as_secs().cast_signed(), now.subsec_nanos());
        let created = now.as_millis() as u64;
        let id = new_home(store, created)?;
        let _lock = store.lock(&id)?;
        let attempt = (|| {
            let mut placements = Vec::new();
            for (number, dir) in dirs.iter().enumerate() {
                let vault = store.vault(&id, number, dir)?;
                placements.push(Placement { dir: dir.clone(), vault, began });
            }
            let (strategy, reason) = choose(options, &placements)?;
            let sequence = store.records()?.last().map_or(1, |last| last.sequence + 1);
            let record = Record {
                version: 1,
                id: id.clone(),
                sequence,
                created,
                boot: boot_id()?,
                durable: false,
                strategy: strategy.name().to_owned(),
                reason,
                exclude: options.exclude.clone(),
                state: State::Active,
                placements,
            };
            record.write(&store.home(&id))?;
            for placement in &record.placements {
                fault::point("begin").context("begin", &placement.dir)?;
                strategy.begin(placement, &exclude)?;
            }
            Ok(Self { store: store.clone(), record })
        })();
        if attempt.is_err() {
            // Only what was just made; the first error is the one to report.
            let _ = remove_unfinished(store, &id, dirs.len(), &dirs);
        }
        attempt
    }

    /// Opens a checkpoint made earlier, perhaps by another process.
    pub fn open(store: &Store, id: &str) -> Result<Self> {
        let unknown =
            || Error::UnknownCheckpoint { id: id.to_owned(), store: store.path().to_owned() };
        let mut components = Path::new(id).components();
        if !matches!((components.next(), components.next()), (Some(Component::Normal(_)), None)) {
            return Err(unknown());
        }
        let record = Record::read(&store.home(id))?.ok_or_else(unknown)?;
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

    /// What differs now, in each directory sorted by path.
    pub fn changes(&mut self) -> Result<Vec<Change>> {
        self.refresh("listing the changes")?;
        let (strategy, exclude) = (self.kind()?, self.exclude()?);
        let mut changes = Vec::new();
        for placement in &self.record.placements {
            changes.extend(strategy.changes(placement, &exclude)?);
        }
        Ok(changes)
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
        let _lock = self.store.lock(self.id())?;
        self.refresh("rolling back")?;
        let selections = self.selections(paths)?;
        let dirs: Vec<&Path> = self.dirs().collect();
        let holders = holders(&dirs);
        if let (true, Some(holder)) = (refuse_held, holders.first()) {
            let Holder { pid, command, path, .. } = holder.clone();
            return Err(Error::Held { path, pid, command });
        }
        if !self.record.durable {
            self.flush()?;
        }
        let (strategy, exclude) = (self.kind()?, self.exclude()?);
        let mut steps = Vec::new();
        for (placement, select) in self.record.placements.iter().zip(&selections) {
            steps.extend(
                select
                    .iter()
                    .map(|select| strategy.rollback(placement, &exclude, select))
                    .collect::<Result<Vec<_>>>()?,
            );
        }
        let then = if paths.is_some() { self.state() } else { State::RolledBack };
        self.carry_out(steps.concat(), then, paths.is_some())?;
        Ok(RollbackReport { holders })
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
        let _lock = self.store.lock(self.id())?;
        self.refresh("applying")?;
        if self.state() == State::Applied || self.mounts().is_empty() {
            return Ok(());
        }
        let strategy = self.kind()?;
        let steps: Result<Vec<_>> =
            self.record.placements.iter().map(|placement| strategy.apply(placement)).collect();
        self.carry_out(steps?.concat(), State::Applied, true)
    }

    /// Keeps the changes, or only those of `paths`: they are no longer rolled back. Keeping all of
    /// them ends the checkpoint.
    pub fn commit(&mut self, paths: Option<&[PathBuf]>) -> Result<()> {
        let then = if paths.is_some() { self.state() } else { State::Committed };
        self.keep(paths, then)
    }

    fn keep(&mut self, paths: Option<&[PathBuf]>, then: State) -> Result<()> {
        let _lock = self.store.lock(self.id())?;
        self.refresh("committing")?;
        let selections = self.selections(paths)?;
        let (strategy, exclude) = (self.kind()?, self.exclude()?);
        let mut steps = Vec::new();
        for (placement, select) in self.record.placements.iter().zip(&selections) {
            steps.extend(
                select
                    .iter()
                    .map(|select| strategy.commit(placement, &exclude, select))
                    .collect::<Result<Vec<_>>>()?,
            );
        }
        let steps = steps.concat();
        let copied = !steps.is_empty();
        self.carry_out(steps, then, copied)
    }

    fn carry_out(&mut self, steps: Vec<Step>, then: State, flush: bool) -> Result<()> {
        if flush {
            self.sync_vaults()?;
        }
        let journal = self.store.home(self.id()).join("journal");
        let transaction = Transaction { steps, then };
        transaction.run(&journal)?;
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
            self.record.write(&home)?;
        }
        remove_durably(&home.join("journal"))?;
        if then.is_open() {
            self.record
                .placements
                .iter()
                .try_for_each(|placement| remove_tree(&placement.stage()))?;
        }
        Ok(())
    }

    /// Later checkpoints of the same directories describe what no longer came about.
    fn supersede_later(&self) -> Result<()> {
        for mut other in self.store.records()? {
            let overlaps = other.placements.iter().any(|other| {
                self.dirs().any(|dir| other.dir.starts_with(dir) || dir.starts_with(&other.dir))
            });
            if other.sequence > self.record.sequence && other.state.is_open() && overlaps {
                other.state = State::Superseded;
                other.write(&self.store.home(&other.id))?;
            }
        }
        Ok(())
    }

    /// Flushes the pre-image to disk, so that it also survives a power failure. Until then the
    /// checkpoint is good within this boot, and refuses to be used after another.
    pub fn flush(&mut self) -> Result<()> {
        self.sync_vaults()?;
        self.record.durable = true;
        self.record.write(&self.store.home(self.id()))
    }

    fn sync_vaults(&self) -> Result<()> {
        for Placement { vault, .. } in &self.record.placements {
            fault::point("syncfs").context("flush", vault)?;
            rustix::fs::syncfs(open_directory(vault)?)
                .map_err(io::Error::from)
                .context("flush", vault)?;
        }
        Ok(())
    }

    /// Deletes what is kept for this checkpoint, if it is over, and for superseded ones.
    pub fn purge(&mut self) -> Result<()> {
        let records = self.store.records()?;
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

    fn discard(&self) -> Result<()> {
        let strategy = self.kind()?;
        self.record.placements.iter().try_for_each(|placement| strategy.discard(placement))
    }

    /// Deletes the checkpoint and its record. The directories stay as they are.
    pub fn dispose(&mut self) -> Result<()> {
        let _lock = match self.store.lock(self.id()) {
            Err(Error::UnknownCheckpoint { .. }) => return Ok(()),
            lock => lock?,
        };
        if let Some(record) = Record::read(&self.store.home(self.id()))? {
            self.record = record;
        }
        if self.state().is_open() {
            self.record.state = State::Committed;
            self.record.write(&self.store.home(self.id()))?;
        }
        self.erase()
    }

    pub(crate) fn erase(&self) -> Result<()> {
        self.discard()?;
        for placement in &self.record.placements {
            let beside =
                placement.vault.parent().filter(|parent| parent.ends_with(".nono-rollback"));
            // Fails, as it should, while it holds other checkpoints.
            beside.map(std::fs::remove_dir);
        }
        remove_tree(&self.store.home(self.id()))
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
        if !is_complete(&self.record) {
            return Err(refused("incomplete"));
        }
        if self.store.home(self.id()).join("journal").exists() {
            return Err(refused("interrupted (run recover first)"));
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
        let mut selected = vec![Vec::new(); self.record.placements.len()];
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
                    selected[index].push(path.components().collect::<PathBuf>());
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

/// The directories, canonical, none inside another, the store in none and none in the store.
fn directories(store: &Store, dirs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut canonical = Vec::new();
    for dir in dirs {
        let path = std::fs::canonicalize(dir).context("resolve", dir)?;
        if !path.is_dir() || path.parent().is_none() {
            return Err(Error::NotADirectory(path));
        }
        canonical.push(path);
    }
    if canonical.is_empty() {
        return Err(Error::NotADirectory(PathBuf::new()));
    }
    let around = canonical.iter().chain([&store.path().to_owned()]).cloned().collect::<Vec<_>>();
    for (index, outer) in around.iter().enumerate() {
        for (other, inner) in around.iter().enumerate() {
            if index != other && inner.starts_with(outer) {
                return Err(Error::Nested { inner: inner.clone(), outer: outer.clone() });
            }
        }
    }
    Ok(canonical)
}

/// The strategy asked for, or the first that fits all directories, with the reason.
fn choose(options: &Options, placements: &[Placement]) -> Result<(&'static dyn Strategy, String)> {
    let fits = |strategy: &dyn Strategy| {
        let mut reason = String::new();
        for placement in placements {
            let demands = Demands {
                excludes: !options.exclude.is_empty(),
                mounter: options.mounter,
                placement,
            };
            reason = strategy.fits(&demands).map_err(|reason| (placement, reason))?;
        }
        Ok::<_, (&Placement, String)>(reason)
    };
    if let Some(name) = options.strategy.as_deref().filter(|name| *name != "auto") {
        let known = || STRATEGIES.map(|strategy| strategy.name()).join(", ");
        let strategy = strategy::by_name(name).ok_or_else(|| Error::StrategyUnsupported {
            strategy: "auto",
            path: placements[0].dir.clone(),
            reason: format!("there is no strategy {name:?}; there are auto, {}", known()),
        })?;
        return match fits(strategy) {
            Ok(reason) => Ok((strategy, format!("asked for; {reason}"))),
            Err((placement, reason)) => {
                let path = placement.dir.clone();
                Err(Error::StrategyUnsupported { strategy: strategy.name(), path, reason })
            }
        };
    }
    let mut refused = Vec::new();
    for strategy in STRATEGIES {
        let automatic = placements.iter().try_for_each(|placement| {
            let demands = Demands {
                excludes: !options.exclude.is_empty(),
                mounter: options.mounter,
                placement,
            };
            strategy.is_automatic(&demands)
        });
        if let Err(reason) = automatic {
            refused.push(format!("{}: {reason}", strategy.name()));
            continue;
        }
        match fits(strategy) {
            Ok(reason) if refused.is_empty() => return Ok((strategy, reason)),
            Ok(reason) => {
                return Ok((strategy, format!("{reason}; not {}", refused.join("; not "))));
            }
            Err((_, reason)) => refused.push(format!("{}: {reason}", strategy.name())),
        }
    }
    let placement = &placements[0];
    Err(if crate::plan::is_mount_point(&placement.dir)? {
        Error::MountPoint(placement.dir.clone())
    } else {
        Error::StrategyUnsupported {
            strategy: "auto",
            path: placement.dir.clone(),
            reason: refused.join("; "),
        }
    })
}

fn remove_unfinished(store: &Store, id: &str, count: usize, dirs: &[PathBuf]) -> Result<()> {
    for (number, dir) in dirs.iter().enumerate().take(count) {
        let beside = dir.parent().unwrap_or(dir).join(".nono-rollback");
        remove_tree(&beside.join(format!("{id}-{number}")))?;
        // Fails, as it should, while it holds other checkpoints or isn't there.
        let _ = std::fs::remove_dir(beside);
    }
    remove_tree(&store.home(id))
}
