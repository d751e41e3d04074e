//! Names that programs outside take orders from, in a writable workspace with a git repository:
//! ordinary work with git goes on, the orders stay as they are, and nothing is left on the host.

use std::path::Path;
use std::process::Command as HostCommand;

use nono::{Capabilities, Command, Question, Right};

use crate::common::{Scratch, in_each_tier, in_tier, run, run_command, shell};

/// A repository with a hook, a remote to clone from, and a place for git's own settings.
fn repository() -> Scratch {
    let scratch = Scratch::new();
    let script = "set -e; git init -q -b main origin; cd origin; git config user.name a; \
                  git config user.email a@a.test; echo one >file; git add .; git commit -qm one; \
                  cd ..; git clone -q origin w; cd w; git config user.name a; \
                  git config user.email a@a.test; git config alias.st status; \
                  printf '#!/bin/sh\\n' >.git/hooks/pre-push; mkdir .vscode; echo {} >.vscode/tasks.json; \
                  echo 'echo hello' >.envrc; mkdir node_modules";
    let made = HostCommand::new("/bin/sh")
        .args(["-c", script])
        .current_dir(scratch.path())
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .status();
    assert!(made.unwrap().success());
    scratch
}

fn git(scratch: &Scratch) -> Capabilities {
    Capabilities::new()
        .allow_exec("/bin")
        .allow_exec("/usr/bin")
        .allow_exec("/usr/lib/git-core")
        .allow_read(scratch.path().join("origin"))
        .allow_write(scratch.path().join("w"))
        .set_env("GIT_CONFIG_GLOBAL", "/dev/null")
        .set_env("GIT_CONFIG_SYSTEM", "/dev/null")
}

/// Every path below a directory, with a file's contents.
fn listing(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    let mut ahead = vec![directory.to_owned()];
    while let Some(path) = ahead.pop() {
        for entry in std::fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap().path();
            if entry.is_dir() && !entry.is_symlink() {
                ahead.push(entry.clone());
            }
            found.push((entry.display().to_string(), std::fs::read(&entry).unwrap_or_default()));
        }
    }
    found.sort();
    found
}

#[test]
fn git_works() {
    in_each_tier_anew(|scratch, sandbox| {
        let script = "set -ex; git status --short; echo two >>file; git commit -qam two; \
            git checkout -qb topic; git checkout -q main; git branch -d topic; \
            git remote add other https://example.test/x.git; git remote -v; \
            git remote remove other; git worktree add -q ../w/tree -b tree; git -C tree status -sb; \
            git worktree remove tree; git config user.name b; git config --get user.name; \
            git -c protocol.file.allow=always submodule --quiet add $ORIGIN sub; git -C sub log --oneline; \
            git commit -qm sub; git stash list; git init -q nested; git clone -q $ORIGIN clone; \
            git -C clone log -1 --format=%s; rm -rf clone nested; git gc -q; git fsck; \
            cat .vscode/tasks.json; git log --oneline";
        let origin = scratch.path().join("origin").display().to_string();
        let command = Command::new(["/bin/sh", "-c", script])
            .cwd(scratch.path().join("w"))
            .env("ORIGIN", origin);
        let (exit, output) = run_command(sandbox, command);
        assert!(exit.status.success(), "{output}");
    });
}

fn in_each_tier_anew(mut test: impl FnMut(&Scratch, &nono::Sandbox)) {
    for tier in nono::support().tiers {
        if let Some(reason) = tier.unavailable {
            println!("SKIPPED: the {} tier: {reason}", tier.name.as_str());
            continue;
        }
        let scratch = repository();
        let options = in_tier(tier.name);
        test(&scratch, &nono::Sandbox::create(&git(&scratch), &options).unwrap());
    }
}

