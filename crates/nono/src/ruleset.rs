//! The policy's file rules as a Landlock ruleset.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, Ruleset,
    RulesetAttr, RulesetCreated, RulesetCreatedAttr, Scope,
};

use crate::descriptor::open_resolved_place;
use crate::error::{Error, Result};
use crate::policy::{Access, Policy};
use crate::seccomp::InternetSockets;
use crate::tier::TierName;

/// Builds the ruleset in the owner, once per sandbox. `abi` is what the kernel offers: every right
/// that it knows is handled, so that nothing it can refuse is forgotten.
pub(crate) fn build(policy: &Policy, tier: TierName, abi: i32) -> Result<OwnedFd> {
    let abi = ABI::from(abi);
    let failed = |error: landlock::RulesetError| Error::SandboxFailed {
        stage: "building the Landlock ruleset".into(),
        source: std::io::Error::other(error),
    };
    let mut created = handle(policy, tier, abi).map_err(failed)?;
    for (path, access) in &policy.rules {
        let object = match open_resolved_place(path) {
            Ok(object) => object,
            Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
                let reason = "a symbolic link has come to be on it while the sandbox was built";
                return Err(Error::InvalidPath { path: path.clone(), reason });
            }
            Err(_) => continue, // gone since it was resolved
        };
        let is_directory = object.metadata().is_ok_and(|found| found.is_dir());
        if tier == TierName::Flat {
            keep_process_file(path, &object); // the other one has its own /proc
        }
        let mut rights = rights(*access, abi);
        if !is_directory {
            rights &= AccessFs::from_file(abi);
        }
        if !rights.is_empty() {
            created = created.add_rule(PathBeneath::new(object, rights)).map_err(failed)?;
        }
    }
    let fd: Option<OwnedFd> = created.into();
    Ok(fd.expect("a ruleset under HardRequirement is always backed by the kernel"))
}

/// A ruleset that refuses all that it does not name.
fn handle(
    policy: &Policy,
    tier: TierName,
    abi: ABI,
) -> std::result::Result<RulesetCreated, landlock::RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(AccessFs::from_all(abi))?;
    // Where the supervisor makes every connection there are, commands make none.
    let led = policy.mediates_network() && tier == TierName::Flat;
    let none = policy.internet_sockets(tier) == InternetSockets::None;
    if (led || none) && abi >= ABI::V4 {
        ruleset = ruleset.handle_access(AccessNet::from_all(abi))?;
    }
    if abi >= ABI::V6 {
        ruleset = ruleset.scope(Scope::from_all(abi))?;
    }
    ruleset.create()
}

/// Keeps a file of `/proc` from being forgotten. A rule is about an inode and holds it; but when memory
/// is scarce the kernel lets go of the name, and then makes another inode for it (`proc_get_inode` in
/// fs/proc/inode.c), for which there is no rule. There are few such files, all sandboxes share them, and
/// whoever restricted itself needs them to the end: they are kept as long as this process lives.
fn keep_process_file(path: &Path, object: &File) {
    static KEPT: Mutex<BTreeMap<PathBuf, OwnedFd>> = Mutex::new(BTreeMap::new());
    let Ok(below) = path.strip_prefix("/proc") else { return };
    let first = below.components().next().and_then(|name| name.as_os_str().to_str());
    // The files of another process end with it.
    let process = first.map(|name| name.parse::<u32>());
    if process.is_none_or(|number| number.is_ok_and(|number| number != std::process::id())) {
        return;
    }
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    if !kept.contains_key(path)
        && let Ok(object) = object.as_fd().try_clone_to_owned()
    {
        kept.insert(path.to_owned(), object);
    }
}

/// The rights of a rule as the kernel takes them, of those that it knows.
pub(crate) fn bits(access: Access, is_directory: bool, known: u64) -> u64 {
    let abi = ABI::V5; // the newest with file rights of its own; `known` leaves out what is too new
    let mut rights = rights(access, abi);
    if !is_directory {
        rights &= AccessFs::from_file(abi);
    }
    rights.bits() & known
}

fn rights(access: Access, abi: ABI) -> BitFlags<AccessFs> {
    let mut rights = BitFlags::empty();
    if access.read {
        rights |= AccessFs::ReadFile | AccessFs::ReadDir;
    }
    if access.write {
        // Everything that modifies, but making device nodes.
        rights |= AccessFs::from_write(abi);
        rights &= !(AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev);
    }
    if access.execute {
        rights |= AccessFs::Execute | AccessFs::ReadFile;
    }
    if access.device {
        rights |= AccessFs::IoctlDev;
    }
    rights & AccessFs::from_all(abi)
}
