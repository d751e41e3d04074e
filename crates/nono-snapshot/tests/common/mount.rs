//! File systems made and mounted for a test.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use nono_snapshot::Store;

use super::Scratch;

/// A directory for an image, in memory: what is flushed to it waits for no disk.
fn image_directory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap()
}

/// A mounted image that is unmounted, and its loop device detached, however the test ends.
pub struct Mounted {
    pub dir: tempfile::TempDir,
}

impl Mounted {
    pub fn at(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // The loop device was attached by mount(8) and goes with the last unmount.
        let _ = Command::new("umount").arg("--lazy").arg(self.at()).status();
    }
}

pub fn run(program: &str, args: &[&str]) -> Result<(), String> {
    let output =
        Command::new(program).args(args).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

pub fn mounted(kind: &str, options: &str) -> Option<Mounted> {
    made(kind, if kind == "xfs" { &["-m", "reflink=1"] } else { &[] }, options)
}

/// The same with options for mkfs.
pub fn made(kind: &str, features: &[&str], options: &str) -> Option<Mounted> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: rollback on {kind}: mounting needs root");
        return None;
    }
    let mounted = Mounted { dir: image_directory() };
    let (image, at) = (mounted.dir.path().join("image"), mounted.at());
    fs::create_dir(&at).unwrap();
    let (image, at) = (image.to_str().unwrap(), at.to_str().unwrap());
    if kind == "tmpfs" {
        run("mount", &["-t", "tmpfs", "-o", "size=64m", "none", at]).unwrap();
        return Some(mounted);
    }
    // Sparse: it takes as much as is written.
    fs::File::create(image).unwrap().set_len(400 << 20).unwrap();
    let made = run(&format!("mkfs.{kind}"), &[&["-q"], features, &[image]].concat());
    let made =
        made.and_then(|()| run("mount", &["-t", kind, "-o", &format!("loop{options}"), image, at]));
    if let Err(error) = made {
        println!("SKIPPED: rollback on {kind}: {error}");
        return None;
    }
    Some(mounted)
}

pub fn scratch_on(mounted: &Mounted, subvolume: bool) -> Scratch {
    let root = tempfile::tempdir_in(mounted.at()).unwrap();
    let project = root.path().join("project");
    if subvolume {
        run("btrfs", &["-q", "subvolume", "create", project.to_str().unwrap()]).unwrap();
    } else {
        fs::create_dir(&project).unwrap();
    }
    let store = Store::open(&root.path().join("state")).unwrap();
    Scratch { root, project, store }
}

/// zfs-fuse: the daemon is started unless one runs already, and ends with the test.
pub struct Pool {
    pub name: String,
    pub dir: tempfile::TempDir,
    pub daemon: Option<std::process::Child>,
    /// There is one daemon on a machine: another test must not end it meanwhile.
    _alone: fs::File,
}

impl Pool {
    pub fn new() -> Option<Self> {
        let skip = |why: &str| {
            println!("SKIPPED: rollback on zfs: {why}");
            None
        };
        if !rustix::process::geteuid().is_root() {
            return skip("mounting needs root");
        }
        if !Path::new("/dev/fuse").exists() {
            return skip("there is no /dev/fuse");
        }
        let alone = fs::File::create("/run/nono-zfs-test.lock").unwrap();
        rustix::fs::flock(&alone, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let name = format!("nonotest{}", std::process::id());
        let dir = image_directory();
        let mut pool = Self { name, dir, daemon: None, _alone: alone };
        if run("zpool", &["list"]).is_err() {
            let mut command = Command::new("zfs-fuse");
            command
                .arg("--no-daemon")
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null());
            let Ok(daemon) = command.spawn() else { return skip("zfs-fuse is not installed") };
            pool.daemon = Some(daemon);
            for _ in 0..100 {
                if run("zpool", &["list"]).is_ok() {
                    break;
                }
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
        }
        let image = pool.dir.path().join("image");
        fs::File::create(&image).unwrap().set_len(256 << 20).unwrap();
        let mountpoint = pool.dir.path().join("mnt");
        let made = run(
            "zpool",
            &["create", "-m", mountpoint.to_str().unwrap(), &pool.name, image.to_str().unwrap()],
        );
        if let Err(error) = made { skip(&error) } else { Some(pool) }
    }

    /// A project that is a dataset of its own, and a store outside of the pool.
    pub fn scratch(&self, name: &str) -> Scratch {
        run("zfs", &["create", &format!("{}/{name}", self.name)]).unwrap();
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(&root.path().join("state")).unwrap();
        Scratch { root, project: self.dir.path().join("mnt").join(name), store }
    }

    /// Destroys what [`scratch`](Self::scratch) made. `zfs` looks through all mounts for a path, and
    /// thousands of them are read in pieces, between which others come and go.
    pub fn destroy(&self, name: &str) {
        let dataset = format!("{}/{name}", self.name);
        // Its daemon closes files a moment after their last close.
        while let Err(error) = run("zfs", &["destroy", "-r", "-f", &dataset]) {
            assert!(error.contains("busy"), "{error}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = run("zpool", &["destroy", "-f", &self.name]);
        if let Some(daemon) = &mut self.daemon {
            let pid = rustix::process::Pid::from_child(daemon);
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            let _ = daemon.wait();
        }
    }
}
