//! Checkpoints whose overlay is really mounted, as an ordinary user in a user namespace and, for
//! root, directly.

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use common::{Scratch, fingerprint, in_overlay, namespaces_work, scratch};
use nono_snapshot::{ChangeKind, Checkpoint, Mounter, Options, State};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn prepared(mounter: Mounter) -> (Scratch, Checkpoint) {
    let scratch = scratch();
    for path in [
        "keep",
        "edit",
        "delete",
        "chmod",
        "linked",
        "tree/a",
        "tree/b/c",
        "replace/old",
        "becomes-dir",
        "one/x",
        "two/y",
    ] {
        scratch.write(path, path);
    }
    fs::hard_link(scratch.project.join("linked"), scratch.project.join("linked-too")).unwrap();
    let options = Options {
        strategy: Some("overlay".to_owned()),
        mounter: Some(mounter),
        ..Options::default()
    };
    let checkpoint =
        Checkpoint::create(&scratch.store, std::slice::from_ref(&scratch.project), &options)
            .unwrap();
    (scratch, checkpoint)
}

const WORK: &str = "
    echo edited > edit; rm delete; chmod 700 chmod; mkdir new; echo n > new/n; ln new/n new/m
    rm -r replace; mkdir replace; echo fresh > replace/fresh
    rm becomes-dir; mkdir becomes-dir; echo in > becomes-dir/in
    rm -r tree/b; echo d > tree/d; ln -s keep link; mkfifo fifo; chmod 750 tree";

fn check_worked(project: &Path) {
    let read = |path: &str| fs::read_to_string(project.join(path)).unwrap();
    assert_eq!(
        (read("edit").as_str(), read("keep").as_str(), read("tree/d").as_str()),
        ("edited\n", "keep", "d\n")
    );
    assert!(
        !project.join("delete").exists()
            && !project.join("tree/b").exists()
            && !project.join("replace/old").exists()
    );
    assert_eq!(
        (read("replace/fresh").as_str(), read("becomes-dir/in").as_str(), read("tree/a").as_str()),
        ("fresh\n", "in\n", "tree/a")
    );
    for (path, text) in fingerprint(project) {
        assert!(!text.contains("overlay"), "a note of overlayfs is left on {path:?}: {text}");
    }
    let inode = |path: &str| {
        std::os::unix::fs::MetadataExt::ino(&fs::metadata(project.join(path)).unwrap())
    };
    assert_eq!(inode("new/n"), inode("new/m"));
}

fn mounters() -> Vec<Mounter> {
    let mut mounters = Vec::new();
    if namespaces_work() {
        mounters.push(Mounter::Unprivileged);
    }
    if is_root() {
        mounters.push(Mounter::Privileged);
    }
    mounters
}

#[test]
fn the_directory_is_untouched_until_the_changes_are_applied_and_comes_back_after() {
    for mounter in mounters() {
        let (scratch, mut checkpoint) = prepared(mounter);
        let before = fingerprint(&scratch.project);
        in_overlay(&checkpoint.mounts()[0], mounter, WORK);
        assert_eq!(fingerprint(&scratch.project), before);
        let isolated: Vec<_> = checkpoint
            .changes()
            .unwrap()
            .into_iter()
            .map(|change| (change.path, change.kind))
            .collect();
        let kind = |path: &str| {
            isolated.iter().find(|(listed, _)| listed == Path::new(path)).map(|(_, kind)| *kind)
        };
        assert_eq!(kind("edit"), Some(ChangeKind::Modified));
        assert_eq!(kind("delete"), Some(ChangeKind::Deleted));
        assert_eq!(kind("chmod"), Some(ChangeKind::Mode));
        assert_eq!(kind("tree"), Some(ChangeKind::Mode));
        assert_eq!(kind("tree/b/c"), Some(ChangeKind::Deleted));
        assert_eq!(kind("replace/old"), Some(ChangeKind::Deleted));
        assert_eq!(kind("replace/fresh"), Some(ChangeKind::Added));
        assert_eq!(kind("keep"), None);
        checkpoint.apply().unwrap();
        assert_eq!(checkpoint.state(), State::Applied);
        check_worked(&scratch.project);
        let applied: Vec<_> = checkpoint
            .changes()
            .unwrap()
            .into_iter()
            .map(|change| (change.path, change.kind))
            .collect();
        assert_eq!(applied, isolated, "the same list before and after");
        checkpoint.rollback(None, false).unwrap();
        assert_eq!(fingerprint(&scratch.project), before);
        checkpoint.dispose().unwrap();
        assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
    }
}

