//! What the tests of this crate share: a directory of their own, and commands with their output.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::container::in_container;
use nono::{Capabilities, Command, Error, Exit, Options, Sandbox, Status, TierName};

/// A directory that is removed at the end of the test.
pub(crate) struct Scratch(PathBuf);

impl Scratch {
    #[must_use]
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    /// Where no sandbox has a private directory, so that what is not granted is there.
    #[must_use]
    pub(crate) fn in_public() -> Self {
        Self::below(Path::new("/var/tmp"))
    }

    fn below(directory: &Path) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("nono-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = directory.canonicalize().unwrap().join(name);
        std::fs::create_dir(&path).unwrap();
        Scratch(path)
    }

    #[must_use]
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// A file with contents, in it.
    pub(crate) fn file(&self, name: &str, contents: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A shell and the usual small programs.
#[must_use]
pub(crate) fn shell() -> Capabilities {
    Capabilities::new().allow_exec("/bin").allow_exec("/usr/bin")
}

/// Runs a shell script and returns its exit and its output, both streams in one.
pub(crate) fn run(sandbox: &Sandbox, script: &str) -> (Exit, String) {
    run_command(sandbox, Command::new(["/bin/sh", "-c", script]))
}

/// Runs a command and returns its exit and its output, both streams in one.
pub(crate) fn run_command(sandbox: &Sandbox, command: Command) -> (Exit, String) {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let null: OwnedFd = File::open("/dev/null").unwrap().into();
    let error = writer.as_fd().try_clone_to_owned().unwrap();
    let child = sandbox.spawn(command.stdio(vec![null, writer.into(), error])).unwrap();
    let mut output = String::new();
    reader.read_to_string(&mut output).unwrap();
    (child.wait(), output)
}

macro_rules! calls {
    ($($name:ident),* $(,)?) => { &[$((stringify!($name), libc::$name)),*] };
}

/// Calls that scripts make by number. Those from `SYS_open_tree` (428) on have the same number everywhere.
const CALLS: &[(&str, i64)] = calls![
    SYS_add_key,
    SYS_bpf,
    SYS_clone,
    SYS_ioprio_set,
    SYS_kexec_load,
    SYS_keyctl,
    SYS_memfd_create,
    SYS_mount,
    SYS_name_to_handle_at,
    SYS_open_by_handle_at,
    SYS_perf_event_open,
    SYS_personality,
    SYS_pivot_root,
    SYS_prlimit64,
    SYS_process_vm_readv,
    SYS_ptrace,
    SYS_reboot,
    SYS_renameat2,
    SYS_request_key,
    SYS_sendmmsg,
    SYS_setns,
    SYS_setrlimit,
    SYS_shmat,
    SYS_shmctl,
    SYS_socket,
    SYS_statx,
    SYS_syslog,
    SYS_umount2,
    SYS_unshare,
    SYS_userfaultfd,
];

/// A script with the numbers of this architecture for the names in it, such as `SYS_mount`.
#[must_use]
pub(crate) fn numbered(script: &str) -> String {
    let named = |script: String, (name, number): &(&str, i64)| {
        [",", ")"].iter().fold(script, |script, end| {
            script.replace(&format!("({name}{end}"), &format!("({number}{end}"))
        })
    };
    let script = CALLS.iter().fold(script.to_owned(), named);
    assert!(!script.contains("SYS_"), "no number: {script}");
    script
}

/// Options of a sandbox of this tier. What an older kernel cannot keep there for any policy is named
/// and done without, so that the rest is tested.
#[must_use]
pub(crate) fn in_tier(tier: TierName) -> Options {
    static MISSING: Mutex<BTreeMap<&str, Vec<String>>> = Mutex::new(BTreeMap::new());
    let options = Options { tier: Some(tier), ..Options::default() };
    let mut missing = MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    let allow_degraded = missing.entry(tier.as_str()).or_insert_with(|| {
        match Sandbox::create(&Capabilities::new(), &options) {
            Err(Error::UnsupportedPolicy { guarantees }) => guarantees,
            _ => Vec::new(),
        }
    });
    for name in &*allow_degraded {
        println!("SKIPPED: {name} in the {} tier: this kernel cannot keep it", tier.as_str());
    }
    Options { allow_degraded: allow_degraded.clone(), ..options }
}

/// The same of a sandbox of whichever tier works.
#[must_use]
pub(crate) fn in_any_tier() -> Options {
    Options { tier: None, ..in_tier(TierName::Flat) }
}

/// Whether a sandbox promises something without reserve.
#[must_use]
pub(crate) fn keeps(sandbox: &Sandbox, name: &str) -> bool {
    let mut guarantees = sandbox.guarantees().iter();
    guarantees.any(|one| one.name == name && one.status == Status::Enforced)
}

/// Whether the kernel seals memory files against execution (MFD_NOEXEC_SEAL, Linux 6.3). Where it does
/// not, there are none in a sandbox.
#[must_use]
pub(crate) fn seals_memory_files() -> bool {
    const MFD_NOEXEC_SEAL: u32 = 8;
    // SAFETY: a C string.
    match unsafe { libc::memfd_create(c"".as_ptr(), libc::MFD_CLOEXEC | MFD_NOEXEC_SEAL) } {
        -1 => {
            println!("SKIPPED: memory files: this kernel cannot seal them against execution");
            false
        }
        // SAFETY: a new descriptor that nobody else owns.
        fd => unsafe { libc::close(fd) == 0 },
    }
}

/// Runs a test in a sandbox of each tier. A machine without namespaces tests the flat one only, and
/// says so.
pub(crate) fn in_each_tier(capabilities: &Capabilities, mut test: impl FnMut(&Sandbox)) {
    for tier in nono::support().tiers {
        match tier.unavailable {
            None => {
                println!("tier {}", tier.name.as_str());
                test(&Sandbox::create(capabilities, &in_tier(tier.name)).unwrap());
            }
            Some(reason) => {
                assert_ne!(tier.name, TierName::Flat, "{reason}");
                println!("SKIPPED: the {} tier: {reason}", tier.name.as_str());
            }
        }
    }
}

/// [`in_each_tier`], and once more in what a default container leaves of the flat one.
pub(crate) fn in_each_setting(capabilities: &Capabilities, mut test: impl FnMut(&Sandbox) + Send) {
    in_each_tier(capabilities, &mut test);
    in_container(|| {
        println!("in a container");
        let sandbox = Sandbox::create(capabilities, &in_any_tier()).unwrap();
        assert_eq!(sandbox.tier(), TierName::Flat);
        test(&sandbox);
    });
}
