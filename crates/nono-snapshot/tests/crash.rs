//! A rollback, commit or checkpoint that dies or fails at any step, or any system call, leaves the old
//! state or the new.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::mount::{mounted, scratch_on};
use common::traced::{calls, calls_apart, can_trace, strace};
use common::{
    Fingerprint, Scratch, fingerprint, furnish, in_overlay, namespaces_work, scratch_in, wreck,
};
use nono_snapshot::{Checkpoint, Mounter, Options, State, Store};

/// Does what `NONO_CRASH_CHILD` says and returns; run by the tests below in a process of its own.
#[test]
fn child() {
    let Ok(task) = std::env::var("NONO_CRASH_CHILD") else { return };
    let parts: Vec<&str> = task.split('|').collect();
    let (operation, project, store) =
        (parts[0], PathBuf::from(parts[1]), Store::open(Path::new(parts[2])).unwrap());
    let open = || Checkpoint::open(&store, &store.list().unwrap()[0].id).unwrap();
    let outcome = match operation {
        "create" => {
            let options = Options { strategy: Some("copy".to_owned()), ..Options::default() };
            Checkpoint::create(&store, &[project], &options).map(drop)
        }
        "rollback" => open().rollback(None, false).map(drop),
        "rollback some" => open().rollback(Some(&SOME.map(PathBuf::from)), false).map(drop),
        "commit some" => open().commit(Some(&SOME.map(PathBuf::from))),
        "apply" => open().apply(),
        "withdraw" => open().withdraw(),
        "commit" => open().commit(None),
        "recover" => store.recover().map(drop),
        other => panic!("unknown operation {other}"),
    };
    if let Err(error) = outcome {
        eprintln!("failed: {} {error}", error.code());
        std::process::exit(3);
    }
}

const SOME: [&str; 4] = ["plain", "deep", "link", "added"];

fn run(operation: &str, scratch: &Scratch, fault: &str) -> Output {
    let command = Command::new(std::env::current_exe().unwrap());
    of_child(command, operation, scratch).env("NONO_SNAPSHOT_FAULT", fault).output().unwrap()
}

fn of_child(mut command: Command, operation: &str, scratch: &Scratch) -> Command {
    let (project, store) = (scratch.project.display(), scratch.store.path().display());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    command.env("NONO_CRASH_CHILD", format!("{operation}|{project}|{store}"));
    command
}

/// Runs `attempt` for some of the operation's system calls, with what is to be done to it and a name.
fn at_some_calls(
    operation: &str,
    prepare: impl Fn() -> Scratch,
    attempt: impl Fn(&dyn Fn(&Scratch) -> Output, &str),
) {
    if !can_trace() {
        return;
    }
    let scratch = prepare();
    let calls = calls(|strace| of_child(strace, operation, &scratch));
    for (call, number) in calls.iter().step_by(calls_apart()) {
        for injection in ["signal=KILL", "error=ENOSPC"] {
            let option = format!("--inject={call}:{injection}:when={number}");
            let run = |scratch: &Scratch| {
                of_child(strace(&option, Path::new("/dev/null")), operation, scratch)
                    .output()
                    .unwrap()
            };
            attempt(&run, &format!("{operation} {option}"));
        }
    }
}

/// A scratch in which something is to be done, the tree at the checkpoint and the tree now.
type Prepared = (Scratch, Fingerprint, Fingerprint);

fn prepared(exclude: &[&str]) -> Prepared {
    let scratch = scratch_in(Path::new("/dev/shm"));
    furnish(&scratch.project);
    scratch.write("kept/cache/file", "cache");
    let before = fingerprint(&scratch.project);
    scratch.checkpoint(exclude);
    wreck(&scratch.project);
    let wrecked = fingerprint(&scratch.project);
    (scratch, before, wrecked)
}

/// Times of directories move when something was moved in and out again; nothing else may differ.
fn without_directory_times(fingerprint: &Fingerprint) -> Fingerprint {
    let strip = |text: &String| match text.strip_prefix("mode 4") {
        Some(_) => text.split(" mtime ").next().unwrap().to_owned(),
        None => text.clone(),
    };
    fingerprint.iter().map(|(path, text)| (path.clone(), strip(text))).collect()
}

