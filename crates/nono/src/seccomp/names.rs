//! Names of the calls that a sandbox may refuse, for people.

macro_rules! names {
    ($($(#[$attribute:meta])? $name:ident),* $(,)?) => {
        &[$($(#[$attribute])? (libc::$name as i64, stringify!($name))),*]
    };
}

const NAMES: &[(i64, &str)] = names![
    SYS_socket,
    SYS_socketpair,
    SYS_sendto,
    SYS_sendmsg,
    SYS_sendmmsg,
    SYS_setsockopt,
    SYS_clone,
    SYS_unshare,
    SYS_setns,
    SYS_mount,
    SYS_umount2,
    SYS_pivot_root,
    SYS_chroot,
    SYS_open_tree,
    SYS_move_mount,
    SYS_fsopen,
    SYS_fsconfig,
    SYS_fsmount,
    SYS_fspick,
    SYS_mount_setattr,
    SYS_ioctl,
    SYS_memfd_create,
    SYS_personality,
    SYS_bpf,
    SYS_perf_event_open,
    SYS_userfaultfd,
    SYS_fanotify_init,
    SYS_fanotify_mark,
    SYS_add_key,
    SYS_keyctl,
    SYS_request_key,
    SYS_kexec_load,
    SYS_kexec_file_load,
    SYS_init_module,
    SYS_finit_module,
    SYS_delete_module,
    SYS_reboot,
    SYS_swapon,
    SYS_swapoff,
    SYS_acct,
    SYS_quotactl,
    SYS_quotactl_fd,
    SYS_syslog,
    SYS_vhangup,
    SYS_settimeofday,
    SYS_clock_settime,
    SYS_clock_adjtime,
    SYS_adjtimex,
    SYS_lookup_dcookie,
    SYS_nfsservctl,
    SYS_open_by_handle_at,
    SYS_name_to_handle_at,
    SYS_ptrace,
    SYS_process_vm_readv,
    SYS_process_vm_writev,
    SYS_mknodat,
    SYS_prlimit64,
    SYS_sched_setaffinity,
    SYS_sched_setattr,
    SYS_sched_setparam,
    SYS_sched_setscheduler,
    SYS_setpriority,
    SYS_ioprio_set,
    SYS_shmget,
    SYS_shmat,
    SYS_shmctl,
    SYS_semget,
    SYS_semop,
    SYS_semtimedop,
    SYS_semctl,
    SYS_msgget,
    SYS_msgsnd,
    SYS_msgrcv,
    SYS_msgctl,
    SYS_mq_open,
    SYS_fcntl,
    SYS_seccomp,
    SYS_prctl,
    SYS_fchmod,
    SYS_fchmodat,
    SYS_openat,
    #[cfg(target_arch = "x86_64")]
    SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    SYS_open,
    #[cfg(target_arch = "x86_64")]
    SYS_creat,
    #[cfg(target_arch = "x86_64")]
    SYS_mknod,
];

const FAMILIES: &[(i64, &str)] = names![
    AF_UNIX,
    AF_INET,
    AF_INET6,
    AF_NETLINK,
    AF_PACKET,
    AF_ALG,
    AF_VSOCK,
    AF_XDP,
    AF_BLUETOOTH,
    AF_CAN,
    AF_KEY,
    AF_TIPC,
];

const KINDS: &[(i64, &str)] =
    names![SOCK_STREAM, SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET, SOCK_RDM, SOCK_DCCP];

/// The call's name, such as `unshare`, or its number; of a socket also what kind was asked for, such as
/// `socket(AF_INET, SOCK_RAW)`, with the protocol if it is not the usual one.
pub(crate) fn name(number: i64, arguments: [u64; 6]) -> String {
    let name = of(NAMES, number);
    let name = name.trim_start_matches("SYS_");
    if number != libc::SYS_socket && number != libc::SYS_socketpair {
        return name.to_owned();
    }
    // The kernel takes each of them for an int.
    let [family, kind, protocol] = [0, 1, 2].map(|index| i64::from(arguments[index] as i32));
    let kind = kind & !i64::from(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK);
    let protocol = if protocol == 0 { String::new() } else { format!(", {protocol}") };
    format!("{name}({}, {}{protocol})", of(FAMILIES, family), of(KINDS, kind))
}

fn of(names: &[(i64, &str)], number: i64) -> String {
    let found = names.iter().find(|(known, _)| *known == number);
    found.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_was_asked_for() {
        let socket = |family: i32, kind: i32, protocol: i32| {
            let arguments = [family, kind, protocol, 0, 0, 0].map(|word| word as u64);
            name(libc::SYS_socket, arguments)
        };
        let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        assert_eq!(socket(libc::AF_INET, kind, 0), "socket(AF_INET, SOCK_STREAM)");
        assert_eq!(socket(libc::AF_INET6, libc::SOCK_RAW, 58), "socket(AF_INET6, SOCK_RAW, 58)");
        assert_eq!(socket(99, -1, 0), "socket(99, -526337)");
        assert_eq!(name(libc::SYS_unshare, [0; 6]), "unshare");
        assert_eq!(name(9999, [0; 6]), "9999");
    }
}
