//! Commands of `ioctl(2)` that reach around the other mechanisms.

use super::filter::{Action, Rules, Test, argument};

/// Both put input into a terminal as if its user had typed it (`ioctl_tty(2)`; CVE-2017-5226).
const TERMINAL_INPUT: [u32; 2] = [0x5412, 0x541C]; // TIOCSTI, TIOCLINUX

/// What a file system's own commands are for: the second byte of the command.
const FILE_SYSTEMS: [u32; 5] = [
    0x66, // ext4, encryption, verity
    0x94, // btrfs
    0x58, // XFS
    0x76, // versions of inodes
    0xBC, // bcachefs
];

/// Commands of these that only tell, or change what is open for writing.
const HARMLESS: [u32; 9] = [
    0x4004_9409, // FICLONE
    0x4020_940D, // FICLONERANGE
    0xC018_9436, // FIDEDUPERANGE
    0x8008_6601, // FS_IOC_GETFLAGS
    0xC020_660B, // FS_IOC_FIEMAP
    0xC004_6686, // FS_IOC_MEASURE_VERITY
    0x801C_581F, // FS_IOC_FSGETXATTR
    0x800C_581E, // XFS_IOC_DIOINFO
    0x8008_7601, // FS_IOC_GETVERSION
];

/// Commands whose byte says something else elsewhere.
const HARMFUL: [u32; 2] = [
    0x4004_7211, // FAT_IOCTL_SET_ATTRIBUTES
    0x4018_6F04, // OCFS2_IOC_REFLINK
];

/// Landlock looks at ioctl() on devices only, and these commands need no more than a file or directory
/// that is open for reading. On btrfs a snapshot puts a whole tree at a name, wherever its owner may
/// write; elsewhere flags, versions and seals of readable files can be set. Programs that know these
/// commands expect file systems that do not (ENOTTY).
pub(super) fn refuse(rules: &mut Rules) {
    let command = |command: u32| argument(1).is(command as i32);
    let of = |file_system: u32| argument(1).mask(0xFF00).is((file_system << 8) as i32);
    let clause = |test: Test, action| (vec![test], action);
    let input = TERMINAL_INPUT.map(|known| clause(command(known), Action::Errno(libc::EPERM)));
    let harmless = HARMLESS.map(|known| clause(command(known), Action::Allow));
    let no_such = Action::Errno(libc::ENOTTY);
    let harmful = HARMFUL.map(|known| clause(command(known), no_such));
    let others = FILE_SYSTEMS.map(|known| clause(of(known), no_such));
    let clauses = input.into_iter().chain(harmless).chain(harmful).chain(others);
    rules.decide(libc::SYS_ioctl, clauses, Action::Allow);
}