/// Runs `operation` once per step and fault; afterwards `check` sees the tree and whether it happened.
fn at_every_step(
    operation: &str,
    prepare: impl Fn() -> Prepared,
    check: impl Fn(&Scratch, &str, &Fingerprint, &Fingerprint),
) {
    let (scratch, ..) = prepare();
    let trace = String::from_utf8(run(operation, &scratch, "trace").stderr).unwrap();
    let steps = trace.lines().filter(|line| line.starts_with("fault point")).count();
    // A whole rollback is one step; all else has a journal.
    let least = if operation == "rollback" { 1 } else { 6 };
    assert!(steps >= least, "{operation} reached only {steps} steps:\n{trace}");
    let enospc = libc::ENOSPC.to_string();
    let faults =
        ["kill", &enospc, &libc::EIO.to_string(), &libc::EROFS.to_string()].map(str::to_owned);
    for step in 0..steps {
        // The three errors take the same road; each step meets one of them, and death.
        for fault in ["kill", faults[1 + step % 3].as_str()] {
            let (scratch, before, wrecked) = prepare();
            let output = run(operation, &scratch, &format!("{step}:{fault}"));
            if fault == "kill" {
                assert_eq!(output.status.signal(), Some(libc::SIGKILL), "{operation} {step}");
            }
            let what = format!("{operation} {step}:{fault}");
            recovered(&scratch, &what);
            check(&scratch, &what, &before, &wrecked);
        }
    }
    at_some_calls(
        operation,
        || prepare().0,
        |interrupt, what| {
            let (scratch, before, wrecked) = prepare();
            interrupt(&scratch);
            recovered(&scratch, what);
            check(&scratch, what, &before, &wrecked);
        },
    );
}

/// Recovers after whatever happened.
fn recovered(scratch: &Scratch, what: &str) {
    let listed = scratch.store.list().unwrap();
    assert_eq!(listed.len(), 1, "{what}: the checkpoint is always listed");
    // Recovery may die as well, and run again.
    run("recover", scratch, "1:kill");
    scratch.store.recover().unwrap();
    let after = fingerprint(&scratch.project);
    scratch.store.recover().unwrap();
    assert_eq!(fingerprint(&scratch.project), after, "{what}: recover is idempotent");
}

#[test]
fn rollback() {
    at_every_step(
        "rollback",
        || prepared(&[]),
        |scratch, what, before, wrecked| {
            let now = fingerprint(&scratch.project);
            let open = scratch
                .store
                .list()
                .unwrap()
                .first()
                .is_some_and(|listed| listed.state == State::Active);
            if open {
                assert_eq!(now, *wrecked, "{what}: it did not happen");
                let id = &scratch.store.list().unwrap()[0].id;
                Checkpoint::open(&scratch.store, id).unwrap().rollback(None, false).unwrap();
            }
            assert_eq!(fingerprint(&scratch.project), *before, "{what}");
        },
    );
}

#[test]
fn rollback_around_excluded_entries() {
    at_every_step(
        "rollback",
        || prepared(&["cache", "moved"]),
        |scratch, what, before, wrecked| {
            let now = without_directory_times(&fingerprint(&scratch.project));
            if now != without_directory_times(wrecked) {
                let mut now = fingerprint(&scratch.project);
                assert!(now.contains_key(Path::new("moved")), "{what}: excluded entries stay");
                now.retain(|path, _| !path.starts_with("moved"));
                assert_eq!(
                    now.get(Path::new("kept/cache/file")),
                    before.get(Path::new("kept/cache/file"))
                );
                let strip = |tree: &Fingerprint| {
                    without_directory_times(tree).into_keys().collect::<Vec<_>>()
                };
                assert_eq!(strip(&now), strip(before), "{what}");
            }
        },
    );
}

#[test]
fn rollback_of_some_paths() {
    at_every_step(
        "rollback some",
        || prepared(&[]),
        |scratch, what, before, wrecked| {
            let now = without_directory_times(&fingerprint(&scratch.project));
            let restored = now.contains_key(Path::new("deep/er/est/file"));
            let reference = if restored { before } else { wrecked };
            for path in SOME {
                let text = |tree: &Fingerprint| {
                    tree.get(Path::new(path))
                        .map(|text| text.split(" size ").nth(1).map(str::to_owned))
                };
                assert_eq!(text(&now), text(&without_directory_times(reference)), "{what}: {path}");
            }
            let id = scratch.store.list().unwrap()[0].id.clone();
            Checkpoint::open(&scratch.store, &id).unwrap().rollback(None, false).unwrap();
            assert_eq!(
                fingerprint(&scratch.project),
                *before,
                "{what}: the whole rollback is still complete"
            );
        },
    );
}

#[test]
fn commit_of_some_paths() {
    at_every_step(
        "commit some",
        || prepared(&[]),
        |scratch, what, before, wrecked| {
            assert_eq!(
                fingerprint(&scratch.project),
                *wrecked,
                "{what}: a commit doesn't touch the directory"
            );
            let id = scratch.store.list().unwrap()[0].id.clone();
            Checkpoint::open(&scratch.store, &id).unwrap().rollback(None, false).unwrap();
            let now = fingerprint(&scratch.project);
            let committed = now.contains_key(Path::new("added"));
            assert_eq!(
                fs::read_to_string(scratch.project.join("plain")).unwrap()
                    == "overwritten in place",
                committed,
                "{what}"
            );
            assert_eq!(now.contains_key(Path::new("deep")), !committed, "{what}");
            assert_eq!(now[Path::new("script")], before[Path::new("script")], "{what}");
        },
    );
}

