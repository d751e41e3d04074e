//! What every sandbox refuses by system call, beyond what Landlock and namespaces decide.

use super::filter::{Action, Filter, Rules, Test, argument};
use super::{cores, identity, ioctl, neighbours};
use crate::supervisor::files;
use crate::tier::TierName;

/// The newest call that was looked at: `mseal` (Linux 6.10). Later ones include the metadata calls
/// `setxattrat` (463) and `file_setattr` (469); programs fall back to older calls.
const LAST_KNOWN: i64 = 462;

/// Linux 6.8.
const SYS_STATMOUNT: i64 = 457;
const SYS_LISTMOUNT: i64 = 458;

/// What of a sandbox's calls a supervisor answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Supervised {
    /// Programs as they start.
    pub(crate) starts: bool,
    /// connect() and bind(), which makes unix sockets possible.
    pub(crate) sockets: SocketAccess,
    /// Whether it gives internet sockets their addresses: listen() too, then.
    pub(crate) leads: bool,
    /// Which file operations.
    pub(crate) files: Parked,
    /// inotify_add_watch(), which makes watching possible.
    pub(crate) watches: bool,
    /// Programs about to be executed, processes about to end, servers, and calls that are refused: to tell
    /// of them.
    pub(crate) refusals: bool,
    /// Whether somebody may grant programs that are about to be executed.
    pub(crate) programs: bool,
}

/// Which file operations are parked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Parked {
    /// None.
    #[default]
    None,
    /// Those that change something.
    Changes,
    /// Opening to read, too.
    All,
}

/// How the supervisor gets hold of the sockets whose calls it carries out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SocketAccess {
    /// Not at all: these calls are not parked, and there are no unix sockets.
    #[default]
    None,
    /// It takes the caller's descriptor (`pidfd_getfd(2)`).
    Taken,
    /// It has made the socket itself: socket() is parked as well, and listen().
    Made,
}

/// Which internet sockets can be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InternetSockets {
    /// None.
    None,
    /// TCP only.
    Tcp,
    /// TCP; and what looks like UDP, but knows the supervisor's resolver only.
    TcpAndQueries,
    /// TCP and UDP.
    TcpAndUdp,
}

/// The filter of a sandbox.
pub(crate) fn filter(tier: TierName, internet: InternetSockets, supervised: Supervised) -> Filter {
    let rules = rules(tier, internet, supervised);
    let rules = if supervised.refusals { rules.with_refusals_notified() } else { rules };
    Filter::compile(&rules)
}

/// The filter of a process that restricts itself. Rings of `io_uring(7)` that it has already can be
/// used on, `with_rings`; new ones cannot be made.
pub(crate) fn own_filter(internet: InternetSockets, with_rings: bool) -> Filter {
    let mut rules = rules(TierName::Flat, internet, Supervised::default());
    if with_rings {
        rules.allow(libc::SYS_io_uring_enter);
    }
    Filter::compile(&rules)
}

/// What a sandbox's filter is compiled from.
pub(crate) fn rules(tier: TierName, internet: InternetSockets, supervised: Supervised) -> Rules {
    let mut rules = Rules::allowing_up_to(LAST_KNOWN);
    refuse_kernel_surface(&mut rules);
    refuse_new_namespaces(&mut rules);
    ioctl::refuse(&mut rules);
    match tier {
        TierName::Flat => neighbours::refuse(&mut rules, supervised.starts),
        TierName::Namespaces => neighbours::refuse_about_init(&mut rules),
    }
    refuse_executable_memory_files(&mut rules, supervised.starts);
    decide_sockets(&mut rules, internet, supervised.sockets);
    refuse_other_ways_to_connect(&mut rules);
    if supervised.starts {
        park_starting_programs(&mut rules);
    }
    if supervised.sockets != SocketAccess::None {
        rules.notify(&[libc::SYS_connect, libc::SYS_bind]);
    }
    let tells = supervised.refusals && supervised.sockets == SocketAccess::Taken;
    if supervised.leads || supervised.sockets == SocketAccess::Made || tells {
        rules.notify(&[libc::SYS_listen]);
    }
    let is_parked = supervised.files != Parked::None;
    refuse_device_nodes(&mut rules, if is_parked { Action::Notify } else { Action::Allow });
    if is_parked {
        park_files(&mut rules, supervised.files);
    }
    watch_files(&mut rules, supervised.watches);
    if supervised.refusals || supervised.programs {
        rules.notify(&[libc::SYS_execve, libc::SYS_execveat]);
    }
    if supervised.refusals {
        rules.notify(&[libc::SYS_exit_group]);
    }
    identity::refuse(&mut rules, supervised.starts);
    cores::keep_limit(&mut rules);
    rules
}

