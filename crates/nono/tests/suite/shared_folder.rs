//! A file system in which case does not count, and names have short ones besides, as on Windows: what
//! is protected or denied has many names there.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command as HostCommand, Stdio};
use std::time::{Duration, Instant};

use nono::Capabilities;

use crate::common::{Scratch, in_each_tier, run};

/// A directory on such a file system, until it is dropped.
struct Shared {
    server: Child,
    scratch: Scratch,
}

impl Shared {
    /// `None`, and said so: this machine has no FUSE, or no fusepy.
    fn mount() -> Option<Self> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/suite/shared_folder.py");
        let scratch = Scratch::new();
        for name in ["below", "mounted"] {
            fs::create_dir(scratch.path().join(name)).unwrap();
        }
        let server = HostCommand::new("/usr/bin/python3")
            .arg(script)
            .args([scratch.path().join("below"), scratch.path().join("mounted")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(server) = server else {
            println!("SKIPPED: a case-insensitive file system: there is no /usr/bin/python3");
            return None;
        };
        let mut mounted = Shared { server, scratch };
        fs::write(mounted.scratch.path().join("below/Present"), "").unwrap();
        let begin = Instant::now();
        while !mounted.path().join("pRESENT").exists() {
            let has_ended = mounted.server.try_wait().unwrap().is_some();
            if has_ended || begin.elapsed() > Duration::from_secs(20) {
                println!("SKIPPED: a case-insensitive file system: fusepy cannot mount one here");
                return None;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(mounted)
    }

    fn path(&self) -> PathBuf {
        self.scratch.path().join("mounted")
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        let _ = HostCommand::new("fusermount").arg("-uz").arg(self.path()).status();
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn write(directory: &Path, name: &str, contents: &str) {
    let path = directory.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, contents).unwrap();
}

#[test]
fn what_is_protected_or_denied_is_so_by_each_of_its_names() {
    let Some(mounted) = Shared::mount() else { return };
    let place = mounted.path();
    for name in [".git/hooks/pre-push", ".git/config", ".vscode/tasks.json", ".env", "Notes"] {
        write(&place, name, "as it was\n");
    }
    let capabilities =
        Capabilities::new().allow_exec("/bin/sh").allow_exec("/usr/bin").allow_write(&place);
    in_each_tier(&capabilities.deny("**/.env"), |sandbox| {
        let at = place.display();
        let refused = [
            format!("echo evil >{at}/.VSCODE/tasks.json"),
            format!("echo evil >{at}/.Git/HOOKS/pre-push"),
            format!("echo evil >{at}/.GIT/hooks/post-checkout"),
            format!("echo evil >>{at}/.git/Config"),
            format!("echo evil >{at}/.EnvRC"),
            format!("mkdir {at}/.CURSOR"),
            format!("mv {at}/.GIT {at}/moved"),
            format!("echo evil >{at}/VSCODE~1/tasks.json"),
            format!("echo evil >{at}/Git~1/hooks/pre-push"),
            format!("cat {at}/.ENV"),
            format!("cat {at}/ENV~1"),
            format!("mv {at}/.Env {at}/moved"),
        ];
        for script in refused {
            let (_, output) = run(sandbox, &format!("{{ {script}; }} 2>&1; echo $?"));
            assert!(output.contains("Permission denied"), "{script}: {output}");
            assert!(!output.contains("as it was"), "{script}: {output}");
        }
        let (_, output) = run(sandbox, &format!("echo new >{at}/NOTES && cat {at}/notes"));
        assert_eq!(output, "new\n");
    });
    for name in [".git/hooks/pre-push", ".git/config", ".vscode/tasks.json", ".env"] {
        assert_eq!(fs::read_to_string(place.join(name)).unwrap(), "as it was\n", "{name}");
    }
    let mut left: Vec<_> =
        fs::read_dir(&place).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, [".env", ".git", ".vscode", "Notes", "Present"]);
}
