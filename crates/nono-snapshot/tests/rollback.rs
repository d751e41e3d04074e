//! What a rollback brings back, and what it leaves alone.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use common::{fingerprint, furnish, scratch, scratch_in, wreck};
use nono_snapshot::{ChangeKind, Checkpoint, Error, FileDiff, Options, State, Store};

#[test]
fn everything_comes_back_on_disk_and_in_memory() {
    for parent in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
        let scratch = scratch_in(&parent);
        furnish(&scratch.project);
        let before = fingerprint(&scratch.project);
        let mut checkpoint = scratch.checkpoint(&[]);
        assert_eq!(checkpoint.changes().unwrap(), [], "nothing has happened yet");
        wreck(&scratch.project);
        checkpoint.rollback(None, false).unwrap();
        assert_eq!(fingerprint(&scratch.project), before);
        assert_eq!(checkpoint.state(), State::RolledBack);
        checkpoint.purge().unwrap();
        checkpoint.dispose().unwrap();
        assert_eq!(scratch.store.list().unwrap().len(), 0);
        assert_eq!(
            fs::read_dir(scratch.store.path()).unwrap().count(),
            0,
            "nothing is left behind"
        );
    }
}

#[test]
fn selected_paths_come_back_and_the_rest_stays_then_all_of_it() {
    let scratch = scratch();
    furnish(&scratch.project);
    let before = fingerprint(&scratch.project);
    let mut checkpoint = scratch.checkpoint(&[]);
    wreck(&scratch.project);
    let wrecked = fingerprint(&scratch.project);
    let paths = ["plain", "deep/er", "link", "added"].map(PathBuf::from);
    checkpoint.rollback(Some(&paths), false).unwrap();
    let now = fingerprint(&scratch.project);
    assert_eq!(scratch.read("plain"), "plain");
    assert_eq!(now[Path::new("deep/er/est/file")], before[Path::new("deep/er/est/file")]);
    assert_eq!(now[Path::new("link")], before[Path::new("link")]);
    assert!(!now.contains_key(Path::new("added")));
    assert!(!now.contains_key(Path::new("deep/second-name")), "it was not selected");
    for untouched in ["script", "sparse", "moved/second-name"].map(Path::new) {
        let (was, is) = (&wrecked[untouched], &now[untouched]);
        assert_eq!(was.split(" links").next(), is.split(" links").next());
    }
    assert_eq!(checkpoint.state(), State::Active);
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(fingerprint(&scratch.project), before, "the whole rollback is still complete");
}

#[test]
fn a_directory_that_comes_back_shares_its_files_with_names_outside() {
    use std::os::unix::fs::MetadataExt;
    let scratch = scratch();
    scratch.write("dir/in/file", "shared");
    scratch.write("over/file", "shared too");
    fs::hard_link(scratch.project.join("dir/in/file"), scratch.project.join("outside")).unwrap();
    fs::hard_link(scratch.project.join("over/file"), scratch.project.join("other")).unwrap();
    let before = fingerprint(&scratch.project);
    let mut checkpoint = scratch.checkpoint(&[]);
    fs::remove_dir_all(scratch.project.join("dir")).unwrap();
    fs::remove_dir_all(scratch.project.join("over")).unwrap();
    scratch.write("over", "a file");
    let kept = fs::metadata(scratch.project.join("outside")).unwrap().ino();
    checkpoint.rollback(Some(&["dir", "over"].map(PathBuf::from)), false).unwrap();
    let mut now = fingerprint(&scratch.project);
    now.insert(PathBuf::new(), before[Path::new("")].clone());
    assert_eq!(now, before);
    assert_eq!(fs::metadata(scratch.project.join("dir/in/file")).unwrap().ino(), kept);
}

#[test]
fn committed_paths_are_no_longer_rolled_back() {
    let scratch = scratch();
    furnish(&scratch.project);
    let mut checkpoint = scratch.checkpoint(&[]);
    wreck(&scratch.project);
    let kept = ["plain", "added", "hollow", "link", "moved"].map(PathBuf::from);
    checkpoint.commit(Some(&kept)).unwrap();
    let left: Vec<_> =
        checkpoint.changes().unwrap().into_iter().map(|change| change.path).collect();
    for path in &kept {
        assert!(
            !left.iter().any(|left| left.starts_with(path)),
            "{path:?} is still listed in {left:?}"
        );
    }
    assert!(left.contains(&PathBuf::from("script")));
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(scratch.read("plain"), "overwritten in place");
    assert_eq!(scratch.read("added"), "added");
    assert_eq!(scratch.read("link/new"), "new");
    assert!(!scratch.project.join("hollow").exists());
    assert_eq!(scratch.read("read-only"), "do not write");
    assert_eq!(scratch.read("deep/er/est/file").len(), 300_000);
}

