//! Paths refused inside what is granted, in each tier: by place and by form, existing and not.

use nono::{Capabilities, Command};

use crate::common::{Scratch, in_each_tier, run, run_command, shell};

fn denying(scratch: &Scratch, deny: &[&str]) -> Capabilities {
    deny.iter().fold(shell().allow_write(scratch.path()), |capabilities, pattern| {
        let is_form = pattern.starts_with("**/");
        let path = if is_form { (*pattern).into() } else { scratch.path().join(pattern) };
        capabilities.deny(path)
    })
}

#[test]
fn ordinary_work_goes_on() {
    let scratch = Scratch::new();
    scratch.file("d/secret", "the secret");
    in_each_tier(&denying(&scratch, &["d", "**/*.pem"]), |sandbox| {
        let (exit, output) = run(
            sandbox,
            &format!(
                "set -e; cd {}; rm -rf work; mkdir -p work/deep; cd work; echo one >a; cat a; \
                 echo two >>a; cp a b; mv b c; ln -s c d; cat d; ln c e; cat e; rm c; chmod 600 a; \
                 touch -d 2020-01-01 a; stat -c '%a %Y' a; mkfifo f; (echo through >f &); cat f; \
                 rmdir deep; ls; cat <a >/dev/stdout; echo x >/dev/null; (cat /proc/self/comm 2>/dev/null || echo cat); \
                 umask 077; echo >g; stat -c %a g; cat /dev/fd/3 3<a; truncate -s 1 a; wc -c a",
                scratch.path().display()
            ),
        );
        assert!(exit.status.success(), "{output}");
        let expected = "one\none\ntwo\none\ntwo\n600 1577836800\nthrough\na\nd\ne\nf\none\ntwo\ncat\n600\none\ntwo\n1 a\n";
        assert_eq!(output, expected);
    });
}

/// Runs attacks of a Python script, `attempt(name, function)`; each must be refused.
fn refused(scratch: &Scratch, deny: &[&str], script: &str) {
    let preamble = r"
import ctypes, errno, os, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
W = sys.argv[1]
def attempt(name, call):
    try: result = call()
    except OSError as error: return print(name, errno.errorcode[error.errno])
    print(name, 'SUCCEEDED', repr(result)[:60])
def read(path):
    with open(path, 'rb') as file: return file.read(64)
def write(path):
    with open(path, 'wb') as file: file.write(b'x')
";
    in_each_tier(&denying(scratch, deny), |sandbox| {
        let argv = ["/usr/bin/python3".to_owned(), "-c".into(), format!("{preamble}{script}")];
        let argv = argv.into_iter().chain([scratch.path().display().to_string()]);
        let (exit, output) = run_command(sandbox, Command::new(argv));
        assert!(exit.status.success(), "{output}");
        assert!(!output.is_empty() && !output.contains("SUCCEEDED"), "{output}");
        println!("{output}");
    });
}

