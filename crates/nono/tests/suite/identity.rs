//! No command leaves a file behind that lends its owner's identity to whoever executes it.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nono::{Command, Observe, Options, Sandbox};

use crate::common::{Scratch, in_each_setting, in_tier, run_command, shell};

const SCRIPT: &str = r"
import ctypes, errno, os, stat, sys
libc = ctypes.CDLL(None, use_errno=True)
place = sys.argv[1]
os.umask(0)
file, directory = place + '/file', place + '/directory'
open(file, 'w').close(); os.mkdir(directory)
descriptor = os.open(file, os.O_RDONLY)
def attempt(what, call, *arguments):
    try: call(*arguments); print(what, 'done')
    except OSError as error: print(what, errno.errorcode[error.errno])
def raw(*arguments):
    if libc.syscall(*arguments) == -1: raise OSError(ctypes.get_errno(), '')
for name, bits in (('user', 0o4755), ('group', 0o2755), ('both', 0o6755)):
    attempt(name + ' chmod', os.chmod, file, bits)
    attempt(name + ' fchmod', os.fchmod, descriptor, bits)
    attempt(name + ' fchmodat2', raw, 452, -100, file.encode(), bits, 0)
    attempt(name + ' open', os.open, place + '/new', os.O_CREAT | os.O_EXCL | os.O_WRONLY, bits)
    attempt(name + ' creat', raw, 85, (place + '/new').encode(), bits)
    attempt(name + ' tmpfile', os.open, place, os.O_TMPFILE | os.O_WRONLY, bits)
    attempt(name + ' mknod', os.mknod, place + '/new', stat.S_IFREG | bits)
how = (ctypes.c_uint64 * 3)(os.O_CREAT | os.O_WRONLY, 0o4755, 0)
attempt('openat2', raw, 437, -100, (place + '/new').encode(), how, 24)
attempt('directory', os.chmod, directory, 0o2775)
attempt('sticky', os.chmod, directory, 0o1777)
attempt('no group execution', os.chmod, file, 0o2644)
attempt('plain', os.chmod, file, 0o755)
";

#[test]
fn no_file_lends_an_identity() {
    let scratch = Scratch::in_public();
    let own = shell().allow_write(scratch.path());
    // With a supervisor of changes, and of nothing but this.
    for capabilities in [own.clone(), own.protect(false)] {
        in_each_setting(&capabilities, |sandbox| {
            let place = scratch.path().join("w");
            std::fs::create_dir(&place).unwrap();
            let argv = ["/usr/bin/python3", "-I", "-S", "-c", SCRIPT];
            let argv = argv.map(String::from).into_iter().chain([place.display().to_string()]);
            let output = run_command(sandbox, Command::new(argv)).1;
            let lines: Vec<_> = output.lines().collect();
            assert_eq!(lines.len(), 26, "{output}");
            let (refused, allowed) = lines.split_at(22);
            let is_refused = |line: &&str| line.ends_with("EPERM") || line.ends_with("ENOSYS");
            assert!(refused.iter().all(is_refused), "{output}");
            assert!(allowed.iter().all(|line| line.ends_with(" done")), "{output}");
            for entry in std::fs::read_dir(&place).unwrap() {
                let found = entry.unwrap().metadata().unwrap();
                assert!(found.is_dir() || found.mode() & 0o6000 == 0, "{found:?}");
            }
            std::fs::remove_dir_all(place).unwrap();
        });
    }
}

#[test]
fn what_would_lend_one_is_on_record() {
    let scratch = Scratch::in_public();
    let file = scratch.file("file", "x");
    for tier in nono::support().tiers.into_iter().filter(|tier| tier.unavailable.is_none()) {
        let options = Options { observe: Observe::Changes, ..in_tier(tier.name) };
        let sandbox = Sandbox::create(&shell().allow_write(scratch.path()), &options).unwrap();
        let script = format!("chmod u+s {0}; chmod 2755 {0}", file.display());
        run_command(&sandbox, Command::new(["/bin/sh", "-c", &script]));
        let (events, _) = sandbox.events().take(usize::MAX);
        let refused: Vec<_> = events.into_iter().filter(|event| event.refused.is_some()).collect();
        assert_eq!(refused.len(), 2);
        let name = nono::Target::SystemCall("fchmodat".into());
        assert!(refused.iter().all(|event| event.target == name), "{refused:?}");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7000, 0);
    }
}
