//! What is told about attempts is what happened: in each tier, nothing invented and nothing missing.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::Path;

use nono::{
    Capabilities, Command, Event, Observe, Operation, Options, Reason, Sandbox, Suggestion, Target,
};

use crate::common::{Scratch, in_tier, numbered, run, run_command, shell};
use crate::gate::{gated, python};

fn in_each_tier_observed(
    capabilities: &Capabilities,
    observe: Observe,
    mut test: impl FnMut(&Sandbox),
) {
    for tier in nono::support().tiers {
        if let Some(reason) = tier.unavailable {
            println!("SKIPPED: the {} tier: {reason}", tier.name.as_str());
            continue;
        }
        println!("tier {}", tier.name.as_str());
        let options = Options { observe, ..in_tier(tier.name) };
        test(&Sandbox::create(capabilities, &options).unwrap());
    }
}

fn take_all(sandbox: &Sandbox) -> Vec<Event> {
    let (events, lost) = sandbox.events().take(usize::MAX);
    assert_eq!(lost, nono::Lost::default());
    events
}

fn refused(events: &[Event]) -> Vec<&Event> {
    events.iter().filter(|event| event.refused.is_some()).collect()
}

#[test]
fn two_thousand_denials_are_two_thousand_events() {
    let scratch = Scratch::in_public();
    scratch.file("w/own", "x");
    scratch.file("w/closed", "x");
    scratch.file("w/.env", "x");
    scratch.file("o/secret", "x");
    let script = r#"
import ctypes, os, socket, sys
libc = ctypes.CDLL(None, use_errno=True)
W, O = sys.argv[1] + '/w', sys.argv[1] + '/o'
S = O + '/secret'
os.chmod(W + '/closed', 0)
def syscall(*arguments):
    if libc.syscall(*arguments) == -1: raise OSError(ctypes.get_errno(), '')
denied = {
    'read': lambda: open(S),
    'list': lambda: os.listdir(O),
    'write': lambda: open(S, 'w'),
    'create': lambda: open(O + '/new', 'x'),
    'mkdir': lambda: os.mkdir(O + '/new'),
    'symlink': lambda: os.symlink('x', O + '/new'),
    'link': lambda: os.link(W + '/own', O + '/new'),
    'rename': lambda: os.rename(W + '/own', O + '/new'),
    'delete': lambda: os.unlink(S),
    'chmod': lambda: os.chmod(S, 0o600),
    'utime': lambda: os.utime(S),
    'truncate': lambda: os.truncate(S, 0),
    'denied read': lambda: open(W + '/.env'),
    'protected': lambda: open(W + '/.mcp.json', 'w'),
    'internet': lambda: socket.socket(socket.AF_INET),
    'packet': lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW),
    'unshare': lambda: syscall(SYS_unshare, 0x10000000),
    'mount': lambda: syscall(SYS_mount, None, None, None, 0, None),
    'keyctl': lambda: syscall(SYS_keyctl, 0, 0, 0, 0, 0),
    'execute': lambda: os.execv('/sbin/ldconfig', ['ldconfig']),
}
failing = [
    lambda: open(W + '/nowhere'), lambda: open(O + '/nowhere'), lambda: open(W + '/closed'),
    lambda: open(W + '/own/x'), lambda: os.mkdir(W), lambda: os.rmdir(W + '/own'), lambda: os.execv(W + '/nowhere', ['x']),
    lambda: os.execv(W + '/own', ['x']), lambda: open(W, 'w'), lambda: os.unlink(W + '/nowhere'),
]
refused = 0
for round in range(100):
    for name, call in denied.items():
        try: call(); print(name, 'SUCCEEDED')
        except OSError as error: refused += 1
    for call in failing:
        try: call(); print('SUCCEEDED')
        except OSError: pass
    open(W + '/own').close(); open(W + '/made', 'w').close(); os.unlink(W + '/made')
