//! What is told about each call of real programs is what the kernel answered to it, according to
//! strace(1), which looks on from outside: no call without its event, no event without its call, and
//! the same errno in both.
//!
//! Differences that are meant, and looked for by name here:
//! - an open that only names a file (`O_PATH`), `openat2` (it does not exist inside, and programs
//!   then call `openat`) and an execve that fails without a rule's doing are not told of;
//! - reading that no rule refuses, and a connect, bind or listen that is yet to be made, are told of without an
//!   errno: then the kernel must not have refused them either; a connection under way is told as made;
//! - what fails without a rule's doing (ENOENT; file modes, EACCES) is told of and no violation.

mod expected;
mod strace;

use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nono::{Capabilities, Command, Event, Network, Observe, Operation, Options, Sandbox, TierName};

use crate::common::{Scratch, in_tier, shell};
use expected::Expected;

/// A program at work, by the tool that it takes. It starts in an empty directory next to `../input`,
/// `../closed` (which nothing grants) and `../services`.
struct Program {
    tool: &'static str,
    script: &'static str,
    /// Refusals that it cannot but meet, at least so many.
    refused: u64,
    /// Whether it has a network; else it has none.
    gate: bool,
}

const EACH_CALL: Program =
    Program { tool: "python3", script: "python3 ../input/calls.py", refused: 40, gate: true };

const GIT: Program = Program {
    tool: "git",
    script: "git init -q -b main r; cd r; git config user.name a; git config user.email a@a.test; \
            cp ../../input/a.h ../../input/b.c .; git add .; git commit -qm one; git mv b.c c.c; \
            git commit -qam two; git status --short; cd ..; git clone -q r clone; cd clone; \
            git log --format=%s; git checkout -q -b topic; git gc -q; git status; \
            git clone -q ../../closed/r 2>/dev/null || true; \
            echo '*' >>.git/hooks/pre-commit || true; git --git-dir=../../closed/r/.git log || true",
    refused: 3,
    gate: false,
};

const PYTHON: Program = Program {
    tool: "python3",
    script: "python3 -c \"import json, email.mime.text, http.client, sqlite3, asyncio, unittest, \
            multiprocessing, xml.dom.minidom, concurrent.futures, ctypes, decimal, tempfile, shutil; \
            shutil.copytree('../input', 'copy', symlinks=True); c = sqlite3.connect('db'); \
            c.execute('create table t (x)'); c.commit(); tempfile.TemporaryFile(dir='.').write(b'x'); \
            shutil.rmtree('copy')\"; python3 -m pip --version || true; \
            python3 -c \"open('../closed/secret')\" || true; python3 -m json.tool ../input/x.json y.json",
    refused: 1,
    gate: false,
};

const NPM: Program = Program {
    tool: "npm",
    script: "export npm_config_cache=$PWD/cache npm_config_userconfig=$PWD/npmrc; npm --version; \
            npm init -y >/dev/null; npm install --offline --no-audit --no-fund ../input/package; \
            node -e \"console.log(require('local'))\"; npm ls; npm run --silent nothing || true; \
            node -e \"require('fs').readFileSync('../closed/secret')\" || true",
    refused: 1,
    gate: false,
};

const MAKE: Program = Program {
    tool: "make",
    script: "make -s -j2 -f ../input/Makefile SOURCE=../input; ./program; \
            make -s -j2 -f ../input/Makefile SOURCE=../closed OBJECT=o -B || true",
    refused: 1,
    gate: false,
};

/// The port that a network has.
const GATE: u16 = 443;

/// Calls of each kind that events are about; each is made on something that may be changed, on
/// something that nothing grants, and on what is not there or in the way.
const CALLS: &str = r"
import os, socket, sys
W, O = os.getcwd(), os.path.dirname(os.getcwd()) + '/closed'
def call(function, *arguments, **named):
    try: return function(*arguments, **named)
    except OSError: return -1