#[test]
fn changes_that_were_not_applied_are_discarded_and_committed_ones_stay() {
    for mounter in mounters() {
        let (scratch, mut checkpoint) = prepared(mounter);
        let before = fingerprint(&scratch.project);
        in_overlay(&checkpoint.mounts()[0], mounter, WORK);
        checkpoint.rollback(None, false).unwrap();
        assert_eq!(fingerprint(&scratch.project), before);
        let (scratch, mut checkpoint) = prepared(mounter);
        in_overlay(&checkpoint.mounts()[0], mounter, WORK);
        checkpoint.commit(None).unwrap();
        check_worked(&scratch.project);
        assert_eq!(
            checkpoint.rollback(None, false).unwrap_err().code(),
            "ERR_NONO_CHECKPOINT_STATE"
        );
    }
}

#[test]
fn single_paths_are_rolled_back_and_committed_before_and_after_applying() {
    for mounter in mounters() {
        for applied in [false, true] {
            let (scratch, mut checkpoint) = prepared(mounter);
            in_overlay(&checkpoint.mounts()[0], mounter, WORK);
            if applied {
                checkpoint.apply().unwrap();
            }
            let paths = |paths: &[&str]| paths.iter().map(PathBuf::from).collect::<Vec<_>>();
            checkpoint.rollback(Some(&paths(&["edit", "delete"])), false).unwrap();
            checkpoint.commit(Some(&paths(&["new", "chmod"]))).unwrap();
            let left: Vec<_> =
                checkpoint.changes().unwrap().into_iter().map(|change| change.path).collect();
            for path in ["edit", "delete", "new", "chmod"] {
                assert!(!left.contains(&PathBuf::from(path)), "{path} is still listed: {left:?}");
            }
            assert!(left.contains(&PathBuf::from("fifo")));
            checkpoint.rollback(None, false).unwrap();
            assert_eq!(
                (scratch.read("edit").as_str(), scratch.read("delete").as_str()),
                ("edit", "delete")
            );
            assert_eq!(scratch.read("new/n"), "n\n", "committed");
            assert!(!scratch.project.join("fifo").exists());
            assert_eq!(scratch.read("tree/b/c"), "tree/b/c");
        }
    }
}

#[test]
fn renamed_directories_move_and_come_back() {
    if !is_root() {
        println!("SKIPPED: renamed directories in an overlay: redirect_dir needs root");
        return;
    }
    let (scratch, mut checkpoint) = prepared(Mounter::Privileged);
    let before = fingerprint(&scratch.project);
    let rename = "python3 -c 'import os,sys\nfor i in range(1,len(sys.argv),2): os.rename(sys.argv[i],sys.argv[i+1])'";
    let script = format!(
        "{rename} tree moved one tmp two one tmp two moved/b outer; echo more > moved/a; mkdir tree; echo again > tree/again; echo in > outer/in"
    );
    in_overlay(&checkpoint.mounts()[0], Mounter::Privileged, &script);
    let isolated = checkpoint.changes().unwrap();
    assert!(
        isolated
            .iter()
            .any(|change| change.kind == ChangeKind::Renamed && change.path == Path::new("moved")),
        "{isolated:?}"
    );
    checkpoint.apply().unwrap();
    assert_eq!(
        (scratch.read("one/y"), scratch.read("two/x")),
        ("two/y".to_owned(), "one/x".to_owned()),
        "they changed places"
    );
    assert_eq!(
        (scratch.read("moved/a").as_str(), scratch.read("tree/again").as_str()),
        ("more\n", "again\n")
    );
    assert_eq!(
        (scratch.read("outer/c").as_str(), scratch.read("outer/in").as_str()),
        ("tree/b/c", "in\n")
    );
    assert!(!scratch.project.join("moved/b").exists());
    checkpoint.rollback(None, false).unwrap();
    assert_eq!(fingerprint(&scratch.project), before);
}

