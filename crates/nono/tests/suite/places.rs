//! What holds of granted places themselves: between two of them, and when another file takes the place
//! of one.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;

use nono::{
    Blueprint, Capabilities, Command, Observe, Operation, Options, Question, Reason, Right,
    Sandbox, Target, TierName,
};

use crate::common::{Scratch, in_each_tier, in_tier, run_command, shell};

fn python(sandbox: &Sandbox, script: &str, place: &Scratch) -> String {
    let prelude = "import errno, os, sys\nos.chdir(sys.argv[1])\n\
        def attempt(call, *arguments):\n\
        \x20   try: call(*arguments); print('done')\n\
        \x20   except OSError as error: print(errno.errorcode[error.errno])\n";
    let script = format!("{prelude}{script}");
    let place = place.path().to_str().unwrap();
    run_command(sandbox, Command::new(["/usr/bin/python3", "-I", "-c", &script, place])).1
}

/// In a sandbox of each tier, watched and not.
fn in_each_way(capabilities: impl Fn() -> Capabilities, test: impl Fn(&Sandbox, Observe)) {
    for tier in nono::support().tiers {
        if let Some(reason) = tier.unavailable {
            println!("SKIPPED: the {} tier: {reason}", tier.name.as_str());
            continue;
        }
        for observe in [Observe::All, Observe::Changes, Observe::Off] {
            println!("tier {}, {observe:?}", tier.name.as_str());
            let options = Options { observe, ..in_tier(tier.name) };
            test(&Sandbox::create(&capabilities(), &options).unwrap(), observe);
        }
    }
}

#[test]
fn files_and_directories_are_moved_between_granted_places() {
    let scratch = Scratch::in_public();
    for name in ["a/file", "b/file", "readable/file"] {
        scratch.file(name, name);
    }
    let capabilities = || {
        shell()
            .allow_write(scratch.path().join("a"))
            .allow_write(scratch.path().join("b"))
            .allow_read(scratch.path())
            .protect(false)
    };
    let script = "
attempt(os.rename, 'a/file', 'b/moved'); attempt(os.rename, 'b/moved', 'a/file')
os.makedirs('a/d/e', exist_ok=True)
attempt(os.rename, 'a/d', 'b/d'); attempt(os.rename, 'b/d', 'a/d')
attempt(os.link, 'a/file', 'b/link'); print(os.path.samefile('a/file', 'b/link')); os.unlink('b/link')
attempt(os.link, 'a/d', 'a/link'); attempt(os.link, 'a/d', 'b/link'); attempt(os.link, 'a', 'a/link')
attempt(os.rename, 'a/file', 'readable/file'); attempt(os.rename, 'readable/file', 'a/stolen')
attempt(os.link, 'readable/file', 'a/link'); attempt(os.rename, 'a/file', 'file')
print(open('a/file').read(), open('b/file').read(), open('readable/file').read())";
    in_each_way(capabilities, |sandbox, _| {
        let output = python(sandbox, script, &scratch);
        let lines: Vec<_> = output.lines().collect();
        let done = ["done", "done", "done", "done", "done", "True", "EPERM", "EPERM", "EPERM"];
        assert_eq!(lines[..9], done, "{output}");
        let refusals = ["EACCES", "EROFS", "EXDEV"];
        assert!(lines[9..13].iter().all(|line| refusals.contains(line)), "{output}");
        assert_eq!(lines[13..], ["a/file b/file readable/file"], "{output}");
    });
}

/// Whoever may write above a granted place can put a link there while another sandbox is built. What it leads
/// to is not granted, neither by the kernel's rules nor by mounts.
#[test]
fn a_link_that_takes_the_place_of_a_grant_meanwhile_grants_nothing() {
    let scratch = Scratch::in_public();
    let path = |name: &str| scratch.path().join(name);
    for tier in nono::support().tiers {
        if let Some(reason) = tier.unavailable {
            println!("SKIPPED: the {} tier: {reason}", tier.name.as_str());
            continue;
        }
        for (granted, replaced) in [("w/out", "w/out"), ("w/out", "w"), ("w/out/file", "w/out")] {
            scratch.file("w/out/file", "");
            scratch.file("outside/out/file", "outside");
            scratch.file("outside/file", "outside");
            let capabilities = shell().allow_write(path(granted));
            let blueprint = Blueprint::draw(&capabilities, &in_tier(tier.name)).unwrap();
            std::fs::rename(path(replaced), path("aside")).unwrap();
            std::os::unix::fs::symlink(path("outside"), path(replaced)).unwrap();
            let error = blueprint.build().unwrap_err();
            assert_eq!(error.code(), "ERR_NONO_INVALID_PATH", "{replaced}: {error}");
            std::fs::remove_file(path(replaced)).unwrap();
            std::fs::remove_dir_all(path("aside")).unwrap();
        }
    }
}

