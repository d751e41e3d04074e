//! What the tests of this crate share: a directory of their own, and commands with their output.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::container::in_container;
use nono::{Capabilities, Command, Exit, Options, Sandbox, TierName};

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

/// Runs a test in a sandbox of each tier. A machine without namespaces tests the flat one only, and
/// says so.
pub(crate) fn in_each_tier(capabilities: &Capabilities, mut test: impl FnMut(&Sandbox)) {
    for tier in nono::support().tiers {
        match tier.unavailable {
            None => {
                let options = Options { tier: Some(tier.name), ..Options::default() };
                println!("tier {}", tier.name.as_str());
                test(&Sandbox::create(capabilities, &options).unwrap());
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
        let sandbox = Sandbox::create(capabilities, &Options::default()).unwrap();
        assert_eq!(sandbox.tier(), TierName::Flat);
        test(&sandbox);
    });
}