print(refused)
"#;
    let capabilities = Capabilities::new()
        .allow_exec("/usr/bin/python3")
        .allow_write(scratch.path().join("w"))
        .deny("**/.env");
    in_each_tier_observed(&capabilities, Observe::All, |sandbox| {
        let argv = ["/usr/bin/python3", "-I", "-S", "-c", &numbered(script)];
        let command = Command::new(
            argv.map(String::from).into_iter().chain([scratch.path().display().to_string()]),
        );
        let (exit, output) = run_command(sandbox, command);
        assert!(exit.status.success() && output.trim() == "2000", "{output}");
        let events = take_all(sandbox);
        let mut kinds = BTreeMap::new();
        for event in refused(&events) {
            *kinds.entry(event.operation.as_str()).or_insert(0) += event.count;
        }
        // The interpreter's own start may meet a refusal or two: none of them is below the scratch
        // directory, and each kind below is.
        let own: u64 = refused(&events)
            .iter()
            .filter(|event| match &event.target {
                Target::Path { path, to, .. } => {
                    path.starts_with(scratch.path())
                        || path == Path::new("/usr/sbin/ldconfig")
                        || path == Path::new("/sbin/ldconfig")
                        || to.as_ref().is_some_and(|to| to.starts_with(scratch.path()))
                }
                _ => true,
            })
            .map(|event| event.count)
            .sum();
        assert_eq!(own, 2000, "{kinds:?}");
        assert_eq!(sandbox.events().refused(), kinds.values().sum::<u64>());
    });
}

#[test]
fn a_violation_says_who_what_why_and_what_would_allow_it() {
    let scratch = Scratch::in_public();
    scratch.file("w/x", "x");
    let secret = scratch.file("o/secret", "x");
    let capabilities = shell().allow_write(scratch.path().join("w"));
    in_each_tier_observed(&capabilities, Observe::All, |sandbox| {
        let script = format!("cd {}/w; cat ../o/secret; exit 3", scratch.path().display());
        let (exit, output) = run(sandbox, &script);
        assert_eq!(exit.status.code(), Some(3), "{output}");
        let events = take_all(sandbox);
        let violations = refused(&events);
        let [violation] = violations.as_slice() else { panic!("{violations:#?}") };
        let expected = Target::Path { path: secret.clone(), asked: "../o/secret".into(), to: None };
        assert_eq!(violation.target, expected);
        assert_eq!(violation.errno, Some(libc::EACCES));
        let refusal = violation.refused.as_ref().unwrap();
        assert_eq!((refusal.layer, &refusal.reason), ("landlock", &Reason::NotGranted));
        assert_eq!(violation.suggestion(), Some(Suggestion::Read(secret.clone())));
        let process = &violation.process;
        assert_eq!(process.executable, Path::new("/usr/bin/cat"));
        assert_eq!(process.arguments, ["cat", "../o/secret"]);
        assert_eq!(process.cwd, scratch.path().join("w"));
        assert_eq!(process.chain, [Path::new("/usr/bin/dash")]);
        for module in ["libc.so", "cat+"] {
            assert!(process.frames.iter().any(|frame| frame.starts_with(module)), "{process:?}");
        }
        assert_eq!(process.session, process.command);
    });
}

#[test]
fn changes_are_told_without_reads_and_nothing_when_off() {
    let scratch = Scratch::in_public();
    scratch.file("w/x", "x");
    scratch.file("o/secret", "x");
    let capabilities = shell().allow_write(scratch.path().join("w"));
    let script = format!(
        "cd {}/w; cat ../o/secret x; echo >../o/new; echo >new; mkdir d; rm new",
        scratch.path().display()
    );
    in_each_tier_observed(&capabilities, Observe::Changes, |sandbox| {
        run(sandbox, &script);
        let events = take_all(sandbox);
        let kinds: Vec<_> = events
            .iter()
            .map(|event| (event.operation.as_str(), event.refused.is_some()))
            .filter(|(kind, _)| !["execute", "exit"].contains(kind))
            .collect();
        let expected =
            [("create", true), ("create", false), ("make-directory", false), ("delete", false)];
        assert_eq!(kinds, expected, "{events:#?}");
        let of = |operation| {
            let events = events.iter().filter(move |event| event.operation == operation);
            events.map(|event| {
                let program = event.process.executable.file_name().unwrap().to_str().unwrap();
                (program, event.target.clone(), event.process.pid)
            })
        };
        let programs: Vec<_> = of(Operation::Execute).map(|(program, ..)| program).collect();
        assert_eq!(programs, ["dash", "cat", "mkdir", "rm"]);
        let ends: Vec<_> = of(Operation::Exit).map(|(program, code, _)| (program, code)).collect();
        let expected = [("cat", 1), ("mkdir", 0), ("rm", 0), ("dash", 0)];
        assert_eq!(ends, expected.map(|(program, code)| (program, Target::ExitCode(code))));
        let pids = |operation| of(operation).map(|(.., pid)| pid).collect::<BTreeSet<_>>();
        assert_eq!(pids(Operation::Execute), pids(Operation::Exit));
        run(sandbox, "rmdir d");
    });
    in_each_tier_observed(&capabilities, Observe::Off, |sandbox| {
        run(sandbox, &script);
        assert_eq!(take_all(sandbox), []);
    });
}