/// A checkpoint with an upper layer full of changes, among them renamed directories where the mounter
/// can have them, or nothing where there are no user namespaces.
fn layered(applied: bool) -> Option<Prepared> {
    let root = rustix::process::geteuid().is_root();
    let mounter = if root { Mounter::Privileged } else { Mounter::Unprivileged };
    if !root && !namespaces_work() {
        return None;
    }
    let scratch = scratch_in(&common::memory());
    for path in ["edit", "delete", "one/x", "two/y", "tree/a", "tree/b/c", "anew/old"] {
        scratch.write(path, path);
    }
    let before = fingerprint(&scratch.project);
    let options = Options {
        strategy: Some("overlay".to_owned()),
        mounter: Some(mounter),
        ..Options::default()
    };
    let dirs = std::slice::from_ref(&scratch.project);
    let mut checkpoint = Checkpoint::create(&scratch.store, dirs, &options).unwrap();
    let renames = if root {
        "mv -T tree moved; mv -T one tmp; mv -T two one; mv -T tmp two; mv -T moved/b outer; echo more > moved/a"
    } else {
        "chmod 700 tree"
    };
    let work = "echo edited > edit; rm delete; mkdir new; echo n > new/n; rm -r anew; mkdir anew; echo a > anew/new";
    in_overlay(&checkpoint.mounts()[0], mounter, &format!("{work}; {renames}"));
    if applied {
        checkpoint.apply().unwrap();
    }
    let now = fingerprint(&scratch.project);
    Some((scratch, before, now))
}

/// What the directory must be when everything from the upper layer is in it.
fn applied() -> Option<Fingerprint> {
    layered(true).map(|(_, _, applied)| undated(&applied))
}

/// Two sandboxes do the same at different times.
fn undated(fingerprint: &Fingerprint) -> Fingerprint {
    let strip = |text: &String| {
        let (start, rest) = text.split_once(" mtime ").unwrap();
        format!("{start} {}", rest.split_once(' ').unwrap().1)
    };
    fingerprint.iter().map(|(path, text)| (path.clone(), strip(text))).collect()
}

#[test]
fn applying_an_overlay() {
    let Some(applied) = applied() else { return };
    at_every_step(
        "apply",
        || layered(false).unwrap(),
        |scratch, what, before, _| {
            let now = fingerprint(&scratch.project);
            let id = &scratch.store.list().unwrap()[0].id;
            let mut checkpoint = Checkpoint::open(&scratch.store, id).unwrap();
            match checkpoint.state() {
                State::Active => assert_eq!(now, *before, "{what}: it did not happen"),
                _ => assert_eq!(undated(&now), applied, "{what}"),
            }
            checkpoint.apply().unwrap();
            assert_eq!(undated(&fingerprint(&scratch.project)), applied, "{what}: applied again");
            checkpoint.rollback(None, false).unwrap();
            assert_eq!(fingerprint(&scratch.project), *before, "{what}");
        },
    );
}

#[test]
fn withdrawing_an_applied_overlay() {
    if applied().is_none() {
        return;
    }
    at_every_step(
        "withdraw",
        || layered(true).unwrap(),
        |scratch, what, before, applied| {
            let now = fingerprint(&scratch.project);
            let id = &scratch.store.list().unwrap()[0].id;
            let mut checkpoint = Checkpoint::open(&scratch.store, id).unwrap();
            match checkpoint.state() {
                State::Applied => assert_eq!(now, *applied, "{what}: it did not happen"),
                _ => assert_eq!(now, *before, "{what}"),
            }
            checkpoint.withdraw().unwrap();
            assert_eq!(fingerprint(&scratch.project), *before, "{what}: withdrawn again");
            checkpoint.apply().unwrap();
            assert_eq!(fingerprint(&scratch.project), *applied, "{what}: applied again");
        },
    );
}

#[test]
fn rolling_back_an_applied_overlay() {
    if applied().is_none() {
        return;
    }
    at_every_step(
        "rollback",
        || layered(true).unwrap(),
        |scratch, what, before, wrecked| {
            if let Some(listed) = scratch.store.list().unwrap().first() {
                assert_eq!(fingerprint(&scratch.project), *wrecked, "{what}: it did not happen");
                let mut checkpoint = Checkpoint::open(&scratch.store, &listed.id).unwrap();
                checkpoint.rollback(None, false).unwrap();
            }
            assert_eq!(fingerprint(&scratch.project), *before, "{what}");
        },
    );
}

