//! Commands on terminals of their own.

use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use nono::{Child, Command, Exit, Sandbox, Terminal, TerminalSize};

use crate::common::{in_each_tier, shell};

/// A command on a terminal, and what it has shown.
struct Session {
    child: Child,
    terminal: Terminal,
    screen: String,
}

impl Session {
    fn start(sandbox: &Sandbox, argv: &[&str]) -> Self {
        let command = Command::new(argv).env("PS1", "ready> ").env("TERM", "vt100");
        let mut child = sandbox.spawn(command.terminal(TerminalSize::default())).unwrap();
        let terminal = child.take_terminal().unwrap();
        Session { child, terminal, screen: String::new() }
    }

    fn type_in(&mut self, keys: &str) {
        self.terminal.write_all(keys.as_bytes()).unwrap();
    }

    /// Reads until `text` has been shown, and forgets what came before.
    fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.screen.contains(text) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no {text:?} within 10 s: {:?}", self.screen);
            let mut poll = libc::pollfd {
                fd: self.terminal.as_fd().as_raw_fd(),
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one element.
            unsafe { libc::poll(&raw mut poll, 1, left.as_millis() as i32) };
            if poll.revents != 0 {
                let mut bytes = [0; 4096];
                let length = self.terminal.read(&mut bytes).unwrap();
                assert_ne!(length, 0, "the terminal closed before {text:?}: {:?}", self.screen);
                self.screen.push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        }
        let end = self.screen.find(text).unwrap() + text.len();
        self.screen.drain(..end);
    }

    /// Everything up to the end, and how it ended.
    fn finish(mut self) -> (Exit, String) {
        let mut rest = Vec::new();
        self.terminal.read_to_end(&mut rest).unwrap();
        self.screen.push_str(&String::from_utf8_lossy(&rest));
        (self.child.wait(), self.screen)
    }
}

#[test]
fn a_terminal_has_a_name_a_size_and_a_controlling_process() {
    in_each_tier(&shell(), |sandbox| {
        let script = "tty; test -t 0 -a -t 1 -a -t 2 && echo three; stty size; \
                      echo direct > /dev/tty; exit 3";
        let (exit, screen) = Session::start(sandbox, &["sh", "-c", script]).finish();
        assert!(screen.starts_with("/dev/pts/"), "{screen}");
        let rest = screen.split_once("\r\n").unwrap().1;
        assert_eq!(rest, "three\r\n24 80\r\ndirect\r\n");
        assert_eq!(exit.status.code(), Some(3));
    });
}

#[test]
fn resizing_tells_the_foreground_process() {
    in_each_tier(&shell(), |sandbox| {
        let script = "trap 'stty size; exit' WINCH; echo armed; while :; do sleep 0.05; done";
        let mut session = Session::start(sandbox, &["sh", "-c", script]);
        session.expect("armed");
        session.terminal.resize(TerminalSize { columns: 132, rows: 50 }).unwrap();
        session.expect("50 132");
        assert!(session.finish().0.status.success());
    });
}

#[test]
fn bash_controls_jobs() {
    in_each_tier(&shell(), |sandbox| {
        let mut session = Session::start(sandbox, &["bash", "--norc", "--noprofile", "-i"]);
        session.expect("ready> ");
        session.type_in("sleep 60\r");
        session.expect("sleep 60");
        wait_for_foreground(&session, "sleep");
        session.type_in("\x1a"); // Ctrl-Z
        session.expect("Stopped");
        session.expect("ready> ");
        session.type_in("bg; jobs\r");
        session.expect("Running");
        session.type_in("fg\r");
        session.expect("sleep 60");
        wait_for_foreground(&session, "sleep");
        session.type_in("\x03"); // Ctrl-C
        session.expect("^C");
        session.expect("ready> ");
        session.type_in("echo status $?\r");
        session.expect("status 130");
        session.expect("ready> ");
        session.type_in("\x04"); // Ctrl-D
        let (exit, screen) = session.finish();
        assert!(exit.status.success(), "{screen}");
    });
}