/// Interfaces that an agent's programs do not need and that have a history of kernel bugs, or that
/// reach around the other mechanisms.
fn refuse_kernel_surface(rules: &mut Rules) {
    // ENOSYS where programs fall back to something older.
    rules.refuse(
        libc::ENOSYS,
        &[libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register],
    );
    // They tell of every mount without opening anything, so no path rule is asked, as it is of
    // /proc/self/mountinfo.
    rules.refuse(libc::ENOSYS, &[SYS_STATMOUNT, SYS_LISTMOUNT]);
    rules.refuse(
        libc::EPERM,
        &[
            libc::SYS_bpf,
            libc::SYS_perf_event_open,
            libc::SYS_userfaultfd,
            libc::SYS_fanotify_init,
            libc::SYS_fanotify_mark,
            libc::SYS_add_key,
            libc::SYS_keyctl,
            libc::SYS_request_key,
            libc::SYS_kexec_load,
            libc::SYS_kexec_file_load,
            libc::SYS_init_module,
            libc::SYS_finit_module,
            libc::SYS_delete_module,
            libc::SYS_reboot,
            libc::SYS_swapon,
            libc::SYS_swapoff,
            libc::SYS_acct,
            libc::SYS_quotactl,
            libc::SYS_quotactl_fd,
            libc::SYS_syslog,
            libc::SYS_vhangup,
            libc::SYS_settimeofday,
            libc::SYS_clock_settime,
            libc::SYS_clock_adjtime,
            libc::SYS_adjtimex,
            libc::SYS_lookup_dcookie,
            libc::SYS_nfsservctl,
            // A file handle names an inode without a path, past every path rule.
            libc::SYS_open_by_handle_at,
            libc::SYS_name_to_handle_at,
        ],
    );
    #[cfg(target_arch = "x86_64")]
    rules.refuse(
        libc::EPERM,
        &[
            libc::SYS_iopl,
            libc::SYS_ioperm,
            libc::SYS_modify_ldt,
            libc::SYS_uselib,
            libc::SYS__sysctl,
            libc::SYS_sysfs,
        ],
    );
    // READ_IMPLIES_EXEC and the compatibility modes are refused; what setarch -R needs is not.
    let known = [0, libc::ADDR_NO_RANDOMIZE, -1];
    rules.decide(
        libc::SYS_personality,
        known.map(|persona| (vec![argument(0).is(persona)], Action::Allow)),
        Action::Errno(libc::EPERM),
    );
}

/// A new user namespace would bring capabilities back; the mount calls would rearrange what path
/// rules were made for.
fn refuse_new_namespaces(rules: &mut Rules) {
    const NEW_NAMESPACES: i32 = libc::CLONE_NEWNS
        | libc::CLONE_NEWCGROUP
        | libc::CLONE_NEWUTS
        | libc::CLONE_NEWIPC
        | libc::CLONE_NEWUSER
        | libc::CLONE_NEWPID
        | libc::CLONE_NEWNET;
    // For unshare only: clone means something else by these bits.
    const CLONE_NEWTIME: i32 = 0x80;
    const UNSHARE_EMPTY_MNTNS: i32 = 0x10_0000; // Linux 7.1
    let none_of = |mask: i32| vec![argument(0).mask(mask as u32).is(0)];
    rules.decide(
        libc::SYS_clone,
        [(none_of(NEW_NAMESPACES), Action::Allow)],
        Action::Errno(libc::EPERM),
    );
    rules.decide(
        libc::SYS_unshare,
        [(none_of(NEW_NAMESPACES | CLONE_NEWTIME | UNSHARE_EMPTY_MNTNS), Action::Allow)],
        Action::Errno(libc::EPERM),
    );
    // Its flags are in memory, where a filter cannot look; libcs fall back to clone.
    rules.refuse(libc::ENOSYS, &[libc::SYS_clone3]);
    rules.refuse(
        libc::EPERM,
        &[
            libc::SYS_setns,
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_chroot,
            libc::SYS_open_tree,
            libc::SYS_move_mount,
            libc::SYS_fsopen,
            libc::SYS_fsconfig,
            libc::SYS_fsmount,
            libc::SYS_fspick,
            libc::SYS_mount_setattr,
        ],
    );
}

/// A memory file is on no path, so Landlock's execute right does not see it. Only files sealed
/// against execution are made (`memfd_create(2)`, MFD_NOEXEC_SEAL, Linux 6.3); the supervisor adds
/// the seal where a program says nothing about execution.
fn refuse_executable_memory_files(rules: &mut Rules, supervised: bool) {
    const MFD_NOEXEC_SEAL: i32 = 8;
    const MFD_EXEC: i32 = 16;
    let flags = argument(1).mask((MFD_NOEXEC_SEAL | MFD_EXEC) as u32);
    rules.decide(
        libc::SYS_memfd_create,
        [
            (vec![flags.is(MFD_NOEXEC_SEAL)], Action::Allow),
            (vec![flags.is(MFD_EXEC)], Action::Errno(libc::EACCES)),
        ],
        // Without a supervisor to seal it, as on a kernel without the call: programs fall back to a
        // file.
        if supervised { Action::Notify } else { Action::Errno(libc::ENOSYS) },
    );
    rules.refuse(libc::ENOSYS, &[libc::SYS_memfd_secret]);
}