#[test]
fn every_kind_of_change_is_listed_and_renames_are_recognised() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = scratch();
    for path in ["a", "b", "c", "dir/one", "dir/two", "same", "touched"] {
        scratch.write(path, path);
    }
    let mut checkpoint = scratch.checkpoint(&[]);
    scratch.write("a", "A");
    fs::remove_file(scratch.project.join("b")).unwrap();
    fs::set_permissions(scratch.project.join("c"), fs::Permissions::from_mode(0o700)).unwrap();
    fs::rename(scratch.project.join("dir"), scratch.project.join("renamed")).unwrap();
    scratch.write("renamed/two", "edited");
    scratch.write("new", "new");
    let times = rustix::fs::Timespec { tv_sec: 5, tv_nsec: 0 };
    let times = rustix::fs::Timestamps { last_access: times, last_modification: times };
    rustix::fs::utimensat(
        rustix::fs::CWD,
        scratch.project.join("touched"),
        &times,
        rustix::fs::AtFlags::empty(),
    )
    .unwrap();
    let changes = checkpoint.changes().unwrap();
    let listed: Vec<_> =
        changes.iter().map(|change| (change.path.to_str().unwrap(), change.kind)).collect();
    use ChangeKind::{Added, Deleted, Mode, Modified, Renamed, Times};
    let wanted = [
        ("a", Modified),
        ("b", Deleted),
        ("c", Mode),
        ("new", Added),
        ("renamed", Renamed),
        ("renamed/two", Modified),
        ("touched", Times),
    ];
    assert_eq!(listed, wanted);
    assert_eq!(changes[4].from.as_deref(), Some(Path::new("dir")));
    let diff = checkpoint.diff(changes[0].before_file.as_deref(), changes[0].after_file.as_deref());
    let diff = diff.unwrap();
    let FileDiff::Text(diff) = diff else { panic!("{diff:?}") };
    assert!(diff.contains("-a\n") && diff.contains("+A\n"), "{diff}");
}

#[test]
fn a_change_within_the_clock_tick_of_the_checkpoint_is_seen() {
    for _ in 0..20 {
        let scratch = scratch_in(Path::new("/dev/shm"));
        scratch.write("file", "1");
        let mut checkpoint = scratch.checkpoint(&[]);
        scratch.write("file", "2");
        assert_eq!(checkpoint.changes().unwrap().len(), 1);
    }
}

/// The defect of a peer: restoring deleted ignored files that had been there before.
#[test]
fn excluded_entries_are_never_touched() {
    let scratch = scratch();
    for path in ["src/main", "node_modules/a/b", ".env.local", "pkg/node_modules/c", "target/out"] {
        scratch.write(path, path);
    }
    let mut checkpoint = scratch.checkpoint(&["node_modules", "/target/", "*.local"]);
    scratch.write("src/main", "wrecked");
    scratch.write("node_modules/a/b", "changed while excluded");
    scratch.write("newdir/node_modules/d", "new while excluded");
    fs::remove_dir_all(scratch.project.join("pkg/node_modules")).unwrap();
    let inode = |path: &str| {
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(scratch.project.join(path)).unwrap())
    };
    let excluded = inode("node_modules/a/b");
    // Another process, which knows only the id, restores it: the patterns come from the record.
    let mut again =
        Checkpoint::open(&Store::open(scratch.store.path()).unwrap(), checkpoint.id()).unwrap();
    again.rollback(None, false).unwrap();
    assert_eq!(scratch.read("src/main"), "src/main");
    assert_eq!(scratch.read("node_modules/a/b"), "changed while excluded");
    assert_eq!(inode("node_modules/a/b"), excluded, "the very same file");
    assert_eq!(scratch.read("newdir/node_modules/d"), "new while excluded");
    assert_eq!(scratch.read(".env.local"), ".env.local");
    assert_eq!(scratch.read("target/out"), "target/out");
    assert!(!scratch.project.join("pkg/node_modules").exists());
    assert_eq!(checkpoint.changes().unwrap_err().code(), "ERR_NONO_CHECKPOINT_STATE");
}