#[test]
fn orders_to_programs_outside_stay_as_they_are() {
    let scratch = repository();
    let before = listing(scratch.path());
    // Corpus 48 and 49, with what one would try next.
    let attacks = r#"
import os, subprocess, ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
def attempt(name, call):
    try: result = call()
    except OSError as error: return print(name, errno.errorcode[error.errno])
    except subprocess.CalledProcessError as error: return print(name, 'git refused')
    print(name, 'SUCCEEDED', repr(result)[:60])
def write(path, text='x'):
    with open(path, 'w') as file: file.write(text)
def git(*arguments):
    return subprocess.run(['git', *arguments], check=True, stderr=subprocess.DEVNULL)
attempt('hook', lambda: write('.git/hooks/pre-commit'))
attempt('existing hook', lambda: write('.git/hooks/pre-push'))
attempt('append to a hook', lambda: open('.git/hooks/pre-push', 'a').write('x'))
attempt('mode of a hook', lambda: os.chmod('.git/hooks/pre-push', 0o755))
attempt('hook by link', lambda: (write('h'), os.link('h', '.git/hooks/pre-commit')))
attempt('hook by symlink', lambda: os.symlink('../../h', '.git/hooks/pre-commit'))
attempt('hook by rename', lambda: os.rename('h', '.git/hooks/pre-commit'))
attempt('sample to hook', lambda: (write('.git/hooks/x.sample'), os.rename('.git/hooks/x.sample', '.git/hooks/pre-commit')))
os.unlink('.git/hooks/x.sample')
attempt('hooks moved away', lambda: os.rename('.git/hooks', '.git/hooks2'))
attempt('hooks put there', lambda: (os.makedirs('hooks/x', exist_ok=True), os.rename('hooks', '.git/hooks')))
attempt('hooks exchanged', lambda: os.rename('h', 'h2') if libc.renameat2(-100, b'hooks', -100, b'.git/hooks', 2) == 0 else (_ for _ in ()).throw(OSError(ctypes.get_errno(), '')))
attempt('hooks a link', lambda: (os.mkdir('sub2'), os.mkdir('sub2/.git'), os.symlink('../../hooks', 'sub2/.git/hooks')))
attempt('.git moved away', lambda: os.rename('.git', 'moved'))
attempt('.git put there', lambda: (os.makedirs('fake/hooks', exist_ok=True), write('fake/hooks/pre-commit'), os.rename('fake', 'sub2/.git')))
attempt('.git a link', lambda: (os.mkdir('sub3'), os.symlink('../fake', 'sub3/.git')))
attempt('config', lambda: write('.git/config'))
attempt('append to config', lambda: open('.git/config', 'a').write('[core]\nfsmonitor = x\n'))
attempt('config by link', lambda: (os.link('.git/config', 'c'), write('c')))
attempt('fsmonitor', lambda: git('config', 'core.fsmonitor', '/tmp/x'))
attempt('sshCommand', lambda: git('config', 'core.sshCommand', '/tmp/x'))
attempt('hooksPath', lambda: git('config', 'core.hooksPath', 'hooks'))
attempt('filter', lambda: git('config', 'filter.x.clean', '/tmp/x'))
attempt('includeIf', lambda: git('config', 'includeIf.gitdir:/.path', 'x'))
attempt('alias', lambda: git('config', 'alias.st', '!x'))
attempt('credential helper', lambda: git('config', 'credential.helper', '!x'))
attempt('config renamed', lambda: (write('evil', '[core]\n\tfsmonitor = x\n'), os.rename('evil', '.git/config')))
def late():
    file = open('.git/config.lock', 'w+'); file.write('[core]\n\tbare = false\n'); file.flush()
    os.rename('.git/config.lock', '.git/config')
    file.write('\tfsmonitor = x\n'); file.flush()
    raise OSError(errno.EACCES, '') if 'fsmonitor' not in open('.git/config').read() else ValueError
subprocess.run(['cp', '.git/config', 'saved'])
attempt('written to after it was judged', late)
os.rename('saved', '.git/config')
attempt('worktree config', lambda: write('.git/config.worktree'))
attempt('commondir', lambda: write('.git/commondir', '../fake'))
for name in ['.vscode/tasks.json', '.mcp.json', '.envrc', '.bashrc', '.npmrc']:
    attempt(name, lambda: write(name))
for name in ['.claude', '.cursor', '.codex', '.gemini', '.husky', '.devcontainer', '.idea']:
    attempt(name, lambda: os.mkdir(name))
attempt('renamed to .mcp.json', lambda: (write('m'), os.rename('m', '.mcp.json')))
attempt('symlink .claude', lambda: os.symlink('fake', '.claude'))
attempt('by a dependency', lambda: (os.makedirs('node_modules/p/.vscode'), os.rename('node_modules/p', 'p')))
attempt('tmpfile', lambda: os.link('/proc/self/fd/%d' % os.open('.', os.O_TMPFILE | os.O_RDWR), '.mcp.json', follow_symlinks=True))
import socket
for path in ['h', 'h2', 'c', 'evil', 'm']:
    os.path.lexists(path) and os.unlink(path)
subprocess.run('rm -rf hooks fake sub2 sub3 p node_modules/p', shell=True)
"#;
    in_each_tier(&git(&scratch), |sandbox| {
        let command = Command::new(["/usr/bin/python3", "-c", attacks]);
        let (exit, output) = run_command(sandbox, command.cwd(scratch.path().join("w")));
        assert!(exit.status.success() && !output.contains("SUCCEEDED"), "{output}");
        println!("{output}");
    });
    assert_eq!(before, listing(scratch.path()), "the host sees nothing of it");
}