#[test]
fn a_denied_directory_is_not_reached() {
    let scratch = Scratch::new();
    scratch.file("d/secret", "the secret");
    scratch.file("a/b/secret", "the other secret");
    scratch.file("target/key", "a key");
    std::fs::hard_link(scratch.path().join("d/secret"), scratch.path().join("host-link")).unwrap();
    std::os::unix::fs::symlink(scratch.path().join("target/key"), scratch.path().join("d/key"))
        .unwrap();
    refused(
        &scratch,
        &["d", "a/b/secret", "later/secret"],
        r#"
S = W + '/d/secret'
attempt('open', lambda: read(S))
attempt('list', lambda: os.listdir(W + '/d'))
attempt('write', lambda: write(S))
attempt('create', lambda: write(W + '/d/new'))
attempt('create later', lambda: write(W + '/later/secret') if os.makedirs(W + '/later', exist_ok=True) is None else 0)
attempt('mkdir', lambda: os.mkdir(W + '/d/new'))
attempt('delete', lambda: os.unlink(S))
attempt('hard link', lambda: os.link(S, W + '/link'))
attempt('hard link of the host', lambda: read(W + '/host-link'))
os.path.lexists(W + '/sym') or os.symlink(S, W + '/sym')
attempt('symbolic link', lambda: read(W + '/sym'))
attempt('target of a link inside', lambda: read(W + '/target/key'))
attempt('/proc/self/root', lambda: read('/proc/self/root' + S))
attempt('/proc/self/cwd', lambda: (os.chdir(W), read('/proc/self/cwd/d/secret')))
attempt('/proc/thread-self/root', lambda: read('/proc/thread-self/root' + S))
attempt('relative', lambda: read('d/../d/./secret'))
attempt('dirfd', lambda: os.open('secret', os.O_RDONLY, dir_fd=os.open(W + '/d', os.O_PATH)))
attempt('O_PATH', lambda: read('/proc/self/fd/%d' % os.open(S, os.O_PATH)))
attempt('O_PATH by /dev/fd', lambda: read('/dev/fd/%d' % os.open(S, os.O_PATH)))
attempt('rename it', lambda: os.rename(S, W + '/moved'))
attempt('rename the directory', lambda: os.rename(W + '/d', W + '/moved'))
attempt('rename above a denied file', lambda: os.rename(W + '/a', W + '/moved'))
attempt('rename next above', lambda: os.rename(W + '/a/b', W + '/moved'))
attempt('put something in its place', lambda: (write(W + '/other'), os.rename(W + '/other', W + '/a/b/secret')))
attempt('exchange', lambda: libc.renameat2(-100, (W + '/other').encode(), -100, S.encode(), 2) and (_ for _ in ()).throw(OSError(ctypes.get_errno(), '')))
attempt('a link where it will be', lambda: (os.rmdir(W + '/later'), os.symlink(W + '/elsewhere', W + '/later')))
attempt('chmod', lambda: os.chmod(S, 0o644))
attempt('utime', lambda: os.utime(S))
attempt('xattr', lambda: os.setxattr(S, 'user.x', b'1'))
attempt('truncate', lambda: os.truncate(S, 3))
attempt('chdir and open', lambda: (os.chdir(W + '/d'), read('secret')))
def openat2():
    how = (ctypes.c_uint64 * 3)(0, 0, 0)
    if libc.syscall(437, -100, S.encode(), how, 24) < 0: raise OSError(ctypes.get_errno(), '')
attempt('openat2', openat2)
attempt('execute', lambda: os.execv(S, [S]))
"#,
    );
    assert_eq!(std::fs::read(scratch.path().join("d/secret")).unwrap(), b"the secret");
}

#[test]
fn a_form_holds_whenever_a_path_comes_to_have_it() {
    let scratch = Scratch::new();
    scratch.file("keys/a.pem", "a key");
    scratch.file("deep/down/.env", "TOKEN=1");
    scratch.file("config/x.key", "a key");
    refused(
        &scratch,
        &["**/*.pem", "**/.env", "config/*.key"],
        r#"
attempt('open', lambda: read(W + '/keys/a.pem'))
attempt('deep', lambda: read(W + '/deep/down/.env'))
attempt('create', lambda: write(W + '/new.pem'))
attempt('mkdir', lambda: os.mkdir(W + '/dir.pem'))
attempt('rename to', lambda: (write(W + '/plain'), os.rename(W + '/plain', W + '/plain.pem')))
attempt('rename from', lambda: os.rename(W + '/keys/a.pem', W + '/plain2'))
attempt('link', lambda: os.link(W + '/keys/a.pem', W + '/plain3'))
attempt('symlink to', lambda: os.symlink('plain', W + '/plain4.pem'))
attempt('rename what leads to it', lambda: os.rename(W + '/config', W + '/moved'))
os.rename(W + '/keys', W + '/keys2')
attempt('under a new parent', lambda: read(W + '/keys2/a.pem'))
os.rename(W + '/keys2', W + '/keys')
"#,
    );
}