#[test]
fn an_exclusion_below_a_former_file_is_refused_before_anything_starts() {
    let scratch = scratch();
    scratch.write("thing", "a file");
    let mut checkpoint = scratch.checkpoint(&["node_modules"]);
    fs::remove_file(scratch.project.join("thing")).unwrap();
    scratch.write("thing/node_modules/x", "x");
    let error = checkpoint.rollback(None, false).unwrap_err();
    assert_eq!(error.code(), "ERR_NONO_EXCLUDED_CONFLICT");
    assert_eq!(scratch.read("thing/node_modules/x"), "x");
}

#[test]
fn checkpoints_nest_and_rolling_back_ends_the_later_ones() {
    let scratch = scratch();
    let mut checkpoints = Vec::new();
    for step in 0..4 {
        scratch.write("state", &step.to_string());
        checkpoints.push(scratch.checkpoint(&[]));
    }
    scratch.write("state", "end");
    checkpoints[2].rollback(None, false).unwrap();
    assert_eq!(scratch.read("state"), "2");
    assert!(
        matches!(checkpoints[3].rollback(None, false), Err(Error::State { state, .. }) if state == "superseded")
    );
    assert_eq!(checkpoints[0].changes().unwrap().len(), 1);
    checkpoints[0].rollback(None, false).unwrap();
    assert_eq!(scratch.read("state"), "0");
    checkpoints[0].purge().unwrap();
    assert_eq!(scratch.store.recover().unwrap().removed.len(), 4);
    assert_eq!(scratch.store.list().unwrap().len(), 0);
}

#[test]
fn a_reader_never_sees_a_mixture() {
    let scratch = scratch_in(Path::new("/dev/shm"));
    let set = |text: &str| (0..50).for_each(|n| scratch.write(&format!("d{}/f{n}", n % 5), text));
    set("old");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let mut checkpoint = scratch.checkpoint(&[]);
        set("new");
        let reader = scope.spawn(|| {
            let (mut mixtures, mut reads) = (0, 0);
            while !done.load(Ordering::Relaxed) || reads == 0 {
                // One open directory is one version of the tree.
                let dir = rustix::fs::open(
                    &scratch.project,
                    rustix::fs::OFlags::PATH,
                    rustix::fs::Mode::empty(),
                )
                .unwrap();
                let base = PathBuf::from(format!(
                    "/proc/self/fd/{}",
                    std::os::fd::AsRawFd::as_raw_fd(&dir)
                ));
                let texts: Vec<_> = (0..50)
                    .map(|n| fs::read_to_string(base.join(format!("d{}/f{n}", n % 5))).unwrap())
                    .collect();
                mixtures += usize::from(texts.iter().any(|text| *text != texts[0]));
                reads += 1;
            }
            (mixtures, reads)
        });
        std::thread::sleep(std::time::Duration::from_millis(20));
        checkpoint.rollback(None, false).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        done.store(true, Ordering::Relaxed);
        let (mixtures, reads) = reader.join().unwrap();
        assert_eq!(mixtures, 0, "of {reads} reads");
    });
}

/// The race of a peer: a file that changed while it was copied was silently left out. Here it is
/// copied as it was at one time, or refused by name; which of the two is up to the scheduler.
#[test]
fn a_file_that_keeps_changing_is_whole_or_refused_by_name() {
    let scratch = scratch();
    let start = "x".repeat(32 << 20);
    scratch.write("deep/log", &start);
    let (done, started) = (AtomicBool::new(false), std::sync::Barrier::new(2));
    let made = std::thread::scope(|scope| {
        scope.spawn(|| {
            use std::io::Write;
            let mut log =
                fs::File::options().append(true).open(scratch.project.join("deep/log")).unwrap();
            started.wait();
            while !done.load(Ordering::Relaxed) {
                log.write_all(b"line\n").unwrap();
            }
        });
        started.wait();
        let options = Options { strategy: Some("copy".to_owned()), ..Options::default() };
        let made =
            Checkpoint::create(&scratch.store, std::slice::from_ref(&scratch.project), &options);
        done.store(true, Ordering::Relaxed);
        made
    });
    match made {
        Err(error) => {
            assert_eq!(error.code(), "ERR_NONO_FILE_CHANGING");
            assert_eq!(error.path(), Some(scratch.project.join("deep/log").as_path()));
            assert_eq!(
                fs::read_dir(scratch.store.path()).unwrap().count(),
                0,
                "nothing is left behind"
            );
        }
        Ok(mut checkpoint) => {
            checkpoint.rollback(None, false).unwrap();
            let lines = scratch.read("deep/log").split_off(start.len());
            assert_eq!(lines.replace("line\n", ""), "", "whole lines only");
        }
    }
}

