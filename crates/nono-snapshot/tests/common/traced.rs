//! A program of which strace(1) kills or fails one system call.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// System calls that change something on disk.
const CHANGING: &str = "open,openat,mkdir,mkdirat,mknodat,rmdir,unlink,unlinkat,rename,renameat,\
    renameat2,link,linkat,symlinkat,write,pwrite64,ftruncate,chmod,fchmod,fchmodat,fchown,fchownat,\
    utimensat,setxattr,lsetxattr,fsetxattr,removexattr,lremovexattr,fremovexattr,fsync,syncfs";

/// This test program under strace, which does to calls what `option` says, and lists calls in `output`.
pub fn strace(option: &str, output: &Path) -> Command {
    let mut command = Command::new("strace");
    command
        .args(["--follow-forks", "--seccomp-bpf", "--quiet=all", option])
        .arg("--output")
        .arg(output);
    command.arg(std::env::current_exe().unwrap());
    command
}

/// Every changing call that a program makes, with its number among those of its name and thread.
pub fn calls(program: impl FnOnce(Command) -> Command) -> Vec<(String, usize)> {
    let list = tempfile::NamedTempFile::new().unwrap();
    program(strace(&format!("--trace={CHANGING}"), list.path())).output().unwrap();
    let (mut numbers, mut calls) = (HashMap::new(), Vec::new());
    for line in fs::read_to_string(list.path()).unwrap().lines() {
        let (thread, call) = line.split_once(' ').unwrap();
        let Some((call, _)) = call.trim_start().split_once('(') else { continue };
        if CHANGING.split(',').any(|name| name == call) {
            let number = numbers.entry((thread.to_owned(), call.to_owned())).or_insert(0);
            *number += 1;
            calls.push((call.to_owned(), *number));
        }
    }
    assert!(calls.len() > 20, "{calls:?}");
    calls
}

/// `NONO_CRASH_CALLS` is how far apart the calls are that are tried: 1 tries each, in half an hour.
pub fn calls_apart() -> usize {
    std::env::var("NONO_CRASH_CALLS").map_or(29, |text| text.parse().unwrap())
}

pub fn can_trace() -> bool {
    let traced =
        Command::new("strace").args(["--quiet=all", "--output=/dev/null", "true"]).status();
    let works = traced.is_ok_and(|status| status.success());
    if !works {
        println!("SKIPPED: rollback that dies at every system call: strace can't be used here");
    }
    works
}