#[test]
fn a_grant_for_the_name_itself_and_the_opt_out_lift_it() {
    let scratch = repository();
    let script = "echo {} >.vscode/tasks.json && echo x >.envrc";
    let granted = git(&scratch)
        .allow_write(scratch.path().join("w/.vscode"))
        .allow_write(scratch.path().join("w/.envrc"));
    for capabilities in [granted, git(&scratch).protect(false)] {
        in_each_tier(&capabilities, |sandbox| {
            let place = scratch.path().join("w");
            let (exit, output) = run(sandbox, &format!("cd {} && {script}", place.display()));
            assert!(exit.status.success(), "{output}");
        });
    }
}

#[test]
fn temporary_files_are_the_sandboxs_own_matter() {
    let scratch = repository();
    let origin = scratch.path().join("origin");
    std::fs::create_dir_all(origin.join(".vscode")).unwrap();
    std::fs::write(origin.join(".vscode/tasks.json"), "{}").unwrap();
    let commit = "git add . && git -c user.name=a -c user.email=a@a.test commit -qm vscode";
    let made = HostCommand::new("/bin/sh").args(["-c", commit]).current_dir(&origin).status();
    assert!(made.unwrap().success());
    let places: std::sync::Mutex<Vec<String>> = std::sync::Mutex::default();
    in_each_tier(&git(&scratch), |sandbox| {
        let script = format!(
            "set -e; cd {0}/w; made=$(mktemp -d); git clone -q {0}/origin $made/clone; \
             cat $made/clone/.vscode/tasks.json; echo; \
             ! git -C $made/clone worktree list | grep -q nothing; \
             ! mv -T $made/clone/.vscode .claude 2>/dev/null; mv $made/clone moved 2>/dev/null || true; \
             ls -A moved/.vscode 2>/dev/null || true; rm -rf moved; echo ${{TMPDIR:-/tmp}}",
            scratch.path().display()
        );
        let (exit, output) = run(sandbox, &script);
        assert!(exit.status.success(), "{output}");
        let (contents, place) = output.split_once('\n').unwrap();
        assert_eq!(contents, "{}");
        places.lock().unwrap().push(place.trim().to_owned());
    });
    for place in places.into_inner().unwrap() {
        assert!(place == "/tmp" || !Path::new(&place).exists(), "{place} is left behind");
    }
}

#[test]
fn in_a_directory_of_its_own_no_name_is_protected() {
    let scratch = Scratch::in_public();
    for name in ["own", "work"] {
        std::fs::create_dir(scratch.path().join(name)).unwrap();
    }
    let place = |name: &str| scratch.path().join(name);
    let capabilities = shell().allow_write(place("work")).allow_scratch(place("own"));
    in_each_tier(&capabilities, |sandbox| {
        let here = scratch.path().display();
        let script = format!(
            "cd {here}; mkdir own/.vscode && echo x >own/.vscode/tasks.json && echo x >own/.claude.json
             mv own/.vscode work/; cp own/.claude.json work/; ls -A own work; rm -r own/.vscode own/.claude.json"
        );
        let (_, output) = run(sandbox, &script);
        assert!(output.ends_with("own:\n.claude.json\n.vscode\n\nwork:\n"), "{output}");
        assert_eq!(output.matches("denied").count(), 2, "{output}");
    });
}