/// A grant is about what had the name when the sandbox was made. What is put in its place is refused,
/// and that is on record.
#[test]
fn what_takes_the_place_of_a_granted_file_is_not_granted() {
    let scratch = Scratch::in_public();
    let (tool, file) = (scratch.path().join("w/tool"), scratch.path().join("file"));
    std::fs::create_dir(scratch.path().join("w")).unwrap();
    let new = |path: &std::path::Path| {
        let (made, mode) = (scratch.path().join("new"), std::fs::Permissions::from_mode(0o755));
        std::fs::copy("/bin/true", &made).unwrap();
        std::fs::set_permissions(&made, mode).unwrap();
        std::fs::rename(made, path).unwrap();
    };
    let capabilities = || {
        new(&tool);
        new(&file);
        shell().allow_exec(&tool).allow_write(tool.parent().unwrap()).allow_read(&file)
    };
    let script = "
import subprocess
subprocess.run(['w/tool'], check=True); open('file').close(); print('before')
open('w/other', 'wb').write(open('w/tool', 'rb').read()); os.chmod('w/other', 0o755)
os.rename('w/other', 'w/tool')
attempt(os.execv, 'w/tool', ['tool'])";
    in_each_way(capabilities, |sandbox, observe| {
        let question = Question::Path(file.clone(), Right::Read);
        let is_readable = || sandbox.explain(&question).unwrap().allowed;
        assert!(is_readable());
        assert_eq!(python(sandbox, script, &scratch), "before\nEACCES\n");
        new(&file);
        assert!(!is_readable());
        assert_eq!(python(sandbox, "attempt(open, 'file')", &scratch), "EACCES\n");
        let events = sandbox.events().take(usize::MAX).0;
        let told = |operation, name: &str| {
            events.iter().any(|event| {
                let reason = event.refused.as_ref().map(|refused| (refused.layer, &refused.reason));
                let is_it = matches!(&event.target, Target::Path { asked, .. } if asked == name);
                is_it
                    && event.operation == operation
                    && reason == Some(("landlock", &Reason::NotGranted))
            })
        };
        assert_eq!(told(Operation::Read, "file"), observe == Observe::All, "{events:#?}");
        if tells_of_executions() {
            assert_eq!(told(Operation::Execute, "w/tool"), observe != Observe::Off, "{events:#?}");
        } else {
            println!(
                "SKIPPED: events of replaced programs: they take Linux 6.14 (AT_EXECVE_CHECK)"
            );
        }
    });
}

/// As root in a directory that a system was put together in: a device's node there is the device itself.
#[test]
fn devices_in_granted_places_are_none() {
    let scratch = Scratch::in_public();
    for place in ["readable", "writable"] {
        std::fs::create_dir(scratch.path().join(place)).unwrap();
        let node = scratch.path().join(place).join("null");
        let name = CString::new(node.as_os_str().as_bytes()).unwrap();
        // SAFETY: a C string.
        let made =
            unsafe { libc::mknod(name.as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(1, 3)) };
        if made != 0 {
            return println!("SKIPPED: devices in granted places: none can be made here");
        }
    }
    let capabilities = shell()
        .allow_read(scratch.path().join("readable"))
        .allow_write(scratch.path().join("writable"))
        .allow_write("/dev/null");
    in_each_tier(&capabilities, |sandbox| {
        let script = "
for place in ['writable', 'readable']:
    attempt(open, place + '/null', 'r+b'); attempt(open, place + '/null')
attempt(open, '/dev/null', 'r+b')";
        let output = python(sandbox, script, &scratch);
        // Nobody is asked about reading.
        let reading = if sandbox.tier() == TierName::Flat { "done" } else { "EACCES" };
        assert_eq!(output, format!("EACCES\n{reading}\nEACCES\n{reading}\ndone\n"));
    });
}

/// Whether the kernel says what would become of an execve().
fn tells_of_executions() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap_or(0));
    (numbers.next(), numbers.next()) >= (Some(6), Some(14))
}