/// Waits until the terminal's foreground process group is led by such a program: only then do the
/// keys reach it.
fn wait_for_foreground(session: &Session, program: &str) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut group: libc::pid_t = 0;
        let fd = session.terminal.as_fd().as_raw_fd();
        // SAFETY: TIOCGPGRP writes a pid_t.
        unsafe { libc::ioctl(fd, libc::TIOCGPGRP, &raw mut group) };
        let name = std::fs::read_to_string(format!("/proc/{group}/comm")).unwrap_or_default();
        if name.trim_end() == program {
            return;
        }
        assert!(Instant::now() < deadline, "{name:?} stayed in the foreground");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn dropping_the_terminal_hangs_up() {
    in_each_tier(&shell(), |sandbox| {
        let mut session = Session::start(sandbox, &["sh", "-c", "echo begun; sleep 60; true"]);
        session.expect("begun");
        let Session { child, terminal, .. } = session;
        drop(terminal);
        assert_eq!(child.wait().status.signal(), Some(libc::SIGHUP));
    });
}

/// Row 26 of the escape corpus: the owner's own terminal, and every other one of the host.
#[test]
fn the_owners_terminal_is_out_of_reach() {
    let script = r#"
import ctypes, fcntl, os, sys
owner, pid = sys.argv[1:]
def attempt(what, call):
    try:
        print(what, "ALLOWED", call())
    except OSError as error:
        print(what, "refused")
attempt("by path", lambda: os.write(os.open(owner, os.O_WRONLY | os.O_NOCTTY), b"typed"))
attempt("by process", lambda: os.write(os.open(f"/proc/{pid}/fd/0", os.O_WRONLY | os.O_NOCTTY), b"typed"))
attempt("TIOCSTI", lambda: fcntl.ioctl(0, 0x5412, b"x"))
attempt("TIOCSTI on /dev/tty", lambda: fcntl.ioctl(os.open("/dev/tty", os.O_RDWR), 0x5412, b"x"))
attempt("TIOCLINUX", lambda: fcntl.ioctl(0, 0x541C, b"\x02"))
attempt("TIOCSETD", lambda: fcntl.ioctl(0, 0x5423, b"\0\0\0\0"))
attempt("console", lambda: os.open("/dev/console", os.O_WRONLY | os.O_NOCTTY))
attempt("tty0", lambda: os.open("/dev/tty0", os.O_WRONLY | os.O_NOCTTY))
print("own", os.write(os.open("/dev/tty", os.O_WRONLY), b"!"))
"#;
    // With a number that no terminal of the sandbox's own has.
    let mut terminals: Vec<_> = (0..4).map(|_| a_terminal_of_the_owner()).collect();
    let (owner, name) = terminals.pop().unwrap();
    in_each_tier(&shell(), |sandbox| {
        let pid = std::process::id().to_string();
        let argv = ["python3", "-c", script, name.as_str(), pid.as_str()];
        let (_, screen) = Session::start(sandbox, &argv).finish();
        assert!(!screen.contains("ALLOWED"), "{screen}");
        assert_eq!(screen.matches("refused").count(), 8, "{screen}");
        assert!(screen.ends_with("!own 1\r\n"), "{screen}");
    });
    let mut unread: libc::c_int = 0;
    // SAFETY: FIONREAD writes an int.
    unsafe { libc::ioctl(owner.as_raw_fd(), libc::FIONREAD, &raw mut unread) };
    assert_eq!(unread, 0, "something was written to the owner's terminal");
}

/// The far end of a terminal of the host, and the path of its near end.
fn a_terminal_of_the_owner() -> (OwnedFd, String) {
    let (mut far, mut near) = (-1, -1);
    let mut name: [libc::c_char; 64] = [0; 64];
    // SAFETY: the kernel writes two descriptors, libc a path that is shorter than the buffer.
    unsafe {
        let (no_settings, no_size) = (std::ptr::null(), std::ptr::null());
        assert_eq!(
            libc::openpty(&raw mut far, &raw mut near, name.as_mut_ptr(), no_settings, no_size),
            0
        );
        let name = std::ffi::CStr::from_ptr(name.as_ptr()).to_str().unwrap().to_owned();
        // Both are new; the near end is left open for as long as this process lives.
        (OwnedFd::from_raw_fd(far), name)
    }
}
