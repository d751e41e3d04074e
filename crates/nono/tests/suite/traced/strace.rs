//! strace(1), attached from outside to a command that waits for it: what the kernel really answered.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A system call that has returned.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) name: String,
    pub(super) arguments: Vec<String>,
    pub(super) errno: i32,
    line: String,
}

impl std::fmt::Display for Returned {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.line)
    }
}

/// A tracer at work. It writes one file for each thread, so that no line is torn.
pub(super) struct Tracer {
    process: Child,
    directory: PathBuf,
}

impl Tracer {
    /// Attaches to a process, and to all that it starts from now on. `None`: nobody may here.
    pub(super) fn attach(pid: i32, calls: &[&str], directory: &Path) -> Option<Self> {
        std::fs::create_dir(directory).unwrap();
        let mut process = Command::new("strace")
            .args(["-f", "-ff", "-y", "-qq", "-s", "5000", "-e", "signal=none", "-e"])
            .arg(format!("trace={}", calls.join(",")))
            .arg("-o")
            .arg(directory.join("thread"))
            .args(["-p", &pid.to_string()])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let start = Instant::now();
        while !is_traced(pid) {
            if process.try_wait().unwrap().is_some() {
                return None;
            }
            assert!(start.elapsed() < Duration::from_secs(60), "strace does not attach");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(Tracer { process, directory: directory.to_owned() })
    }

    /// What was called until everything that was traced has ended.
    pub(super) fn finish(mut self) -> Vec<Returned> {
        self.process.wait().unwrap();
        let mut calls = Vec::new();
        for file in std::fs::read_dir(&self.directory).unwrap() {
            let text = std::fs::read(file.unwrap().path()).unwrap();
            calls.extend(String::from_utf8_lossy(&text).lines().filter_map(parse));
        }
        calls
    }
}

fn is_traced(pid: i32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim() != "0")
}

/// `name(argument, …) = 0` or `… = -1 EACCES (…)`; nothing of what starts again, or did not
/// return but by ending its process.
fn parse(line: &str) -> Option<Returned> {
    let (name, rest) = line.split_once('(')?;
    let (arguments, rest) = split_arguments(rest)?;
    let result = rest.trim_start().strip_prefix("= ")?;
    let errno = match result.strip_prefix("-1 ") {
        Some(error) => errno(error.split(' ').next()?)?,
        None if result.starts_with('?') && name != "exit_group" => return None,
        None => 0,
    };
    Some(Returned { name: name.to_owned(), arguments, errno, line: line.to_owned() })
}

/// Arguments up to the closing parenthesis, and what follows it.
fn split_arguments(text: &str) -> Option<(Vec<String>, &str)> {
    let (mut arguments, mut one) = (Vec::new(), String::new());
    let (mut depth, mut quoted, mut escaped) = (0, false, false);
    for (at, character) in text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '[' | '{' | '<' => depth += 1,
            ')' if depth == 0 => {
                arguments.extend((!one.is_empty()).then_some(one));
                return Some((arguments, &text[at + 1..]));
            }
            ')' | ']' | '}' | '>' => depth -= 1,
            ',' if depth == 0 => {
                arguments.push(std::mem::take(&mut one));
                continue;
            }
            ' ' if one.is_empty() => continue,
            _ => {}
        }
        one.push(character);
    }
    None
}

/// A string argument without its quotes and escapes (`-s` is longer than any path).
pub(super) fn string(argument: &str) -> Option<String> {
    let inner = argument.strip_prefix('"')?.strip_suffix('"')?;
    let mut bytes = Vec::new();
    let mut rest = inner.bytes().peekable();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next()? {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'v' => 0x0b,
            b'f' => 0x0c,
            digit @ b'0'..=b'7' => {
                let mut value = u32::from(digit - b'0');
                for _ in 0..2 {
                    let Some(next @ b'0'..=b'7') = rest.peek().copied() else { break };
                    value = value * 8 + u32::from(next - b'0');
                    rest.next();
                }
                value as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

/// What `-y` says that a descriptor stands for.
pub(super) fn descriptor(argument: &str) -> Option<&str> {
    let path = argument.split_once('<')?.1;
    Some(&path[..path.rfind('>')?])
}

macro_rules! numbers {
    ($name:expr, $($errno:ident)*) => {
        match $name {
            $(stringify!($errno) => Some(libc::$errno),)*
            _ => None,
        }
    };
}

fn errno(name: &str) -> Option<i32> {
    let known = numbers!(name, EPERM ENOENT EINTR EIO ENXIO E2BIG ENOEXEC EBADF EAGAIN ENOMEM EACCES
        EFAULT EBUSY EEXIST EXDEV ENODEV ENOTDIR EISDIR EINVAL EMFILE ENOTTY ETXTBSY EFBIG ENOSPC
        EROFS EMLINK ERANGE ENAMETOOLONG ENOSYS ENOTEMPTY ELOOP ENODATA EOPNOTSUPP EAFNOSUPPORT
        EPROTONOSUPPORT ESOCKTNOSUPPORT EADDRINUSE EADDRNOTAVAIL ENETUNREACH ECONNREFUSED EINPROGRESS EALREADY EISCONN
        ENOTCONN ENOTSOCK ENOPROTOOPT EDESTADDRREQ EPIPE ECONNRESET ETIMEDOUT ECHILD ESRCH ESPIPE);
    assert!(known.is_some() || name.starts_with("ERESTART"), "an errno that is not listed: {name}");
    known
}

#[test]
fn lines_of_strace_are_understood() {
    let line =
        r#"openat(AT_FDCWD</a, b>, "x\"\\\303\244, (", O_RDONLY) = -1 ENOENT (No such file)"#;
    let call = parse(line).unwrap();
    assert_eq!((call.name.as_str(), call.errno), ("openat", libc::ENOENT));
    assert_eq!(descriptor(&call.arguments[0]), Some("/a, b"));
    assert_eq!(string(&call.arguments[1]).as_deref(), Some("x\"\\ä, ("));
    let line = r#"connect(3<socket:[1]>, {sa_family=AF_UNIX, sun_path="/a"}, 110) = 0"#;
    assert_eq!(parse(line).unwrap().arguments.len(), 3);
    assert!(parse("wait4(-1, 0x1) = ? ERESTARTSYS (To be restarted)").is_none());
    assert!(parse("+++ exited with 0 +++").is_none());
}
