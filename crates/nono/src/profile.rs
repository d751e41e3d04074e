//! The base system profile: what ordinary programs need before they do anything of their own.
//!
//! It holds no home directory, no secrets, and nothing of other processes. Paths that do not exist
//! on a machine are left out.

use std::path::PathBuf;

/// Files and directories of the system that every command may read.
const READABLE: &[&str] = &[
    // Libraries and the data that belongs to programs.
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/libexec",
    "/usr/share",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/local/share",
    "/usr/include",
    "/nix/store",
    // The loader's configuration.
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/etc/ld.so.preload",
    "/etc/ld-musl-x86_64.path",
    "/etc/ld-musl-aarch64.path",
    // Certificates; not their directory's neighbour with private keys.
    "/etc/ssl/certs",
    "/etc/ssl/cert.pem", // Alpine's
    "/etc/ssl/openssl.cnf",
    "/etc/pki/tls/certs",
    "/etc/pki/ca-trust/extracted",
    "/etc/ca-certificates",
    // Names and addresses.
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/hostname",
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    // Who and where; not /etc/shadow.
    "/etc/passwd",
    "/etc/group",
    "/etc/localtime",
    "/etc/timezone",
    "/etc/locale.alias",
    "/etc/locale.conf",
    "/etc/default/locale",
    "/etc/os-release",
    "/etc/debian_version",
    "/etc/alpine-release",
    "/etc/alternatives",
    "/etc/terminfo",
    "/etc/inputrc",
    "/etc/mime.types",
    "/etc/magic",
    "/etc/gitconfig",
    "/etc/python3",
    // What the machine is; nothing about its processes.
    "/proc/cpuinfo",
    "/proc/filesystems",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/uptime",
    "/proc/version",
    "/proc/sys/fs/pipe-max-size",
    "/proc/sys/kernel/cap_last_cap",
    "/proc/sys/kernel/ngroups_max",
    "/proc/sys/kernel/osrelease",
    "/proc/sys/kernel/pid_max",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system/cpu",
    "/sys/kernel/mm/transparent_hugepage",
];

/// Devices that every command may read and write.
const DEVICES: &[&str] =
    &["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// What exists of the readable part.
pub(crate) fn readable() -> impl Iterator<Item = PathBuf> {
    READABLE.iter().map(PathBuf::from).chain(python_configuration()).filter(|path| path.exists())
}

/// What exists of the devices.
pub(crate) fn devices() -> impl Iterator<Item = PathBuf> {
    DEVICES.iter().map(PathBuf::from).filter(|path| path.exists())
}

/// Debian's Python imports `/etc/python3.N/sitecustomize.py` at start and complains loudly when it
/// may not.
fn python_configuration() -> impl Iterator<Item = PathBuf> {
    let entries = std::fs::read_dir("/etc").into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| path.to_string_lossy().starts_with("/etc/python3."))
}
