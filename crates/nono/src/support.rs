//! What this machine can enforce, found by asking the kernel, never by its version.

use crate::capabilities::Capabilities;
use crate::launch;
use crate::overlay;
use crate::sandbox::{Options, Sandbox};
use crate::tier::TierName;

/// What a sandbox can be built on here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Support {
    /// Landlock's ABI version; 0: the kernel has none, and no sandbox is possible.
    pub landlock_abi: i32,
    /// Whether seccomp filters can be installed.
    pub seccomp: bool,
    /// Whether a supervisor can answer system calls (`SECCOMP_RET_USER_NOTIF`).
    pub seccomp_notify: bool,
    /// Whether this user can make a user namespace.
    pub user_namespaces: bool,
    /// Whether the kernel renames directories in an [`crate::OverlayMount`]: this process may make
    /// overlays itself, outside of any user namespace. Elsewhere the supervisor does, entry by entry.
    pub privileged_overlay: bool,
    /// The kernel's release, for reports; no decision is made by it.
    pub kernel: String,
    /// Ways to build sandboxes.
    pub tiers: Vec<Tier>,
}

/// A way to build sandboxes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tier {
    /// Which one.
    pub name: TierName,
    /// Why it does not work here; `None`: it does.
    pub unavailable: Option<String>,
}

/// Asks the kernel what it offers, by trying: a sandbox that runs nothing is built and closed.
///
/// ```
/// let support = nono::support();
/// println!("Landlock ABI {}", support.landlock_abi);
/// ```
#[must_use]
pub fn support() -> Support {
    let basics = missing_basics();
    let namespaces = basics.clone().or_else(missing_namespaces);
    Support {
        landlock_abi: landlock_abi(),
        seccomp: has_action(libc::SECCOMP_RET_ERRNO),
        seccomp_notify: can_notify(),
        user_namespaces: launch::can_make(libc::CLONE_NEWUSER),
        privileged_overlay: overlay::can_make(),
        kernel: kernel_release(),
        tiers: vec![
            Tier { name: TierName::Namespaces, unavailable: namespaces },
            Tier { name: TierName::Flat, unavailable: basics },
        ],
    }
}

/// Why no sandbox of any kind is possible here.
pub(crate) fn missing_basics() -> Option<String> {
    if landlock_abi() == 0 {
        Some("the kernel offers no Landlock".into())
    } else if has_action(libc::SECCOMP_RET_ERRNO) {
        None
    } else {
        Some("the kernel offers no seccomp filters".into())
    }
}

/// Why the namespaces tier is not possible here: found by building a sandbox that runs nothing.
fn missing_namespaces() -> Option<String> {
    let options = Options { tier: Some(TierName::Namespaces), ..Options::default() };
    Sandbox::create(&Capabilities::new(), &options).err().map(|error| error.to_string())
}

pub(crate) fn landlock_abi() -> i32 {
    const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;
    let no_attributes: *const libc::c_void = std::ptr::null();
    // SAFETY: asking for the version takes no memory (`landlock_create_ruleset(2)`).
    let version = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            no_attributes,
            0usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    version.max(0) as i32
}

/// Whether a supervisor can answer system calls.
pub(crate) fn can_notify() -> bool {
    has_action(libc::SECCOMP_RET_USER_NOTIF)
}

fn has_action(action: u32) -> bool {
    const SECCOMP_GET_ACTION_AVAIL: u32 = 2;
    // SAFETY: the kernel reads one u32.
    let answer = unsafe {
        libc::syscall(libc::SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0u32, &raw const action)
    };
    answer == 0
}

fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".into(), |release| release.trim().to_owned())
}