#[test]
fn what_cannot_work_is_refused_before_anything_starts() {
    let scratch = scratch();
    scratch.write("inner/file", "x");
    let create = |dirs: &[PathBuf], options: Options| {
        Checkpoint::create(&scratch.store, dirs, &options).unwrap_err().code()
    };
    let project = || scratch.project.clone();
    assert_eq!(create(&[], Options::default()), "ERR_NONO_NOT_A_DIRECTORY");
    assert_eq!(
        create(&[project().join("inner/file")], Options::default()),
        "ERR_NONO_NOT_A_DIRECTORY"
    );
    assert_eq!(create(&[project().join("missing")], Options::default()), "ERR_NONO_ROLLBACK_IO");
    assert_eq!(
        create(&[project(), project().join("inner")], Options::default()),
        "ERR_NONO_NESTED_DIRECTORIES"
    );
    assert_eq!(
        create(&[scratch.root.path().to_owned()], Options::default()),
        "ERR_NONO_NESTED_DIRECTORIES"
    );
    assert_eq!(create(&["/proc/self".into()], Options::default()).get(..9), Some("ERR_NONO_"));
    let strategy = |name: &str| Options { strategy: Some(name.to_owned()), ..Options::default() };
    assert_eq!(create(&[project()], strategy("magic")), "ERR_NONO_STRATEGY_UNSUPPORTED");
    let error = Checkpoint::create(&scratch.store, &[project()], &strategy("apfs")).unwrap_err();
    assert!(error.to_string().contains("no clonefile"), "{error}");
    let bad = Options { exclude: vec!["[".to_owned()], ..Options::default() };
    assert_eq!(create(&[project()], bad), "ERR_NONO_BAD_PATTERN");
    let mut checkpoint = scratch.checkpoint(&[]);
    for path in ["/etc/passwd", "../outside", "inner/../../x"] {
        let error = checkpoint.rollback(Some(&[PathBuf::from(path)]), false).unwrap_err();
        assert_eq!(error.code(), "ERR_NONO_PATH_OUTSIDE", "{path}");
    }
    assert!(matches!(
        Checkpoint::open(&scratch.store, "../state"),
        Err(Error::UnknownCheckpoint { .. })
    ));
    assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 1);
}

/// The journal of what is over is deleted without waiting for the disk, so a power failure may bring it
/// back. By then the directory has moved on.
#[test]
fn a_journal_that_came_back_is_not_carried_out() {
    let scratch = scratch();
    scratch.write("file", "before");
    scratch.write("kept", "excluded, which takes a journal");
    let mut checkpoint = scratch.checkpoint(&["kept"]);
    scratch.write("file", "after");
    checkpoint.rollback(None, false).unwrap();
    let home = scratch.store.path().join(checkpoint.id());
    assert!(!home.join("journal").exists());
    fs::write(home.join("journal"), "{ half").unwrap();
    scratch.write("file", "later");
    assert!(!scratch.store.list().unwrap()[0].unfinished);
    let recovered = scratch.store.recover().unwrap();
    assert_eq!((recovered.finished.len(), recovered.removed.len()), (0, 1));
    assert_eq!(scratch.read("file"), "later");
}

