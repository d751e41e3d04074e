//! The narrowest grant that would let a refused attempt pass.

use std::path::{Path, PathBuf};

use crate::event::{Event, Operation, Target};
use crate::judge::{Reason, Right};

/// A grant to add to the capabilities, or a rule to take out of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Suggestion {
    /// [`crate::Capabilities::allow_read`].
    Read(PathBuf),
    /// [`crate::Capabilities::allow_write`].
    Write(PathBuf),
    /// [`crate::Capabilities::allow_exec`].
    Exec(PathBuf),
    /// [`crate::Capabilities::allow_unix_socket`].
    UnixSocket(PathBuf),
    /// A host and port, for the gate of [`crate::Network::Gate`].
    Network(String),
    /// Take this `deny` out.
    RemoveDeny(String),
}

/// What would let this event's attempt pass. `None`: nothing does, or only what nobody should be
/// advised to grant, such as a home directory as a whole.
pub(crate) fn for_event(event: &Event) -> Option<Suggestion> {
    let refusal = event.refused.as_ref()?;
    match &event.target {
        Target::Path { path, to, .. } => {
            // Of two paths, the one that was refused is the new name, unless the old one was.
            let refused = match (&refusal.reason, to) {
                (Reason::NotGranted, Some(to)) => to,
                _ => path,
            };
            for_path(refused, event.operation, &refusal.reason)
        }
        Target::Address(address) if address.starts_with('/') => {
            Some(Suggestion::UnixSocket(address.into()))
        }
        Target::Address(address) => Some(Suggestion::Network(address.clone())),
        Target::SystemCall(_) | Target::ExitCode(_) => None,
    }
}

/// What would let an operation on a path pass that is refused for this reason.
pub(crate) fn for_path(path: &Path, operation: Operation, reason: &Reason) -> Option<Suggestion> {
    match (reason, operation.right()) {
        (Reason::Denied(rule), _) => Some(Suggestion::RemoveDeny(rule.clone())),
        // Named itself, it is no longer protected.
        (Reason::Protected(part), _) => Some(Suggestion::Write(part.clone())),
        (Reason::NotGranted, Right::Execute) => Some(Suggestion::Exec(path.to_owned())),
        (Reason::NotGranted, Right::Read) => modest(path).map(Suggestion::Read),
        // What does not exist cannot be granted: its directory can.
        (Reason::NotGranted, Right::Write) => {
            let is_there = path.symlink_metadata().is_ok() && operation != Operation::Delete;
            let granted = if is_there { path } else { path.parent()? };
            modest(granted).map(Suggestion::Write)
        }
    }
}

/// `path`, unless it is so much that granting it would be giving in.
fn modest(path: &Path) -> Option<PathBuf> {
    let is_home = std::env::home_dir().is_some_and(|home| home.starts_with(path));
    let is_system = path.is_dir() && path.components().count() <= 2;
    (!is_home && !is_system).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggests_the_narrowest_grant() {
        let suggest =
            |path: &str, operation| for_path(Path::new(path), operation, &Reason::NotGranted);
        let file = suggest("/etc/hostname", Operation::Read);
        assert_eq!(file, Some(Suggestion::Read("/etc/hostname".into())));
        let created = suggest("/var/lib/nowhere-at-all", Operation::Create);
        assert_eq!(created, Some(Suggestion::Write("/var/lib".into())));
        let program = suggest("/usr/bin/id", Operation::Execute);
        assert_eq!(program, Some(Suggestion::Exec("/usr/bin/id".into())));
    }

    #[test]
    fn never_suggests_a_home_or_the_system() {
        let home = std::env::home_dir().unwrap();
        let new_file = home.join("nowhere-at-all");
        for path in [Path::new("/"), Path::new("/etc"), &home] {
            assert_eq!(for_path(path, Operation::Read, &Reason::NotGranted), None, "{path:?}");
        }
        assert_eq!(for_path(&new_file, Operation::Create, &Reason::NotGranted), None);
    }
}