/// Every program's start-up tells the kernel where its thread's number and its thread-local memory
/// are, before any code of its own: there the supervisor looks at what was really executed. C
/// libraries make the first of these calls always (glibc since 2.34; older ones when threads are
/// linked in), and the second one on x86-64.
fn park_starting_programs(rules: &mut Rules) {
    rules.notify(&[libc::SYS_set_tid_address]);
    #[cfg(target_arch = "x86_64")]
    {
        const ARCH_SET_FS: i32 = 0x1002;
        let set_fs = (vec![argument(0).is(ARCH_SET_FS)], Action::Notify);
        rules.decide(libc::SYS_arch_prctl, [set_fs], Action::Allow);
    }
    if cfg!(not(target_arch = "x86_64")) {
        refuse_filters(rules);
    }
}

/// A filter of a program's own outlives execve(), and what it makes a call seem to have done comes before our
/// asking the supervisor (`seccomp(2)`): the next program's start-up would not be heard of. On x86-64 none gets
/// anywhere without the second call. As where the kernel has no filters.
fn refuse_filters(rules: &mut Rules) {
    let refused = Action::Errno(libc::EINVAL);
    let install = argument(0).is(libc::SECCOMP_SET_MODE_FILTER as i32);
    rules.decide_first(libc::SYS_seccomp, [(vec![install], refused)]);
    let filter = argument(1).is(libc::SECCOMP_MODE_FILTER as i32);
    let install = vec![argument(0).is(libc::PR_SET_SECCOMP), filter];
    rules.decide_first(libc::SYS_prctl, [(install, refused)]);
}

/// No device can be made, wherever it is: Landlock's right to is never granted, and nobody inside has
/// the capability (`mknod(2)`). Whatever else is made is a file.
fn refuse_device_nodes(rules: &mut Rules, otherwise: Action) {
    let devices = |mode: usize| {
        let kind = argument(mode).mask(libc::S_IFMT);
        [libc::S_IFCHR, libc::S_IFBLK]
            .map(|device| (vec![kind.is(device as i32)], Action::Errno(libc::EPERM)))
    };
    rules.decide(libc::SYS_mknodat, devices(2), otherwise);
    #[cfg(target_arch = "x86_64")]
    rules.decide(libc::SYS_mknod, devices(1), otherwise);
}

/// Operations on files that the supervisor judges and carries out.
fn park_files(rules: &mut Rules, parked: Parked) {
    rules.notify(files::PARKED);
    // Each new file takes its caller's mask into account.
    rules.notify(&[libc::SYS_umask]);
    // With O_PATH nothing is opened, only named; what is then done by that name is parked itself.
    let open = |flags: usize| {
        let by_name = argument(flags).mask(libc::O_PATH as u32).is_not(0);
        let reads = argument(flags).mask(files::WRITING as u32).is(0);
        let unseen = [(vec![by_name], Action::Allow), (vec![reads], Action::Allow)];
        let count = if parked == Parked::All { 1 } else { 2 };
        unseen.into_iter().take(count).collect::<Vec<_>>()
    };
    rules.decide(libc::SYS_openat, open(2), Action::Notify);
    #[cfg(target_arch = "x86_64")]
    rules.decide(libc::SYS_open, open(1), Action::Notify);
}

/// Any file can be watched whose mode lets it be read (`supervisor/files/watch.rs`), and leases on such
/// files, or delegations of such directories, hold up those who change them (`fcntl(2)`). Without a
/// supervisor that asks what is granted, inotify is not there, and programs look again and again.
fn watch_files(rules: &mut Rules, supervised: bool) {
    const F_SETDELEG: i32 = 1040; // Linux 6.19
    if supervised {
        rules.notify(&[libc::SYS_inotify_add_watch]);
    } else {
        rules.refuse(libc::ENOSYS, &[libc::SYS_inotify_init1, libc::SYS_inotify_add_watch]);
        #[cfg(target_arch = "x86_64")]
        rules.refuse(libc::ENOSYS, &[libc::SYS_inotify_init]);
    }
    let is = |index: usize, value: i32| argument(index).is(value);
    rules.decide(
        libc::SYS_fcntl,
        [
            (vec![is(1, libc::F_SETLEASE), is(2, libc::F_UNLCK)], Action::Allow),
            (vec![is(1, libc::F_SETLEASE)], Action::Errno(libc::EACCES)),
            // What is wanted is in memory; kernels before know no such command.
            (vec![is(1, F_SETDELEG)], Action::Errno(libc::EINVAL)),
        ],
        Action::Allow,
    );
}

