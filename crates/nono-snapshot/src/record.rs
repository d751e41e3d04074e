//! What the store keeps about a checkpoint.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Context, Error, Result};
use crate::meta::Time;
use crate::strategy::{self, Placement};
use crate::transaction::{create_durably, write_durably};

/// What has become of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It can be rolled back to or committed.
    Active,
    /// Overlay: the sandbox's changes are in the directory; they can be rolled back or committed.
    Applied,
    /// The directory was brought back.
    RolledBack,
    /// The changes were kept.
    Committed,
    /// An earlier checkpoint of the same directory was rolled back to.
    Superseded,
}

impl State {
    /// The name in listings and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Applied => "applied",
            Self::RolledBack => "rolled-back",
            Self::Committed => "committed",
            Self::Superseded => "superseded",
        }
    }

    /// Whether the checkpoint can still be rolled back to.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Active | Self::Applied)
    }
}

/// Who mounts a checkpoint's [`mounts`](crate::Checkpoint::mounts), with what privilege.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mounter {
    /// In a user namespace: overlayfs keeps its notes in `user.*` and can't rename directories.
    Unprivileged,
    /// The same, under a supervisor that carries such renames out.
    Supervised,
    /// As root of the initial user namespace.
    Privileged,
}

/// In the checkpoint's home: when a rollback in one step began. Earlier checkpoints only compare more
/// without it, so it need not be there.
pub(crate) const ENDED: &str = "ended";

/// The record of one checkpoint; written before anything else happens.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) version: u32,
    pub(crate) id: String,
    /// Order of creation in the store.
    pub(crate) sequence: u64,
    /// Milliseconds since the epoch.
    pub(crate) created: u64,
    /// The kernel's boot id: until the pre-image was flushed it is only good within this boot.
    pub(crate) boot: String,
    pub(crate) durable: bool,
    pub(crate) strategy: String,
    pub(crate) reason: String,
    pub(crate) exclude: Vec<String>,
    pub(crate) state: State,
    pub(crate) placements: Vec<Placement>,
    /// Just before it was rolled back to.
    pub(crate) ended: Option<Time>,
}

impl Record {
    pub(crate) fn read(home: &Path) -> Result<Option<Self>> {
        let path = home.join("record");
        match std::fs::read(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            // Its checkpoint was about to be made when the power failed: XFS may show zeros then.
            Ok(bytes) if bytes.iter().all(|&byte| byte == 0) => Ok(None),
            bytes => serde_json::from_slice::<Self>(&bytes.context("read", &path)?)
                .map(|record| Some(record.settled(home)))
                .map_err(|error| Error::Corrupt { path, reason: error.to_string() }),
        }
    }

    /// A rollback in one step writes nothing down: that it was done shows.
    fn settled(mut self, home: &Path) -> Self {
        let is_settled = !self.state.is_open() || home.join("journal").exists();
        let (false, [placement], Some(strategy)) =
            (is_settled, &self.placements[..], strategy::by_name(&self.strategy))
        else {
            return self;
        };
        if strategy.is_restored(placement) {
            self.state = State::RolledBack;
            let note = std::fs::read(home.join(ENDED)).ok();
            self.ended = note.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        }
        self
    }

    /// Writes the first record, which takes one commit of the file system's journal less.
    pub(crate) fn create(&self, home: &Path) -> Result<()> {
        create_durably(&home.join("record"), &self.encoded(home)?)
    }

    pub(crate) fn write(&self, home: &Path) -> Result<()> {
        write_durably(&home.join("record"), &self.encoded(home)?)
    }

    fn encoded(&self, home: &Path) -> Result<Vec<u8>> {
        let bytes = serde_json::to_vec_pretty(self).map_err(std::io::Error::from);
        bytes.context("encode the record in", home)
    }
}

/// Names this boot of the machine.
pub(crate) fn boot_id() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    Ok(std::fs::read_to_string(path).context("read", path)?.trim().to_owned())
}
