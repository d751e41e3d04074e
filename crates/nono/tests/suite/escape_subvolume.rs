//! On btrfs an `ioctl(2)` on directories that are open for reading makes subvolumes and snapshots: whole
//! trees, at names that nobody but the file system has looked at.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command as HostCommand;

use nono::Capabilities;

use crate::common::{Scratch, in_each_tier, run_command};

/// A new btrfs, until it is dropped.
struct Btrfs(Scratch);

impl Btrfs {
    /// `None`, and said so: it takes root, a loop device and btrfs-progs.
    fn mount() -> Option<Self> {
        let scratch = Scratch::new();
        let image = fs::File::create(scratch.path().join("image")).unwrap();
        image.set_len(256 << 20).unwrap();
        fs::create_dir(scratch.path().join("mounted")).unwrap();
        let script = "mkfs.btrfs -q image && mount -o loop image mounted";
        let made = HostCommand::new("/bin/sh")
            .args(["-c", script])
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir(scratch.path())
            .output();
        if made.is_ok_and(|made| made.status.success()) {
            return Some(Btrfs(scratch));
        }
        println!("SKIPPED: subvolumes from inside: no btrfs can be mounted here");
        None
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("mounted")
    }
}

impl Drop for Btrfs {
    fn drop(&mut self) {
        let _ = HostCommand::new("umount").arg(self.path()).status();
    }
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn no_tree_is_put_anywhere_by_a_snapshot() {
    let Some(btrfs) = Btrfs::mount() else { return };
    let place = btrfs.path();
    let script = r#"
import fcntl, os, struct, sys
place = sys.argv[1]
def attempt(what, directory, command, argument):
    fd = os.open(directory, os.O_RDONLY)
    try: fcntl.ioctl(fd, command, bytearray(argument))
    except OSError as error: return print(what, error.strerror)
    print(what, 'SUCCEEDED')
def new(name, fd=0): return struct.pack('=q4088s', fd, name)
def new2(name, fd=0): return struct.pack('=qQQ32s4040s', fd, 0, 0, b'', name)
source = os.open(place + '/w/subvolume', os.O_RDONLY)
for directory in (place + '/readable', place + '/w'):
    attempt('create', directory, 0x5000940e, new(b'.vscode'))
    attempt('create 2', directory, 0x50009418, new2(b'.cursor'))
    attempt('snapshot', directory, 0x50009401, new(b'.idea', source))
    attempt('snapshot 2', directory, 0x50009417, new2(b'.zed', source))
attempt('delete', place + '/readable', 0x5000940f, new(b'subvolume'))
attempt('make it read-only', place + '/readable/subvolume', 0x4008941a, struct.pack('=Q', 2))
"#;
    let made = HostCommand::new("/bin/sh")
        .args(["-ec", "mkdir w readable; for place in w readable; do btrfs -q subvolume create $place/subvolume; done"])
        .current_dir(&place)
        .status();
    assert!(made.unwrap().success());
    let capabilities = Capabilities::new()
        .allow_exec("/usr/bin/python3")
        .allow_write(place.join("w"))
        .allow_read(place.join("readable"));
    in_each_tier(&capabilities, |sandbox| {
        let argv = ["/usr/bin/python3", "-c", script, place.to_str().unwrap()];
        let (exit, output) = run_command(sandbox, nono::Command::new(argv));
        assert!(exit.status.success(), "{output}");
        assert_eq!(output.lines().count(), 10, "{output}");
        assert!(!output.contains("SUCCEEDED"), "{output}");
    });
    assert_eq!(names(&place.join("w")), ["subvolume"]);
    assert_eq!(names(&place.join("readable")), ["subvolume"]);
}