#[test]
fn a_denied_file_gets_no_other_name() {
    let scratch = Scratch::new();
    scratch.file("keys/a.pem", "a key");
    scratch.file("open", "open");
    refused(
        &scratch,
        &["**/*.pem"],
        r#"
K = W + '/keys/a.pem'
def linkat(base, source, flags):
    if libc.linkat(base, source.encode(), -100, (W + '/link').encode(), flags): raise OSError(ctypes.get_errno(), '')
attempt('link', lambda: os.link(K, W + '/link'))
attempt('relative', lambda: (os.chdir(W + '/keys'), os.link('a.pem', '../link')))
attempt('from a directory', lambda: linkat(os.open(W + '/keys', os.O_PATH), 'a.pem', 0))
os.path.lexists(W + '/sym') or os.symlink(K, W + '/sym')
attempt('through a link', lambda: linkat(-100, W + '/sym', 0x400))
attempt('by a descriptor', lambda: linkat(-100, '/proc/self/fd/%d' % os.open(K, os.O_PATH), 0x400))
attempt('by an empty path', lambda: linkat(os.open(K, os.O_PATH), '', 0x1000))
attempt('to a denied name', lambda: os.link(W + '/open', W + '/other.pem'))
attempt('by moving it', lambda: os.rename(K, W + '/link'))
attempt('by exchanging it', lambda: libc.renameat2(-100, K.encode(), -100, (W + '/open').encode(), 2) and (_ for _ in ()).throw(OSError(ctypes.get_errno(), '')))
attempt('by moving its directory to where no form holds', lambda: (os.rename(W + '/keys', W + '/k'), os.rename(W + '/k', W + '/keys'), read(K)))
attempt('any of these', lambda: read(W + '/link'))
"#,
    );
}

/// What a pattern cannot say is in the report: which other names a file had before.
#[test]
fn a_second_name_that_was_there_before_is_told_of_in_the_report() {
    let scratch = Scratch::new();
    let denied = scratch.file("a.pem", "a key");
    std::fs::hard_link(&denied, scratch.path().join("other")).unwrap();
    for (deny, is_kept) in [(denied.to_str().unwrap(), true), ("**/*.pem", false)] {
        in_each_tier(&shell().allow_write(scratch.path()).deny(deny), |sandbox| {
            let report = sandbox.guarantees().iter().find(|one| one.name == "fs-deny").unwrap();
            assert_eq!(report.status == nono::Status::Enforced, is_kept, "{report:?}");
            let (exit, _) = run(sandbox, &format!("cat {}/other", scratch.path().display()));
            assert_eq!(exit.status.success(), !is_kept);
        });
    }
}

#[test]
fn no_race_leads_around_a_denial() {
    let scratch = Scratch::new();
    scratch.file("aaaa/secret", "the secret");
    scratch.file("bbbb/secret", "not secret");
    // Corpus 8: another thread flips the path between two of the same length during the open; and
    // another process exchanges a symbolic link on the way.
    refused(
        &scratch,
        &["aaaa"],
        r#"
import time
buffer = ctypes.create_string_buffer((W + '/bbbb/secret').encode())
at = len(W) + 1
stop = False
def flip():
    while not stop:
        ctypes.memmove(ctypes.addressof(buffer) + at, b'aaaa', 4)
        ctypes.memmove(ctypes.addressof(buffer) + at, b'bbbb', 4)
def relink():
    while not stop:
        for name in ('aaaa', 'bbbb'):
            try: os.unlink(W + '/way')
            except OSError: pass
            try: os.symlink(W + '/' + name, W + '/way')
            except OSError: pass
sys.setswitchinterval(1e-6)
for thread in (flip, relink): threading.Thread(target=thread, daemon=True).start()
leaks = opened = 0
way = (W + '/way/secret').encode()
def look(path):
    global leaks, opened
    fd = libc.open(path, 0)
    if fd >= 0:
        opened += 1
        leaks += os.read(fd, 64) != b'not secret'
        os.close(fd)
end = time.time() + 3
while time.time() < end:
    look(buffer); look(way)
stop = True
print('opened', opened > 10, 'SUCCEEDED' if leaks or not opened else 'no leak')
"#,
    );
}

#[test]
fn a_denied_program_is_not_executed() {
    let scratch = Scratch::new();
    let copy = scratch.path().join("tool");
    std::fs::copy("/bin/true", &copy).unwrap();
    let capabilities = shell().allow_exec(scratch.path()).deny(&copy);
    in_each_tier(&capabilities, |sandbox| {
        let (exit, output) = run(sandbox, &format!("{}; echo $?", copy.display()));
        assert!(exit.status.success(), "{output}");
        assert!(output.contains("126"), "{output}");
    });
}
