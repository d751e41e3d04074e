//! Names of the calls that a sandbox may refuse, for people.

macro_rules! names {
    ($($(#[$attribute:meta])? $call:ident),* $(,)?) => {
        &[$($(#[$attribute])? (libc::$call, stringify!($call))),*]
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
    #[cfg(target_arch = "x86_64")]
    SYS_mknod,
];

/// The call's name, such as `socket`; or its number.
pub(crate) fn name(number: i64) -> String {
    let found = NAMES.iter().find(|(known, _)| *known == number);
    found.map_or_else(|| number.to_string(), |(_, name)| name["SYS_".len()..].to_owned())
}