/// A renamed directory's contents stay in the lower layer, so one that holds it can't come as a whole:
/// neither a new directory, nor one that was made anew, nor one in place of a file.
#[test]
fn directories_moved_into_new_ones_keep_their_contents() {
    if !is_root() {
        println!("SKIPPED: directories moved into new ones: redirect_dir needs root");
        return;
    }
    let script = "
        mkdir new; mv -T tree new/tree; rm new/tree/b/c; echo more > new/tree/more
        rm -r replace; mkdir -p replace/deep; mv -T one replace/deep/one; mkdir replace/two
        rm edit; mkdir edit; mv -T two edit/two; echo last > edit/last";
    for apply in [true, false] {
        let (scratch, mut checkpoint) = prepared(Mounter::Privileged);
        scratch.write("replace/two/old", "old");
        let before = fingerprint(&scratch.project);
        in_overlay(&checkpoint.mounts()[0], Mounter::Privileged, script);
        assert!(!checkpoint.changes().unwrap().is_empty());
        if apply {
            checkpoint.apply().unwrap();
        } else {
            checkpoint.commit(None).unwrap();
        }
        assert_eq!(scratch.read("new/tree/a"), "tree/a");
        assert_eq!(scratch.read("new/tree/more"), "more\n");
        assert!(scratch.project.join("new/tree/b").is_dir());
        assert!(!scratch.project.join("new/tree/b/c").exists());
        assert_eq!(scratch.read("replace/deep/one/x"), "one/x");
        assert!(!scratch.project.join("replace/old").exists());
        assert!(!scratch.project.join("replace/two/old").exists(), "it was made anew");
        assert_eq!(scratch.read("edit/two/y"), "two/y");
        for path in ["tree", "one", "two"] {
            assert!(!scratch.project.join(path).exists(), "{path}");
        }
        if apply {
            checkpoint.rollback(None, false).unwrap();
            assert_eq!(fingerprint(&scratch.project), before);
        }
    }
}

