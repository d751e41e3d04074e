//! What commands can use up of what their owner's user has a number of in all: there is some left for the
//! owner.

use std::io::Read;
use std::os::unix::process::CommandExt;

use nono::{Command, Sandbox};

use crate::common::{in_each_tier, in_tier, run, shell};

/// Runs this test again in a process that may have few files open, unless it is that process.
fn in_a_process_with_few_files(test: &str) -> bool {
    const INSIDE: &str = "NONO_TEST_FEW_FILES";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let mut again = std::process::Command::new(std::env::current_exe().unwrap());
    again.args(["--exact", test, "--nocapture"]).env(INSIDE, "");
    let limit = libc::rlimit { rlim_cur: 512, rlim_max: 4096 };
    // SAFETY: a system call only, and what it reads lives in the closure.
    unsafe {
        again.pre_exec(move || match libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        })
    };
    let output = again.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    text.lines().filter(|line| line.starts_with("SKIPPED")).for_each(|line| println!("{line}"));
    false
}

#[test]
fn descriptors_on_their_way_leave_room_for_the_owners() {
    let name = "attacks_on_user::descriptors_on_their_way_leave_room_for_the_owners";
    if !in_a_process_with_few_files(name) {
        return;
    }
    // As many descriptors in messages that nobody takes as one may: the kernel counts them by user.
    let script = r"
import array, os, resource, socket, time
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
null, pairs, sent = os.open('/dev/null', os.O_RDONLY), [], 0
rights = lambda count: [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array('i', [null] * count))]
try:
    while sent < 10_000:
        pairs.append(socket.socketpair())
        for turn in range(20): pairs[-1][0].sendmsg([b'x'], rights(253)); sent += 253
    print('more', flush=True)
except OSError as error: print(error.errno, flush=True)
time.sleep(1000)
";
    in_each_tier(&shell(), |attacked| {
        let (mut reader, writer) = std::io::pipe().unwrap();
        let null = || std::fs::File::open("/dev/null").unwrap().into();
        let command = Command::new(["/usr/bin/python3", "-I", "-S", "-c", script]);
        let _attack = attacked.spawn(command.stdio(vec![null(), writer.into(), null()])).unwrap();
        let mut told = [0; 4];
        reader.read_exact(&mut told).unwrap();
        if &told == b"more" {
            println!("SKIPPED: descriptors on their way: this process may send any number");
        } else {
            assert_eq!(told[..], *format!("{}\n", libc::ETOOMANYREFS).as_bytes());
        }
        let another = Sandbox::create(&shell(), &in_tier(attacked.tier())).unwrap();
        for sandbox in [attacked, &another] {
            let (exit, output) = run(sandbox, "ulimit -Sn; ulimit -Hn");
            assert!(exit.status.success() && output == "512\n3072\n", "{output}");
        }
        attacked.close();
    });
}