for place in (W, O, W + '/nowhere', '.', '../closed', '../services'):
    f, g, d = place + '/file', place + '/other', place + '/directory'
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_CREAT, os.O_CREAT | os.O_WRONLY,
                  os.O_CREAT | os.O_EXCL | os.O_RDWR, os.O_TRUNC | os.O_WRONLY, os.O_PATH,
                  os.O_APPEND | os.O_WRONLY, os.O_DIRECTORY, os.O_CREAT | os.O_NOFOLLOW | os.O_RDWR):
        call(os.open, f, flags, 0o600)
        call(os.open, d, flags, 0o600)
        call(os.open, place + '/secret', flags, 0o600)
        call(os.open, place + '/.env', flags, 0o600)
        call(os.open, place + '/.mcp.json', flags, 0o600)
    call(os.open, place, os.O_TMPFILE | os.O_RDWR)
    call(os.mkdir, d); call(os.mkdir, d); call(os.mkdir, d + '/deep/down'); call(os.rmdir, place)
    call(os.symlink, 'file', place + '/symlink'); call(os.symlink, 'x', f)
    call(os.link, f, place + '/hard'); call(os.link, O + '/secret', place + '/stolen')
    call(os.mkfifo, place + '/fifo'); call(os.mknod, place + '/device', 0o20666, os.makedev(1, 3))
    call(os.rename, f, g); call(os.rename, g, f); call(os.rename, f, d); call(os.rename, d, f)
    call(os.rename, f, O + '/file'); call(os.rename, O + '/secret', f)
    for name in (f, place + '/secret', place + '/symlink', d, place + '/.env'):
        call(os.truncate, name, 1); call(os.chmod, name, 0o640); call(os.utime, name)
        call(os.chown, name, -1, -1); call(os.utime, name, follow_symlinks=False)
        call(os.setxattr, name, 'user.x', b'1'); call(os.removexattr, name, 'user.x')
        fd = call(os.open, name, os.O_RDONLY)
        if fd >= 0:
            call(os.fchmod, fd, 0o640); call(os.utime, fd); call(os.fchown, fd, -1, -1)
            call(os.setxattr, fd, 'user.x', b'1'); call(os.removexattr, fd, 'user.x'); os.close(fd)
    call(os.unlink, d); call(os.rmdir, f)
    for name in ('file', 'other', 'symlink', 'hard', 'fifo', 'secret', 'nothing', '.env', ''):
        call(os.unlink, place + '/' + name)
    for name in ('directory', 'nothing', 'directory/..', '.'): call(os.rmdir, place + '/' + name)
    unix = lambda: socket.socket(socket.AF_UNIX)
    call(unix().connect, place + '/socket'); call(unix().bind, place + '/socket')
    call(unix().connect, place + '/socket'); call(os.unlink, place + '/socket')
    os.path.exists(place) and call(os.close, call(os.open, 'file', os.O_CREAT | os.O_RDWR, dir_fd=os.open(place, os.O_PATH)))
for family in (socket.AF_INET, socket.AF_INET6, socket.AF_PACKET, socket.AF_VSOCK, socket.AF_NETLINK):
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW): call(socket.socket, family, kind)
call(unix().connect, '\0abstract'); call(unix().bind, '\0abstract')
for port in (443, 22, 9):
    for address in ('203.0.113.9', '127.0.0.1', '0.0.0.0'):
        for wait in (True, False):
            tcp = socket.socket(); tcp.setblocking(wait); call(tcp.connect, (address, port))
    six = call(socket.socket, socket.AF_INET6)
    if six != -1: call(six.connect, ('::ffff:203.0.113.9', port)); call(six.connect, ('2001:db8::9', port))
for address in (('127.0.0.1', 0), ('127.0.0.1', 8080), ('0.0.0.0', 443), ('192.0.2.1', 80), ('0.0.0.0', 80)):
    server = socket.socket(); call(server.bind, address); call(server.listen); call(server.listen)
server = unix(); call(server.bind, W + '/server'); call(server.listen); call(unix().connect, 'server')
call(unix().listen); call(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).listen)
open(W + '/shut', 'w').close(); os.chmod(W + '/shut', 0)
call(open, W + '/shut'); call(open, W + '/shut', 'w'); call(os.execv, W + '/shut', ['x'])
open(W + '/empty', 'w').close(); os.chmod(W + '/empty', 0o700); call(os.execv, W + '/empty', ['x'])
for name in (O + '/program', O + '/secret', W + '/nowhere', W): call(os.execv, name, ['x'])
";

#[test]
fn each_call() {
    told_as_answered(&EACH_CALL);
}

#[test]
fn git() {
    told_as_answered(&GIT);
}

#[test]
fn python() {
    told_as_answered(&PYTHON);
}

#[test]
fn npm() {
    told_as_answered(&NPM);
}