#[test]
fn dropping_an_overlay() {
    if applied().is_none() {
        return;
    }
    at_every_step(
        "rollback",
        || layered(false).unwrap(),
        |scratch, what, before, _| {
            assert_eq!(fingerprint(&scratch.project), *before, "{what}");
            if let Some(listed) = scratch.store.list().unwrap().first() {
                let mut checkpoint = Checkpoint::open(&scratch.store, &listed.id).unwrap();
                assert_ne!(checkpoint.changes().unwrap(), [], "{what}: it did not happen");
                checkpoint.rollback(None, false).unwrap();
            }
        },
    );
}

#[test]
fn committing_an_overlay() {
    let Some(applied) = applied() else { return };
    at_every_step(
        "commit",
        || layered(false).unwrap(),
        |scratch, what, before, _| {
            if let Some(listed) = scratch.store.list().unwrap().first() {
                assert_eq!(fingerprint(&scratch.project), *before, "{what}: it did not happen");
                Checkpoint::open(&scratch.store, &listed.id).unwrap().commit(None).unwrap();
            }
            assert_eq!(undated(&fingerprint(&scratch.project)), applied, "{what}");
        },
    );
}

/// A snapshot changes places as a whole, with clones of what is excluded in it.
#[test]
fn rollback_on_btrfs() {
    let Some(mounted) = mounted("btrfs", "") else { return };
    for exclude in [&[][..], &["cache"][..]] {
        let prepare = || {
            let scratch = scratch_on(&mounted, true);
            furnish(&scratch.project);
            scratch.write("kept/cache/file", "cache");
            let options = Options {
                strategy: Some("btrfs".to_owned()),
                exclude: exclude.iter().map(|&pattern| pattern.to_owned()).collect(),
                ..Options::default()
            };
            let dirs = std::slice::from_ref(&scratch.project);
            Checkpoint::create(&scratch.store, dirs, &options).unwrap();
            let before = fingerprint(&scratch.project);
            wreck(&scratch.project);
            let wrecked = fingerprint(&scratch.project);
            (scratch, before, wrecked)
        };
        at_every_step("rollback", prepare, |scratch, what, before, wrecked| {
            if let Some(listed) = scratch.store.list().unwrap().first() {
                assert_eq!(fingerprint(&scratch.project), *wrecked, "{what}: it did not happen");
                let mut checkpoint = Checkpoint::open(&scratch.store, &listed.id).unwrap();
                checkpoint.rollback(None, false).unwrap();
            }
            assert_eq!(fingerprint(&scratch.project), *before, "{what}");
        });
    }
}

#[test]
fn creation() {
    let tree = || {
        let scratch = scratch_in(Path::new("/dev/shm"));
        furnish(&scratch.project);
        scratch
    };
    let trace = String::from_utf8(run("create", &tree(), "trace").stderr).unwrap();
    let steps = trace.lines().filter(|line| line.starts_with("fault point")).count();
    assert!(steps > 10);
    let check = |what: &str, interrupt: &dyn Fn(&Scratch) -> Output| {
        let scratch = tree();
        let before = fingerprint(&scratch.project);
        interrupt(&scratch);
        scratch.store.recover().unwrap();
        assert_eq!(fingerprint(&scratch.project), before, "{what}");
        for listed in scratch.store.list().unwrap() {
            assert!(listed.complete, "{what} left half a checkpoint");
        }
    };
    for step in 0..steps {
        for fault in ["kill".to_owned(), libc::ENOSPC.to_string()] {
            let fault = format!("{step}:{fault}");
            check(&fault, &|scratch| run("create", scratch, &fault));
        }
    }
    at_some_calls("create", tree, |interrupt, what| check(what, interrupt));
}

/// Not an injected error but a full file system.
#[test]
fn a_full_file_system_leaves_nothing_behind() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: rollback on a full file system: mounting tmpfs needs root");
        return;
    }
    let mount = tempfile::tempdir().unwrap();
    let target = mount.path();
    let size = c"size=3m";
    rustix::mount::mount("none", target, "tmpfs", rustix::mount::MountFlags::empty(), size)
        .unwrap();
    let outcome = std::panic::catch_unwind(|| {
        let scratch = scratch_in(target);
        fs::write(scratch.project.join("big"), vec![7; 2 << 20]).unwrap();
        let options = Options { strategy: Some("copy".to_owned()), ..Options::default() };
        let error =
            Checkpoint::create(&scratch.store, std::slice::from_ref(&scratch.project), &options)
                .unwrap_err();
        assert!(error.to_string().contains("No space left"), "{error}");
        assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
        assert_eq!(fs::read(scratch.project.join("big")).unwrap().len(), 2 << 20);
    });
    rustix::mount::unmount(target, rustix::mount::UnmountFlags::DETACH).unwrap();
    outcome.unwrap();
}