/// A granted place below a private directory is the host's, and stays under the name by which it is judged.
#[test]
fn what_leads_to_a_granted_place_is_not_moved() {
    let (temporary, public) = (Scratch::new(), Scratch::in_public());
    let places = [temporary.path(), public.path()].map(|place| place.join("x/y/work"));
    for place in &places {
        std::fs::create_dir_all(place).unwrap();
        std::fs::write(place.join("file"), "file").unwrap();
    }
    let capabilities =
        places.iter().fold(shell(), |capabilities, place| capabilities.allow_write(place));
    let attacks = r#"
import ctypes, errno, os, sys
libc = ctypes.CDLL(None, use_errno=True)
W = sys.argv[1]
def attempt(name, call, *arguments):
    try: call(*arguments); print(name, 'SUCCEEDED')
    except OSError as error: print(name, errno.errorcode[error.errno])
def exchange(one, other):
    if libc.renameat2(-100, one.encode(), -100, other.encode(), 2): raise OSError(ctypes.get_errno(), '')
def orders(place):
    os.mkdir(place + '/work/.vscode')
    with open(place + '/work/.vscode/tasks.json', 'w'): pass
attempt('moved', os.rename, W + '/x', W + '/z')
attempt('next above', os.rename, W + '/x/y', W + '/y')
attempt('exchanged', lambda: (os.mkdir(W + '/new'), exchange(W + '/x', W + '/new')))
attempt('exchanged next above', exchange, W + '/new', W + '/x/y')
for place in ['/z/y', '/y', '/new', '/new/y', '/x/y']: attempt('orders ' + place, orders, W + place)
with open(W + '/x/y/work/file', 'a') as file: file.write('s')
os.path.exists(W + '/new') and os.rmdir(W + '/new')
"#;
    in_each_tier(&capabilities.allow_scratch(public.path()), |sandbox| {
        for place in [temporary.path(), public.path()] {
            let place = place.to_str().unwrap();
            let command = Command::new(["/usr/bin/python3", "-I", "-S", "-c", attacks, place]);
            let (exit, output) = run_command(sandbox, command);
            assert!(exit.status.success() && !output.contains("SUCCEEDED"), "{output}");
        }
    });
    for place in places {
        assert!(std::fs::read_to_string(place.join("file")).unwrap().starts_with("files"));
        assert!(!place.join(".vscode").exists());
    }
}

/// Who grants all of `/tmp` grants the host's.
#[test]
fn a_private_directory_that_is_granted_as_a_whole_is_the_hosts() {
    let scratch = Scratch::new();
    let here = scratch.path().display();
    in_each_tier(&shell().allow_write("/tmp"), |sandbox| {
        let question = Question::Path(scratch.path().join(".envrc"), Right::Write);
        assert!(!sandbox.explain(&question).unwrap().allowed);
        let script = format!("cd {here} && echo x >file && ! mkdir .vscode && ! echo x >.envrc");
        let (exit, output) = run(sandbox, &script);
        assert!(exit.status.success(), "{output}");
    });
    let names: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().collect();
    assert_eq!(names.len(), 1, "{names:?}");
}

/// A `.git` that is a file says where the settings are. So it is in a worktree, and may be in what was deleted
/// and made again.
#[test]
fn a_granted_repository_stays_where_its_settings_are() {
    let scratch = repository();
    let add = ["-C", "w", "worktree", "add", "-q", "../tree"];
    let made = HostCommand::new("git").args(add).current_dir(scratch.path()).status();
    assert!(made.unwrap().success());
    let said = std::fs::read_to_string(scratch.path().join("tree/.git")).unwrap();
    let capabilities = git(&scratch).allow_write(scratch.path().join("tree"));
    let script = format!(
        "cd {}; git -C tree status -s && git -C w init -q && echo ordinary
         for place in tree w; do
           cd $place; cp -r .git/ kept 2>/dev/null; rm -rf .git
           echo 'gitdir: evil' >.git; echo 'gitdir: evil' >file; mv -fT file .git; ln -fT file .git; ln -sfT evil .git
           [ -e .git ] || echo nothing; mkdir .git && cp -r kept/. .git/ 2>/dev/null; rm -rf kept file; cd ..
         done; ls -dF tree/.git w/.git",
        scratch.path().display()
    );
    in_each_tier(&capabilities, |sandbox| {
        let (_, output) = run(sandbox, &script);
        assert!(
            output.contains("ordinary\n") && output.matches("nothing\n").count() == 2,
            "{output}"
        );
        assert!(output.ends_with("tree/.git/\nw/.git/\n"), "{output}");
        std::fs::remove_dir_all(scratch.path().join("tree/.git")).unwrap();
        std::fs::write(scratch.path().join("tree/.git"), &said).unwrap();
    });
}