#[test]
fn a_program_is_told_of_once_whatever_it_says_of_itself() {
    // What a C library says as it starts.
    let again = if cfg!(target_arch = "x86_64") {
        "at = ctypes.c_ulong(); libc.syscall(158, 0x1003, ctypes.byref(at)); libc.syscall(158, 0x1002, at)"
    } else {
        "libc.syscall(96, None)"
    };
    // A second time from another thread, whose place its process then takes.
    let script = format!(
        "import ctypes, os, sys, threading\n\
         libc = ctypes.CDLL(None)\n\
         for _ in range(5): {again}\n\
         try: os.execv('/nowhere', ['x'])\n\
         except FileNotFoundError: pass\n\
         if len(sys.argv) == 1:\n \
         again = lambda: os.execv('/usr/bin/python3', sys.orig_argv + ['again'])\n \
         thread = threading.Thread(target=again); thread.start(); thread.join()\n"
    );
    in_each_tier_observed(&shell(), Observe::Changes, |sandbox| {
        let command = Command::new(["/usr/bin/python3", "-I", "-S", "-c", &script]);
        let (exit, output) = run_command(sandbox, command);
        assert!(exit.status.success(), "{output}");
        let events = take_all(sandbox);
        let is_start = |event: &&Event| event.operation == Operation::Execute;
        let started = events.iter().filter(is_start).filter(|event| event.errno == Some(0));
        assert_eq!(started.count(), 2, "{events:#?}");
    });
}

#[test]
fn a_script_is_told_by_its_own_name_and_its_interpreter() {
    let scratch = Scratch::in_public();
    let script = scratch.file("w/script", "#!/bin/sh\nexit 0\n");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let place = scratch.path().join("w");
    let capabilities = shell().allow_write(&place).allow_exec(&place);
    in_each_tier_observed(&capabilities, Observe::Changes, |sandbox| {
        let (exit, output) = run(sandbox, &format!("cd {}; ./script", place.display()));
        assert!(exit.status.success(), "{output}");
        let mut events = take_all(sandbox);
        events.retain(|event| event.operation == Operation::Execute);
        let (path, asked) = ("/bin/sh".as_ref(), "./script".into());
        let path = Path::canonicalize(path).unwrap();
        assert_eq!(events.pop().unwrap().target, Target::Path { path, asked, to: None });
    });
}

#[test]
fn more_than_anybody_reads_is_counted() {
    let scratch = Scratch::in_public();
    scratch.file("w/x", "x");
    scratch.file("o/secret", "x");
    let capabilities =
        Capabilities::new().allow_exec("/usr/bin/python3").allow_write(scratch.path().join("w"));
    let script = format!(
        "import os\nfor n in range(20000):\n  try: os.mkdir('{}/o/%d' % n)\n  except OSError: pass",
        scratch.path().display()
    );
    in_each_tier_observed(&capabilities, Observe::Changes, |sandbox| {
        let argv = ["/usr/bin/python3", "-I", "-S", "-c", &script];
        let (exit, output) = run_command(sandbox, Command::new(argv));
        assert!(exit.status.success(), "{output}");
        let (events, lost) = sandbox.events().take(usize::MAX);
        let told: u64 = refused(&events).iter().map(|event| event.count).sum();
        assert!(lost.refused > 0);
        assert_eq!(told + lost.refused, 20_000);
        assert_eq!(sandbox.events().refused(), 20_000);
    });
}