/// Families, types and protocols that exist; all others do not. Landlock rules TCP ports only, so
/// everything that is not plain TCP would walk around it: UDP, MPTCP, SCTP, raw, packet and vsock
/// sockets.
fn decide_sockets(rules: &mut Rules, sockets: InternetSockets, access: SocketAccess) {
    const TYPE: u32 = 0xf; // without SOCK_NONBLOCK and SOCK_CLOEXEC
    let family = |family: i32| argument(0).is(family);
    let kind = |kind: i32| argument(1).mask(TYPE).is(kind);
    let protocol = |protocol: i32| argument(2).is(protocol);
    let make = |tests: Vec<Test>| match access {
        SocketAccess::Made => (tests, Action::Notify),
        _ => (tests, Action::Allow),
    };

    // Route and address dumps; changing anything takes CAP_NET_ADMIN, which nobody has.
    let dumps = vec![family(libc::AF_NETLINK), protocol(libc::NETLINK_ROUTE)];
    let mut clauses = vec![make(dumps)];
    let kinds: &[(i32, i32)] = match sockets {
        InternetSockets::None => &[],
        InternetSockets::Tcp | InternetSockets::TcpAndQueries => {
            &[(libc::SOCK_STREAM, libc::IPPROTO_TCP)]
        }
        InternetSockets::TcpAndUdp => {
            &[(libc::SOCK_STREAM, libc::IPPROTO_TCP), (libc::SOCK_DGRAM, libc::IPPROTO_UDP)]
        }
    };
    for internet in [libc::AF_INET, libc::AF_INET6] {
        for (kind_, number) in kinds {
            for number in [0, *number] {
                clauses.push(make(vec![family(internet), kind(*kind_), protocol(number)]));
            }
        }
        if sockets == InternetSockets::TcpAndQueries {
            for number in [0, libc::IPPROTO_UDP] {
                let datagrams = vec![family(internet), kind(libc::SOCK_DGRAM), protocol(number)];
                clauses.push((datagrams, Action::Notify));
            }
        }
        clauses.push((vec![family(internet)], Action::Errno(libc::EACCES)));
    }
    // A unix socket can reach any service of the user by a path that Landlock does not check: only
    // those exist that must connect() first, and only if the supervisor sees to that. A datagram
    // socket needs no connect(): each message can name another path, in memory. That goes for one
    // made by socketpair(), too.
    let connecting = [libc::SOCK_STREAM, libc::SOCK_SEQPACKET];
    if access != SocketAccess::None {
        clauses.extend(connecting.map(|with| make(vec![family(libc::AF_UNIX), kind(with)])));
    }
    clauses.push((vec![family(libc::AF_UNIX)], Action::Errno(libc::EACCES)));
    rules.decide(libc::SYS_socket, clauses, Action::Errno(libc::EAFNOSUPPORT));
    rules.decide(
        libc::SYS_socketpair,
        connecting.map(|with| (vec![family(libc::AF_UNIX), kind(with)], Action::Allow)),
        Action::Errno(libc::EAFNOSUPPORT),
    );
}

/// TCP Fast Open connects without connect(), or before its time; and with a source route the kernel sends
/// to the first host on it instead, whatever was connected to. Protocols on top of TCP (kernel TLS, SMC) are
/// other ways, and little used: as where the kernel has none.
fn refuse_other_ways_to_connect(rules: &mut Rules) {
    const IPV6_2292PKTOPTIONS: i32 = 6;
    let options = [
        (libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT, libc::EOPNOTSUPP),
        (libc::IPPROTO_TCP, libc::TCP_ULP, libc::ENOENT),
        (libc::IPPROTO_IP, libc::IP_OPTIONS, libc::ENOPROTOOPT),
        (libc::IPPROTO_IPV6, libc::IPV6_RTHDR, libc::ENOPROTOOPT),
        (libc::IPPROTO_IPV6, IPV6_2292PKTOPTIONS, libc::ENOPROTOOPT),
    ];
    let refused = options.map(|(level, name, errno)| {
        (vec![argument(1).is(level), argument(2).is(name)], Action::Errno(errno))
    });
    rules.decide(libc::SYS_setsockopt, refused, Action::Allow);
    let without_fast_open = |index: usize| {
        let flag = argument(index).mask(libc::MSG_FASTOPEN as u32);
        [(vec![flag.is_not(0)], Action::Errno(libc::EOPNOTSUPP))]
    };
    rules.decide(libc::SYS_sendto, without_fast_open(3), Action::Allow);
    rules.decide(libc::SYS_sendmsg, without_fast_open(2), Action::Allow);
    rules.decide(libc::SYS_sendmmsg, without_fast_open(3), Action::Allow);
}
