//! A rollback, commit or checkpoint that dies or fails at any step leaves the old state or the new.

mod common;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{Fingerprint, Scratch, fingerprint, furnish, scratch_in, wreck};
use nono_snapshot::{Checkpoint, Options, State, Store};

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
    let task =
        format!("{operation}|{}|{}", scratch.project.display(), scratch.store.path().display());
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--nocapture", "--test-threads=1"]);
    command.env("NONO_CRASH_CHILD", task).env("NONO_SNAPSHOT_FAULT", fault).output().unwrap()
}

fn prepared(exclude: &[&str]) -> (Scratch, Fingerprint, Fingerprint) {
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
    exclude: &[&str],
    check: impl Fn(&Scratch, &str, &Fingerprint, &Fingerprint),
) {
    let (scratch, ..) = prepared(exclude);
    let trace = String::from_utf8(run(operation, &scratch, "trace").stderr).unwrap();
    let steps = trace.lines().filter(|line| line.starts_with("fault point")).count();
    assert!(steps > 5, "{operation} reached only {steps} steps:\n{trace}");
    let enospc = libc::ENOSPC.to_string();
    let faults =
        ["kill", &enospc, &libc::EIO.to_string(), &libc::EROFS.to_string()].map(str::to_owned);
    for step in 0..steps {
        // The three errors take the same road; each step meets one of them, and death.
        for fault in ["kill", faults[1 + step % 3].as_str()] {
            let (scratch, before, wrecked) = prepared(exclude);
            let output = run(operation, &scratch, &format!("{step}:{fault}"));
            if fault == "kill" {
                assert_eq!(output.status.signal(), Some(libc::SIGKILL), "{operation} {step}");
            }
            let listed = scratch.store.list().unwrap();
            assert_eq!(
                listed.len(),
                1,
                "{operation} {step}:{fault}: the checkpoint is always listed"
            );
            // Recovery may die as well, and run again.
            run("recover", &scratch, "1:kill");
            scratch.store.recover().unwrap();
            let after = fingerprint(&scratch.project);
            scratch.store.recover().unwrap();
            assert_eq!(fingerprint(&scratch.project), after, "recover is idempotent");
            check(&scratch, &format!("{operation} {step}:{fault}"), &before, &wrecked);
        }
    }
}

#[test]
fn rollback() {
    at_every_step("rollback", &[], |scratch, what, before, wrecked| {
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
    });
}

#[test]
fn rollback_around_excluded_entries() {
    at_every_step("rollback", &["cache", "moved"], |scratch, what, before, wrecked| {
        let now = without_directory_times(&fingerprint(&scratch.project));
        if now != without_directory_times(wrecked) {
            let mut now = fingerprint(&scratch.project);
            assert!(now.contains_key(Path::new("moved")), "{what}: excluded entries stay");
            now.retain(|path, _| !path.starts_with("moved"));
            assert_eq!(
                now.get(Path::new("kept/cache/file")),
                before.get(Path::new("kept/cache/file"))
            );
            let strip =
                |tree: &Fingerprint| without_directory_times(tree).into_keys().collect::<Vec<_>>();
            assert_eq!(strip(&now), strip(before), "{what}");
        }
    });
}

#[test]
fn rollback_of_some_paths() {
    at_every_step("rollback some", &[], |scratch, what, before, wrecked| {
        let now = without_directory_times(&fingerprint(&scratch.project));
        let restored = now.contains_key(Path::new("deep/er/est/file"));
        let reference = if restored { before } else { wrecked };
        for path in SOME {
            let text = |tree: &Fingerprint| {
                tree.get(Path::new(path)).map(|text| text.split(" size ").nth(1).map(str::to_owned))
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
    });
}

#[test]
fn commit_of_some_paths() {
    at_every_step("commit some", &[], |scratch, what, before, wrecked| {
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
            fs::read_to_string(scratch.project.join("plain")).unwrap() == "overwritten in place",
            committed,
            "{what}"
        );
        assert_eq!(now.contains_key(Path::new("deep")), !committed, "{what}");
        assert_eq!(now[Path::new("script")], before[Path::new("script")], "{what}");
    });
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
    for step in 0..steps {
        for fault in ["kill".to_owned(), libc::ENOSPC.to_string()] {
            let scratch = tree();
            let before = fingerprint(&scratch.project);
            run("create", &scratch, &format!("{step}:{fault}"));
            scratch.store.recover().unwrap();
            assert_eq!(fingerprint(&scratch.project), before);
            for listed in scratch.store.list().unwrap() {
                assert!(listed.complete, "{step}:{fault} left half a checkpoint");
            }
        }
    }
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