#[test]
fn make() {
    told_as_answered(&MAKE);
}

/// Wants the events of a program to be what the kernel answered, in each tier.
fn told_as_answered(program: &Program) {
    if !Path::new("/usr/bin/strace").exists() {
        return println!("SKIPPED: events and the kernel's answers: strace is not installed");
    }
    if !Path::new("/usr/bin").join(program.tool).exists() {
        return println!("SKIPPED: events of {}: it is not installed", program.tool);
    }
    let scratch = Scratch::in_public();
    prepare(&scratch);
    for tier in nono::support().tiers {
        if let Some(reason) = tier.unavailable {
            println!("SKIPPED: the {} tier: {reason}", tier.name.as_str());
            continue;
        }
        // With a pattern denied, reads too are made by the supervisor, and have an errno.
        let variants: &[bool] = match (program.gate, tier.name) {
            (true, _) => &[false, true],
            (false, TierName::Namespaces) => &[false],
            (false, TierName::Flat) => &[true],
        };
        for &denied in variants {
            let what = format!("{} in the {} tier", program.tool, tier.name.as_str());
            let place = scratch.path().join(format!("{}-{denied}", tier.name.as_str()));
            std::fs::create_dir(&place).unwrap();
            let capabilities = capabilities(&scratch, program, &place, denied);
            let options = Options { observe: Observe::All, ..in_tier(tier.name) };
            let sandbox = Sandbox::create(&capabilities, &options).unwrap();
            let log = place.with_extension("log");
            let Some((calls, events)) = trace(&sandbox, program, &place, &log) else {
                return println!("SKIPPED: events and the kernel's answers: strace cannot attach");
            };
            println!("{what}: {} calls, {} events", calls.len(), events.len());
            compare(&what, program, &place, calls, events);
        }
    }
}

fn capabilities(scratch: &Scratch, program: &Program, place: &Path, denied: bool) -> Capabilities {
    let npm = ["/usr/lib/node_modules", "/usr/share/nodejs", "/usr/share/npm"];
    let capabilities = shell()
        .allow_exec("/usr/lib/git-core")
        .allow_exec("/usr/lib/gcc")
        .allow_exec(place)
        .allow_read(scratch.path().join("input"))
        .allow_write(place);
    let capabilities = npm
        .iter()
        .filter(|path| Path::new(path).exists())
        .fold(capabilities, |capabilities, path| capabilities.allow_exec(path));
    let capabilities = match program.gate {
        true => capabilities.network(Network::Gate { ports: vec![GATE] }),
        false => capabilities,
    };
    if denied { capabilities.deny("**/.env") } else { capabilities }
}