#[test]
fn connections_are_told_and_only_what_a_rule_refused_is_refused() {
    let scratch = Scratch::new();
    let path = scratch.path().join("agent");
    let _agent = UnixListener::bind(&path).unwrap();
    let script = format!(
        r#"
s = socket.socket(); s.connect(('203.0.113.9', 443)); s.close()
s = socket.socket(); s.setblocking(False); s.connect_ex(('203.0.113.9', 443)); s.close()
for blocking in (True, False):
    s = socket.socket(); s.setblocking(blocking); s.connect_ex(('203.0.113.8', 22)); s.close()
socket.socket(socket.AF_INET6).connect_ex(('::ffff:203.0.113.7', 25))
socket.socket().connect_ex(('127.0.0.1', 9)) # nobody is there, and nothing forbids it
socket.socket(socket.AF_UNIX).connect_ex({path:?})
socket.socket().connect_ex(('', 0)); connect(socket.socket(), UNSPEC)
"#
    );
    let capabilities = gated(&[443]).allow_read(scratch.path());
    in_each_tier_observed(&capabilities, Observe::Changes, |sandbox| {
        assert_eq!(python(sandbox, &script), "");
        let events = take_all(sandbox);
        let told: Vec<_> = events
            .iter()
            .filter(|event| event.operation == Operation::Connect)
            .filter_map(|event| match &event.target {
                Target::Address(address) => {
                    Some((address.as_str(), event.refused.is_some(), event.suggestion()))
                }
                _ => None,
            })
            .collect();
        let network = |address: &str| Some(Suggestion::Network(address.into()));
        assert_eq!(
            told,
            [
                ("203.0.113.9:443", false, None),
                ("203.0.113.9:443", false, None),
                ("203.0.113.8:22", true, network("203.0.113.8:22")),
                ("203.0.113.8:22", true, network("203.0.113.8:22")),
                ("203.0.113.7:25", true, network("203.0.113.7:25")),
                ("127.0.0.1:9", false, None),
                (path.to_str().unwrap(), true, Some(Suggestion::UnixSocket(path.clone()))),
                ("0.0.0.0:0", false, None),
            ]
        );
    });
}

#[test]
fn sockets_are_told_of_with_their_addresses() {
    let scratch = Scratch::in_public();
    std::fs::create_dir(scratch.path().join("w")).unwrap();
    let host = std::os::unix::net::UnixListener::bind(scratch.path().join("host")).unwrap();
    let script = format!(
        r"
import os, socket
os.chdir('{0}/w')
def unix(): return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
def refused(call):
    try: call()
    except OSError as error: return print(error.errno)
    print('SUCCEEDED')
server = unix(); server.bind('own'); server.listen()
unix().connect('own')
refused(lambda: unix().connect('{0}/host'))
refused(lambda: unix().bind('{0}/new'))
refused(lambda: unix().bind('.vscode'))
refused(lambda: unix().connect('nowhere'))
os.umask(0o077); other = unix(); other.bind('private'); print(oct(os.stat('private').st_mode))
for path in ('own', 'private'): os.unlink(path)
",
        scratch.path().display()
    );
    let capabilities = shell().allow_write(scratch.path().join("w"));
    in_each_tier_observed(&capabilities, Observe::Changes, |sandbox| {
        let (exit, output) =
            run_command(sandbox, Command::new(["/usr/bin/python3", "-I", "-S", "-c", &script]));
        assert!(exit.status.success() && !output.contains("SUCCEEDED"), "{output}");
        assert!(output.ends_with("2\n0o140700\n"), "{output}");
        let told: Vec<_> = take_all(sandbox)
            .into_iter()
            .filter(|event| matches!(event.operation, Operation::Connect | Operation::Bind))
            .map(|event| {
                let target = match event.target {
                    Target::Path { path, .. } => path.display().to_string(),
                    Target::Address(address) => address,
                    Target::SystemCall(name) => name,
                    Target::ExitCode(code) => code.to_string(),
                };
                let place = scratch.path().display().to_string();
                let refused = event.refused.is_some();
                (event.operation.as_str(), target.replace(&place, ""), refused)
            })
            .collect();
        let expected = [
            ("bind", "/w/own", false),
            ("connect", "/w/own", false),
            ("connect", "/host", true),
            ("bind", "/new", true),
            ("bind", "/w/.vscode", true),
            ("connect", "nowhere", false),
            ("bind", "/w/private", false),
        ];
        let expected = expected.map(|(operation, path, refused)| (operation, path.into(), refused));
        assert_eq!(told, expected);
    });
    drop(host);
}

#[test]
fn a_caller_may_run_afterwards_where_it_might_before() {
    let scratch = Scratch::in_public();
    let outside = std::process::Command::new("nproc").output().unwrap();
    let capabilities = shell().allow_write(scratch.path());
    in_each_tier_observed(&capabilities, Observe::Changes, |sandbox| {
        let files = scratch.path().display();
        let script = format!("for i in 1 2 3 4 5 6 7 8 9; do : >{files}/$i; done; nproc");
        let (exit, inside) = run(sandbox, &script);
        assert!(exit.status.success(), "{inside}");
        assert_eq!(inside, String::from_utf8_lossy(&outside.stdout));
    });
}
