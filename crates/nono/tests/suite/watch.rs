//! Watching files, and holding up those who write them: only what may be read can be watched, since names
//! are told, and nobody outside waits for a sandbox.

use nono::{Command, Observe, Options, Sandbox, TierName};

use crate::common::{Scratch, in_each_tier, in_tier, run_command, shell};
use crate::container::in_container;

/// Watches paths, has something done, and says what was told of it.
const WATCHING: &str = r"
import ctypes, errno, fcntl, os, select, sys
libc = ctypes.CDLL(None, use_errno=True)
instance = libc.inotify_init1(os.O_NONBLOCK)
if instance < 0: print('no inotify', errno.errorcode[ctypes.get_errno()]); sys.exit()
def watch(path, mask=0x3ff):
    number = libc.inotify_add_watch(instance, path.encode(), mask)
    print('watching' if number > 0 else errno.errorcode[ctypes.get_errno()], path[len(sys.argv[1]) + 1:])
    return number
def told():
    data = b''
    while select.select([instance], [], [], 0.2)[0]: data += os.read(instance, 65536)
    return data
";

fn python(sandbox: &Sandbox, place: &Scratch, script: &str) -> String {
    let script = format!("{WATCHING}{script}");
    let place = place.path().display().to_string();
    let argv = ["/usr/bin/python3", "-I", "-S", "-c", &script, &place];
    run_command(sandbox, Command::new(argv)).1
}

#[test]
fn what_may_be_read_can_be_watched_and_nothing_else() {
    let scratch = Scratch::in_public();
    scratch.file("w/own", "x");
    scratch.file("o/private", "x");
    scratch.file("w/.env", "x");
    std::os::unix::fs::symlink(scratch.path().join("o"), scratch.path().join("w/link")).unwrap();
    let own = shell().allow_write(scratch.path().join("w"));
    // With a supervisor of changes, of nothing else, and of all that is opened.
    for capabilities in [own.clone(), own.clone().protect(false), own.deny("**/.env")] {
        in_each_tier(&capabilities, |sandbox| {
            let output = python(
                sandbox,
                &scratch,
                r"
place = sys.argv[1]
watch(place + '/w'); watch(place + '/o'); watch(place + '/o/private'); watch(place)
watch(place + '/w/link'); watch(place + '/w/../o'); watch(place + '/w/nothing')
os.chdir(place + '/w'); watch('../o', 0x3ff); watch('own', 0x3ff)
watch(place + '/w/link', 0x3ff | 0x2000000)  # IN_DONT_FOLLOW: the link itself
watch(place + '/w/own', 0x3ff | 0x1000000)  # IN_ONLYDIR
open('new', 'w').close()
print(b'new' in told())
os.unlink('new')
",
            );
            assert_eq!(
                output,
                "watching w\nEACCES o\nEACCES o/private\nEACCES \nEACCES w/link\nEACCES w/../o\n\
                 ENOENT w/nothing\nEACCES \nwatching \nwatching w/link\nENOTDIR w/own\nTrue\n"
            );
        });
    }
}

#[test]
fn nobody_inside_is_told_what_happens_outside() {
    let scratch = Scratch::in_public();
    scratch.file("o/private", "x");
    let capabilities = shell();
    in_each_tier(&capabilities, |sandbox| {
        let argv = ["/usr/bin/python3", "-I", "-S", "-c"].map(String::from);
        let script = format!("{WATCHING}\nwatch(sys.argv[1] + '/o'); print('told', told())");
        let place = scratch.path().display().to_string();
        let argv = argv.into_iter().chain([script, place]);
        let done = std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                for turn in 0..20 {
                    std::fs::write(scratch.path().join(format!("o/private-name-{turn}")), "x")
                        .unwrap();
                    std::thread::sleep(std::time::Duration::from_millis(20));
                }
            });
            let output = run_command(sandbox, Command::new(argv)).1;
            writer.join().unwrap();
            output
        });
        assert_eq!(done, "EACCES o\ntold b''\n");
    });
}

#[test]
fn where_nobody_can_ask_there_is_no_inotify() {
    let scratch = Scratch::in_public();
    in_container(|| {
        let sandbox = Sandbox::create(&shell(), &in_tier(TierName::Flat)).unwrap();
        assert_eq!(python(&sandbox, &scratch, ""), "no inotify ENOSYS\n");
    });
}

#[test]
fn a_refused_watch_is_on_record() {
    let scratch = Scratch::in_public();
    scratch.file("o/private", "x");
    let tiers = nono::support().tiers.into_iter().filter(|tier| tier.unavailable.is_none());
    for tier in tiers {
        let options = Options { observe: Observe::Changes, ..in_tier(tier.name) };
        let sandbox = Sandbox::create(&shell(), &options).unwrap();
        python(&sandbox, &scratch, "watch(sys.argv[1] + '/o')");
        assert_eq!(sandbox.events().refused(), 1);
    }
}

#[test]
fn no_lease_holds_up_those_who_write() {
    let scratch = Scratch::in_public();
    let file = scratch.file("r", "x").display().to_string();
    let script = r"
import errno, fcntl, os, struct, sys
file = os.open(sys.argv[1], os.O_RDONLY)
directory = os.open(os.path.dirname(sys.argv[1]), os.O_RDONLY)
F_SETDELEG = 1040; delegation = struct.pack('=IHH', 0, fcntl.F_RDLCK, 0)
for target, command, argument in ((file, fcntl.F_SETLEASE, fcntl.F_RDLCK), (file, fcntl.F_SETLEASE, fcntl.F_UNLCK),
                                  (file, F_SETDELEG, delegation), (directory, F_SETDELEG, delegation)):
    try: print(fcntl.fcntl(target, command, argument))
    except OSError as error: print(errno.errorcode[error.errno])
";
    in_each_tier(&shell().allow_read(scratch.path()), |sandbox| {
        let argv = ["/usr/bin/python3", "-I", "-S", "-c", script, &file];
        let output = run_command(sandbox, Command::new(argv)).1;
        // There is no lease to give up; and delegations are as on a kernel before Linux 6.19.
        assert_eq!(output, "EACCES\nEAGAIN\nEINVAL\nEINVAL\n");
    });
}