/// A whole rollback writes nothing down before its one step, nor after: who died then, or lost power, is
/// told by what is where.
#[test]
fn a_rollback_is_known_by_its_trace() {
    for replaced in [false, true] {
        let scratch = scratch();
        scratch.write("file", "before");
        let mut checkpoint = scratch.checkpoint(&[]);
        if replaced {
            // Another directory of that name leaves no trace that could be known: it is written down.
            fs::rename(&scratch.project, scratch.root.path().join("away")).unwrap();
        }
        scratch.write("file", "after");
        let home = scratch.store.path().join(checkpoint.id());
        checkpoint.flush().unwrap();
        let record = fs::read(home.join("record")).unwrap();
        checkpoint.rollback(None, false).unwrap();
        assert_eq!(fs::read(home.join("record")).unwrap() == record, !replaced);
        let _ = fs::remove_file(home.join("ended"));
        assert_eq!(scratch.store.list().unwrap()[0].state, State::RolledBack);
        let mut again = Checkpoint::open(&scratch.store, checkpoint.id()).unwrap();
        let refused = again.rollback(None, false).unwrap_err();
        assert_eq!(refused.code(), "ERR_NONO_CHECKPOINT_STATE");
        assert_eq!(scratch.read("file"), "before");
        let recovered = scratch.store.recover().unwrap();
        assert_eq!((recovered.finished.len(), recovered.removed.len()), (0, 1));
        assert_eq!(scratch.read("file"), "before");
    }
}

/// After a rollback to an inner checkpoint the directory consists of copies. The outer one knows them:
/// otherwise it would have to read every file, and would take a renamed one for another.
#[test]
fn an_earlier_checkpoint_knows_the_copies_that_came_back() {
    let pause = || std::thread::sleep(std::time::Duration::from_millis(60));
    let scratch = scratch();
    for path in ["kept", "edited-first", "edited-last", "renamed", "dir/inside"] {
        scratch.write(path, path);
    }
    pause();
    let mut outer = scratch.checkpoint(&[]);
    scratch.write("edited-first", "1");
    pause();
    let mut inner = scratch.checkpoint(&[]);
    scratch.write("edited-last", "2");
    pause();
    inner.rollback(None, false).unwrap();
    inner.purge().unwrap();
    fs::rename(scratch.project.join("renamed"), scratch.project.join("new-name")).unwrap();
    fs::rename(scratch.project.join("dir"), scratch.project.join("new-dir")).unwrap();
    scratch.write("edited-last", "3");
    let changes = outer.changes().unwrap();
    let listed: Vec<_> =
        changes.iter().map(|change| (change.path.to_str().unwrap(), change.kind)).collect();
    use ChangeKind::{Modified, Renamed};
    assert_eq!(
        listed,
        [
            ("edited-first", Modified),
            ("edited-last", Modified),
            ("new-dir", Renamed),
            ("new-name", Renamed)
        ]
    );
    outer.rollback(None, false).unwrap();
    assert_eq!(scratch.read("edited-first"), "edited-first");
    assert_eq!(scratch.read("dir/inside"), "dir/inside");
}

#[test]
fn processes_that_hold_files_are_named() {
    let scratch = scratch();
    scratch.write("held", "x");
    let mut checkpoint = scratch.checkpoint(&[]);
    let held = fs::File::open(scratch.project.join("held")).unwrap();
    let mut child = std::process::Command::new("sleep")
        .arg("60")
        .stdin(held)
        .current_dir(&scratch.project)
        .spawn()
        .unwrap();
    let elsewhere = checkpoint.rollback(Some(&[PathBuf::from("other")]), true).unwrap();
    assert!(elsewhere.holders.is_empty(), "nothing that is replaced is held");
    let refused = checkpoint.rollback(None, true).unwrap_err();
    let report = checkpoint.rollback(None, false).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(refused.code(), "ERR_NONO_FILES_HELD");
    let mut found: Vec<_> =
        report.holders.into_iter().map(|holder| (holder.pid, holder.directory)).collect();
    found.sort_unstable();
    let pid = child.id().cast_signed();
    assert_eq!(found, [(pid, false), (pid, true)]);
}

#[test]
fn a_symbolic_link_planted_on_the_way_leads_nowhere() {
    let scratch = scratch();
    let outside = scratch.root.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "outside").unwrap();
    scratch.write("dir/file", "inside");
    let mut checkpoint = scratch.checkpoint(&[]);
    fs::remove_dir_all(scratch.project.join("dir")).unwrap();
    std::os::unix::fs::symlink(&outside, scratch.project.join("dir")).unwrap();
    let error = checkpoint.rollback(Some(&[PathBuf::from("dir/file")]), false).unwrap_err();
    assert_eq!(error.code(), "ERR_NONO_RENAMED_DIRECTORY");
    assert_eq!(error.path(), Some(&*scratch.project.join("dir")), "not silently left out");
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "outside");
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(scratch.read("dir/file"), "inside");
    assert_eq!(fs::read_to_string(outside.join("file")).unwrap(), "outside");
}