/// What the sandbox did to excluded entries stays, whether the rest is discarded, rolled back after it
/// was applied, or brought back path by path.
#[test]
fn what_is_excluded_keeps_its_changes_and_the_rest_comes_back() {
    const WORK: &str = "
        echo wrecked > src/main; echo changed > node_modules/a; rm node_modules/b; rm gone.local
        mkdir -p new/node_modules; echo n > new/node_modules/x; echo n > new/other
        rm -r anew; mkdir -p anew/node_modules; echo a > anew/node_modules/y; echo a > anew/other
        rm -r pkg";
    for mounter in mounters() {
        for way in ["discard", "apply", "paths"] {
            let scratch = scratch();
            for path in ["src/main", "node_modules/a", "node_modules/b", "gone.local"] {
                scratch.write(path, path);
            }
            for path in ["anew/old", "anew/node_modules/z", "pkg/node_modules/c", "pkg/d"] {
                scratch.write(path, path);
            }
            let options = Options {
                strategy: Some("overlay".to_owned()),
                exclude: ["node_modules", "*.local"].map(str::to_owned).to_vec(),
                mounter: Some(mounter),
            };
            let dirs = std::slice::from_ref(&scratch.project);
            let mut checkpoint = Checkpoint::create(&scratch.store, dirs, &options).unwrap();
            let before = fingerprint(&scratch.project);
            in_overlay(&checkpoint.mounts()[0], mounter, WORK);
            let list = |checkpoint: &mut Checkpoint| {
                let changes = checkpoint.changes().unwrap();
                changes.into_iter().map(|change| change.path).collect::<Vec<_>>()
            };
            let listed = list(&mut checkpoint);
            assert!(
                listed.iter().all(|path| !path.to_str().unwrap().contains("node_modules")),
                "{listed:?}"
            );
            for path in ["anew/old", "anew/other", "new/other", "pkg/d", "src/main"] {
                assert!(listed.contains(&PathBuf::from(path)), "{path} is not in {listed:?}");
            }
            match way {
                "apply" => {
                    checkpoint.apply().unwrap();
                    assert_eq!(scratch.read("new/node_modules/x"), "n\n");
                    assert!(!scratch.project.join("pkg").exists());
                    let after = list(&mut checkpoint);
                    assert!(after.contains(&PathBuf::from("new/other")), "{after:?}");
                }
                "paths" => {
                    checkpoint
                        .rollback(Some(&["new", "src/main"].map(PathBuf::from)), false)
                        .unwrap();
                    assert_eq!(scratch.read("new/node_modules/x"), "n\n");
                    let left = list(&mut checkpoint);
                    assert!(!left.contains(&PathBuf::from("new/other")), "{left:?}");
                    assert!(left.contains(&PathBuf::from("anew/other")), "{left:?}");
                }
                _ => {}
            }
            let rolled_back = checkpoint.rollback(None, false);
            rolled_back.unwrap_or_else(|error| panic!("{way}: {error}"));
            assert_eq!(scratch.read("node_modules/a"), "changed\n", "{way}");
            assert_eq!(scratch.read("new/node_modules/x"), "n\n", "{way}");
            assert_eq!(scratch.read("anew/node_modules/y"), "a\n", "{way}");
            for path in ["node_modules/b", "gone.local", "new/other", "anew/other"] {
                assert!(!scratch.project.join(path).exists(), "{way}: {path}");
            }
            let after = fingerprint(&scratch.project);
            for path in ["src", "src/main", "anew", "anew/old", "pkg/d"].map(Path::new) {
                assert_eq!(after.get(path), before.get(path), "{way}: {path:?}");
            }
            for (path, text) in after {
                assert!(!text.contains("overlay"), "{way}: a note is left on {path:?}: {text}");
            }
            checkpoint.dispose().unwrap();
            assert_eq!(fs::read_dir(scratch.store.path()).unwrap().count(), 0);
        }
    }
}

/// Everything that commands see in the project, with its times.
fn seen(mount: &nono_snapshot::Mount, mounter: Mounter, scratch: &Scratch) -> String {
    let list = scratch.store.path().with_file_name("list");
    let script = format!(
        "find . -printf '%p %y %m %s %T@ %n %l\\n' | sort > {0}; grep -r . . >> {0} || true",
        list.display()
    );
    in_overlay(mount, mounter, &script);
    fs::read_to_string(list).unwrap()
}

const MORE: &str = "
    echo more > tree/d; rm replace/fresh; mkdir new/deep; echo x > new/deep/x; echo d > delete";

#[test]
fn what_was_applied_is_withdrawn_and_mounted_again() {
    for mounter in mounters() {
        let (scratch, mut checkpoint) = prepared(mounter);
        let before = fingerprint(&scratch.project);
        let mount = checkpoint.mounts().remove(0);
        let renames = "mv two one/inner; mkdir two; echo z > two/z; mv tree forest";
        in_overlay(&mount, mounter, WORK);
        if mounter == Mounter::Privileged {
            in_overlay(&mount, mounter, renames);
        }
        let view = seen(&mount, mounter, &scratch);
        let listed = checkpoint.changes().unwrap();
        for _ in 0..2 {
            checkpoint.apply().unwrap();
            checkpoint.withdraw().unwrap();
            assert_eq!(checkpoint.state(), State::Active);
            assert_eq!(fingerprint(&scratch.project), before);
            assert_eq!(seen(&mount, mounter, &scratch), view);
        }
        let kinds = |changes: Vec<nono_snapshot::Change>| -> Vec<_> {
            changes.into_iter().map(|change| (change.path, change.kind, change.from)).collect()
        };
        assert_eq!(kinds(checkpoint.changes().unwrap()), kinds(listed));
        in_overlay(
            &mount,
            mounter,
            if mounter == Mounter::Privileged { "rm forest/d" } else { MORE },
        );
        checkpoint.apply().unwrap();
        checkpoint.rollback(None, false).unwrap();
        assert_eq!(fingerprint(&scratch.project), before);
    }
}