fn prepare(scratch: &Scratch) {
    scratch.file("input/a.h", "#define A 1\n");
    scratch.file("input/b.c", "#include \"a.h\"\nint main(void) { return A - 1; }\n");
    scratch.file("input/x.json", "{}");
    scratch.file("input/calls.py", CALLS);
    scratch.file("input/package/package.json", r#"{"name": "local", "version": "1.0.0"}"#);
    scratch.file("input/package/index.js", "module.exports = 1");
    scratch.file("closed/secret", "x");
    scratch.file("closed/b.c", "int main(void) { return 0; }\n");
    scratch.file("closed/r/.git/HEAD", "ref: refs/heads/main\n");
    scratch.file("services/.env", "x");
    let program = scratch.path().join("closed/program");
    std::fs::copy("/bin/true", program).unwrap();
    let makefile = "OBJECT = b\nprogram: $(OBJECT).o c.o\n\tcc -o $@ $^\n\
        $(OBJECT).o:\n\tcc -c -o $@ $(SOURCE)/b.c\nc.o:\n\techo 'int c;' >c.c; cc -c -o $@ c.c\n";
    scratch.file("input/Makefile", makefile);
}

/// Runs a program that waits until strace is there; then nothing it does goes unseen. `None`: strace
/// cannot be there.
fn trace(
    sandbox: &Sandbox,
    program: &Program,
    place: &Path,
    log: &Path,
) -> Option<(Vec<strace::Returned>, Vec<Event>)> {
    let (wait, mut go) = std::io::pipe().unwrap();
    let (mut output, writer) = std::io::pipe().unwrap();
    let error: OwnedFd = writer.as_fd().try_clone_to_owned().unwrap();
    let script = format!("umask 022; echo; read go; exec </dev/null; {}", program.script);
    let command = Command::new(["/bin/sh", "-c", &script])
        .cwd(place)
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", place)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .stdio(vec![wait.into(), writer.into(), error]);
    let child = sandbox.spawn(command).unwrap();
    output.read_exact(&mut [0]).unwrap();
    let start = sandbox.events().take(usize::MAX).0;
    let pid = start.last().unwrap().process.pid;
    let tracer = strace::Tracer::attach(pid, expected::CALLS, log)?;
    go.write_all(b"\n").unwrap();
    let mut printed = String::new();
    output.read_to_string(&mut printed).unwrap();
    let exit = child.wait();
    let calls = tracer.finish();
    let (events, lost) = sandbox.events().take(usize::MAX);
    assert_eq!(lost, nono::Lost::default());
    assert!(exit.status.success(), "{}: {printed}", program.script);
    Some((calls, events))
}

fn compare(
    what: &str,
    program: &Program,
    place: &Path,
    calls: Vec<strace::Returned>,
    mut events: Vec<Event>,
) {
    let refused: u64 =
        events.iter().filter(|event| event.refused.is_some()).map(|event| event.count).sum();
    assert!(refused >= program.refused, "{what}: {refused} refused");
    let mut odd = Vec::new();
    let mut expected: Vec<_> =
        calls.iter().filter_map(|call| expected::event_of(call, place)).collect();
    // Those with fewest ways to be told first, so that none takes another's event.
    expected.sort_by_key(|expected| (expected.operations.len(), expected.errno == 0));
    for expected in expected {
        let found = [true, false].iter().find_map(|exactly| {
            events.iter().position(|event| {
                let same = match event.errno {
                    Some(errno) => *exactly && errno == expected.errno,
                    None => !exactly && may_go_unseen(event.operation),
                };
                same && expected.is_about(event)
            })
        });
        let Some(found) = found else {
            if !is_not_told(&expected) {
                odd.push(format!("no event: {}", expected.call));
            }
            continue;
        };
        let event = &mut events[found];
        if let Some(reason) = contradiction(&expected, event) {
            odd.push(format!("{reason}: {}: {event:?}", expected.call));
        }
        event.count -= 1;
        if event.count == 0 {
            events.remove(found);
        }
    }
    odd.extend(events.iter().map(|event| format!("no call: {event:?}")));
    let count = odd.len();
    odd.truncate(40);
    assert!(odd.is_empty(), "{what}: {count} differences:\n{}", odd.join("\n"));
}

/// An execve() that fails without a rule's doing.
fn is_not_told(expected: &Expected) -> bool {
    let is_execution = expected.operations == [Operation::Execute];
    is_execution && (expected.errno != libc::EACCES || file_modes_refuse(expected))
}

fn may_go_unseen(operation: Operation) -> bool {
    matches!(operation, Operation::Read | Operation::Connect | Operation::Bind | Operation::Listen)
}

/// What is wrong with an event that has the call's name and errno, or no errno.
fn contradiction(expected: &Expected, event: &Event) -> Option<&'static str> {
    let by_a_rule = match (expected.errno, event.operation) {
        // Ports below 1024 are for a capability that nobody inside has (`ip(7)`).
        (libc::EACCES, Operation::Bind) => expected.address().is_none(),
        (libc::EACCES, _) => !file_modes_refuse(expected),
        // Nobody is where the gate is not, but on loopback that is nobody's doing.
        (libc::ECONNREFUSED, Operation::Connect) => expected.leaves_out(GATE),
        (libc::EAFNOSUPPORT | libc::EOPNOTSUPP, operation) => operation == Operation::SystemCall,
        (errno, _) => matches!(errno, libc::EPERM | libc::EROFS | libc::EXDEV),
    };
    match (event.refused.is_some(), by_a_rule) {
        (true, false) => Some("called a violation, but it is none"),
        (false, true) => Some("refused, but not told so"),
        _ => None,
    }
}

/// Whether the file's own kind or mode refuses it: one of the tests' is closed to everybody.
fn file_modes_refuse(expected: &Expected) -> bool {
    let Some(file) = expected.path.as_deref().and_then(|path| path.metadata().ok()) else {
        return false;
    };
    match expected.operations[..] {
        [Operation::Execute] => !file.is_file() || file.mode() & 0o111 == 0,
        _ => file.mode() & 0o777 == 0,
    }
}
