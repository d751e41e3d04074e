//! Machines that refuse what nono would rather use.

use std::thread;

use crate::common::in_any_tier;

/// What the default seccomp profile of container engines refuses to processes without capabilities,
/// as far as nono could meet it (and ptrace and process_vm_readv, which older versions refuse too).
const REFUSED: [libc::c_long; 33] = [
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_kcmp,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_open_by_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_process_madvise,
    libc::SYS_sethostname,
    libc::SYS_syslog,
    libc::SYS_quotactl,
    libc::SYS_chroot,
];

/// Runs a test on a thread that is filtered like a process in a default container, with all that it
/// starts.
pub(crate) fn in_container<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let contained = scope.spawn(|| {
            contain_this_thread();
            test()
        });
        match contained.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Makes one call fail on this thread and in what it starts. Returns what seccomp(2) returned with
/// these flags.
pub(crate) fn filter_this_thread(refused: libc::c_long, errno: i32, flags: u64) -> libc::c_long {
    install(vec![load(NUMBER), equal(refused, 0, 1), fail(errno)], flags)
}

/// As a container does: new namespaces fail as well.
fn contain_this_thread() {
    const NEW_NAMESPACES: u32 = 0x7e02_0000;
    let mut program = vec![load(NUMBER)];
    for number in REFUSED {
        program.extend([equal(number, 0, 1), fail(libc::EPERM)]);
    }
    program.extend([equal(libc::SYS_clone3, 0, 1), fail(libc::ENOSYS)]);
    let any_bit = libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K;
    program.extend([
        equal(libc::SYS_clone, 0, 3),
        load(FIRST_ARGUMENT),
        instruction(any_bit, 0, 1, NEW_NAMESPACES),
        fail(libc::EPERM),
    ]);
    install(program, 0);
}

// Offsets in struct seccomp_data.
const NUMBER: u32 = 0;
const FIRST_ARGUMENT: u32 = 16;

fn instruction(code: u32, jt: u8, jf: u8, k: u32) -> libc::sock_filter {
    libc::sock_filter { code: code as u16, jt, jf, k }
}

fn load(offset: u32) -> libc::sock_filter {
    instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, offset)
}

fn equal(number: libc::c_long, jt: u8, jf: u8) -> libc::sock_filter {
    instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, number as u32)
}

fn fail(errno: i32) -> libc::sock_filter {
    instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno as u32)
}

fn install(mut program: Vec<libc::sock_filter>, flags: u64) -> libc::c_long {
    let allow = libc::SECCOMP_RET_ALLOW;
    program.push(instruction(libc::BPF_RET | libc::BPF_K, 0, 0, allow));
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program lives across the calls.
    let installed = unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    assert!(installed >= 0, "{}", std::io::Error::last_os_error());
    installed
}

/// The same tests once more where no user namespace can be made: in one whose own bound is 0, which
/// changes nothing on the host (`user_namespaces(7)`).
#[test]
fn without_user_namespaces_the_flat_tier_does() {
    const INSIDE: &str = "NONO_TEST_WITHOUT_USER_NAMESPACES";
    if std::env::var_os(INSIDE).is_some() {
        let support = nono::support();
        assert!(!support.user_namespaces);
        assert!(support.tiers[0].unavailable.is_some(), "{support:?}");
        return assert_eq!(
            nono::Sandbox::create(&nono::Capabilities::new(), &in_any_tier()).unwrap().tier(),
            nono::TierName::Flat
        );
    }
    let tests = [
        "container::without_user_namespaces_the_flat_tier_does",
        "gate::a_connection_says_where_it_was_meant_to_go",
        "loopback::a_published_server_is_reached_from_the_host",
        "unix_sockets::a_listed_socket_is_reached_and_only_it",
    ];
    let script = r#"echo 0 > /proc/sys/user/max_user_namespaces && exec "$@""#;
    let output = std::process::Command::new("unshare")
        .args(["--user", "--map-root-user", "sh", "-c", script, "sh"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "--test-threads=2"])
        .args(tests)
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    if text.is_empty() {
        let why = String::from_utf8_lossy(&output.stderr);
        return println!("SKIPPED: a machine without user namespaces: this one has none: {why}");
    }
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains(&format!("{} passed", tests.len())), "{text}");
}