#[test]
fn what_was_applied_in_part_is_not_withdrawn() {
    for mounter in mounters() {
        let (_scratch, mut checkpoint) = prepared(mounter);
        in_overlay(&checkpoint.mounts()[0], mounter, WORK);
        checkpoint.apply().unwrap();
        checkpoint.commit(Some(&[PathBuf::from("edit")])).unwrap();
        assert_eq!(checkpoint.withdraw().unwrap_err().code(), "ERR_NONO_CHECKPOINT_DIVIDED");
    }
}

/// Each keeps what it replaced, so an earlier one takes the later ones along.
#[test]
fn overlays_over_each_other_are_rolled_back_to_any_of_them() {
    for mounter in mounters() {
        for back_to in 0..3 {
            let (scratch, first) = prepared(mounter);
            let options = Options {
                strategy: Some("overlay".to_owned()),
                mounter: Some(mounter),
                ..Options::default()
            };
            let (mut checkpoints, mut states) = (vec![first], vec![fingerprint(&scratch.project)]);
            for script in [WORK, MORE, "rm -r new tree/a; echo 3 > edit; echo g > g"] {
                let last = checkpoints.last_mut().unwrap();
                in_overlay(&last.mounts()[0], mounter, script);
                last.apply().unwrap();
                states.push(fingerprint(&scratch.project));
                let dirs = std::slice::from_ref(&scratch.project);
                checkpoints.push(Checkpoint::create(&scratch.store, dirs, &options).unwrap());
            }
            // What was not applied is dropped with its layer.
            in_overlay(&checkpoints[3].mounts()[0], mounter, "echo 4 > edit");
            let needed = checkpoints[1].commit(None).unwrap_err();
            assert_eq!(needed.code(), "ERR_NONO_CHECKPOINT_NEEDED");
            assert_eq!(checkpoints[1].dispose().unwrap_err().code(), "ERR_NONO_CHECKPOINT_NEEDED");
            checkpoints[back_to].rollback(None, false).unwrap();
            assert_eq!(fingerprint(&scratch.project), states[back_to], "{mounter:?} {back_to}");
            let over = checkpoints[3].changes().unwrap_err();
            assert_eq!(over.code(), "ERR_NONO_CHECKPOINT_STATE");
            checkpoints[back_to].purge().unwrap();
            scratch.store.recover().unwrap();
            assert_eq!(scratch.store.list().unwrap().len(), back_to);
        }
    }
}

#[test]
fn auto_leaves_overlay_to_those_who_can_rename_directories_in_it() {
    let scratch = scratch();
    let chosen = |mounter| {
        let options = Options { mounter, ..Options::default() };
        let mut made =
            Checkpoint::create(&scratch.store, std::slice::from_ref(&scratch.project), &options)
                .unwrap();
        let (name, reason) = made.strategy();
        let chosen = (name.to_owned(), reason.to_owned());
        made.dispose().unwrap();
        chosen
    };
    let (name, reason) = chosen(Some(Mounter::Unprivileged));
    assert_ne!(name, "overlay");
    assert!(name == "btrfs" || reason.contains("can't rename directories"), "{reason}");
    let (name, reason) = chosen(Some(Mounter::Supervised));
    assert!(name == "overlay" || name == "btrfs", "{name}: {reason}");
    let (name, reason) = chosen(None);
    assert_ne!(name, "overlay");
    assert!(name == "btrfs" || reason.contains("nobody offers to mount it"), "{reason}");
    let options = Options { strategy: Some("overlay".to_owned()), ..Options::default() };
    let dirs = std::slice::from_ref(&scratch.project);
    let refused = Checkpoint::create(&scratch.store, dirs, &options).unwrap_err();
    assert!(refused.to_string().contains("nobody offers to mount it"), "{refused}");
    let (name, reason) = chosen(Some(Mounter::Privileged));
    if is_root() {
        assert!(name == "overlay" || name == "btrfs", "{name}: {reason}");
    } else {
        assert!(
            name != "overlay" && reason.contains("a trial mount could not"),
            "{name}: {reason}"
        );
    }
}
