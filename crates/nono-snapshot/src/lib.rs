//! Checkpoints of directories: keep the state of a tree, list what changed, and bring it back
//! atomically.
//!
//! A whole rollback is one `renameat2(RENAME_EXCHANGE)` of the directory with its pre-image, so that
//! a reader sees the old tree or the new one and never a mixture, on every Linux file system. What
//! takes more than one step is journaled with the inode each step expects; after a crash
//! [`Store::recover`] finishes it.
//!
//! ```
//! # fn main() -> nono_snapshot::Result<()> {
//! # let scratch = tempfile::tempdir().unwrap();
//! # let (project, state) = (scratch.path().join("project"), scratch.path().join("state"));
//! # std::fs::create_dir(&project).unwrap();
//! # std::fs::write(project.join("file"), "before").unwrap();
//! use nono_snapshot::{Checkpoint, Options, Store};
//!
//! let store = Store::open(&state)?;
//! let mut checkpoint = Checkpoint::create(&store, &[project.clone()], &Options::default())?;
//! std::fs::write(project.join("file"), "after").unwrap();
//! assert_eq!(checkpoint.changes()?.len(), 1);
//! checkpoint.rollback(None, false)?;
//! assert_eq!(std::fs::read(project.join("file")).unwrap(), b"before");
//! # Ok(())
//! # }
//! ```

mod attributes;
mod beneath;
mod changes;
mod checkpoint;
mod compare;
mod copy;
mod encoding;
mod error;
mod exclude;
mod excluded;
mod fault;
mod flags;
mod holders;
mod identity;
mod manifest;
mod mapped;
mod meta;
mod mounts;
mod moved;
mod plan;
mod rebase;
mod record;
mod remove;
mod rename;
mod room;
mod select;
mod step;
mod store;
mod strategy;
mod text;
mod transaction;
mod walk;
mod xattr;

pub use changes::Change;
pub use checkpoint::{Checkpoint, Options, RollbackReport};
pub use compare::ChangeKind;
pub use error::{Error, Result};
pub use holders::Holder;
pub use meta::{Meta, Time};
pub use record::{Mounter, State};
pub use store::{Recovered, Store, Summary};
pub use strategy::overlay::Mount;
pub use text::{FileDiff, LARGEST_DIFF};
