//! Making a checkpoint: what could prevent a later rollback is refused before anything is written.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Checkpoint, Options};
use crate::beneath::Directories;
use crate::error::{Context, Error, Result};
use crate::exclude::Exclude;
use crate::fault;
use crate::meta::Time;
use crate::mounts::{locations, refuse_mounts_inside};
use crate::plan::Base;
use crate::record::{Record, State, boot_id};
use crate::remove::remove_tree;
use crate::store::{Store, new_home};
use crate::strategy::tree::is_private;
use crate::strategy::{self, Placement, STRATEGIES, Strategy, btrfs};
use crate::transaction::reserve;
use crate::walk::open_directory;

impl Checkpoint {
    /// Keeps the state of `dirs`. Everything that could prevent a later rollback is refused before
    /// anything is written.
    pub fn create(store: &Store, dirs: &[PathBuf], options: &Options) -> Result<Self> {
        let exclude = Exclude::new(&options.exclude)?;
        let dirs = directories(store, dirs)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let began = Time { seconds: now.as_secs().cast_signed(), nanoseconds: now.subsec_nanos() };
        let created = now.as_millis() as u64;
        let guard = store.guard()?;
        let id = new_home(store, created)?;
        let _lock = store.lock(&id)?;
        let attempt = (|| {
            let mut placements = Vec::new();
            for (number, dir) in dirs.iter().enumerate() {
                let vault = store.vault(&id, number, dir)?;
                let mounter = options.mounter;
                let original = original(dir)?;
                placements.push(Placement { dir: dir.clone(), vault, began, mounter, original });
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
                ended: None,
            };
            record.create(&store.home(&id))?;
            drop(guard);
            reserve(&store.home(&id))?;
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
}

/// What tells the directory from its pre-image when they have changed places.
pub(super) fn original(dir: &Path) -> Result<Option<String>> {
    let identity = Base::of(dir).place(Path::new("")).identity()?;
    // The number that the roots of all btrfs subvolumes have: this one may not be looked into.
    let anonymous = format!("inode {}", btrfs::SUBVOLUME_ROOT);
    Ok(identity.filter(|identity| *identity != anonymous))
}

/// The directories, canonical, none inside another, the store in none and none in the store.
fn directories(store: &Store, dirs: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut canonical = Vec::new();
    for dir in dirs {
        let path = std::fs::canonicalize(dir).context("resolve", dir)?;
        if !path.is_dir() || path.parent().is_none() {
            return Err(Error::NotADirectory(path));
        }
        refuse_mounts_inside(&path)?;
        Base::of(&path).place(Path::new("")).movable(&Directories::default())?;
        canonical.push(path);
    }
    if canonical.is_empty() {
        return Err(Error::NotADirectory(PathBuf::new()));
    }
    let around = canonical.iter().chain([&store.path().to_owned()]).cloned().collect::<Vec<_>>();
    // Also where a bind mount gives one of them another path.
    let locations = locations(&around)?;
    let is_within = |inner: usize, outer: usize| match (&locations[inner], &locations[outer]) {
        (Some(inner), Some(outer)) => inner.is_within(outer),
        _ => false,
    };
    for (index, outer) in around.iter().enumerate() {
        for (other, inner) in around.iter().enumerate() {
            if index != other && (inner.starts_with(outer) || is_within(other, index)) {
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
            reason = strategy.fits(placement).map_err(|reason| (placement, reason))?;
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
    let concerns = |strategy: &&&dyn Strategy| {
        placements.iter().any(|placement| strategy.concerns(&placement.dir))
    };
    for strategy in STRATEGIES.iter().filter(concerns) {
        let automatic =
            placements.iter().try_for_each(|placement| strategy.is_automatic(placement));
        if let Err(reason) = automatic {
            refused.push(format!("{}: {reason}", strategy.name()));
            continue;
        }
        match fits(*strategy) {
            Ok(reason) if refused.is_empty() => return Ok((*strategy, reason)),
            Ok(reason) => {
                return Ok((*strategy, format!("{reason}; not {}", refused.join("; not "))));
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
        // Somebody else's was refused, and is left alone.
        if !open_directory(&beside).is_ok_and(|beside| is_private(&beside).unwrap_or(false)) {
            continue;
        }
        remove_tree(&beside.join(format!("{id}-{number}")))?;
        // Fails, as it should, while it holds other checkpoints.
        let _ = std::fs::remove_dir(beside);
    }
    remove_tree(&store.home(id))
}
