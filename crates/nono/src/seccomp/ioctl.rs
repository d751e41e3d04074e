//! Commands of `ioctl(2)` that reach around the other mechanisms.

use super::filter::{Action, Rules, Test, argument};

/// These put input into a terminal as if its user had typed it (`ioctl_tty(2)`; CVE-2017-5226), or change
/// what the terminal does for all who use it.
const TERMINAL: [u32; 3] = [0x5412, 0x541C, 0x5423]; // TIOCSTI, TIOCLINUX, TIOCSETD

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

/// Commands of a console: its keys can be given other meanings, or whole strings, for whoever types there
/// next (KDSKBENT, KDSKBSENT in `ioctl_console(2)`).
const CONSOLE: [u32; 2] = [0x4B00, 0x5600];

/// Landlock looks at ioctl() on devices only, and these commands need no more than a file or directory
/// that is open for reading. On btrfs a snapshot puts a whole tree at a name, wherever its owner may
/// write; elsewhere flags, versions and seals of readable files can be set. Programs that know these
/// commands expect file systems that do not (ENOTTY).
pub(super) fn refuse(rules: &mut Rules) {
    let command = |command: u32| argument(1).is(command as i32);
    let of = |file_system: u32| argument(1).mask(0xFF00).is((file_system << 8) as i32);
    let clause = |test: Test, action| (vec![test], action);
    let terminal = TERMINAL.map(|known| clause(command(known), Action::Errno(libc::EPERM)));
    let harmless = HARMLESS.map(|known| clause(command(known), Action::Allow));
    let no_such = Action::Errno(libc::ENOTTY);
    let harmful = HARMFUL.map(|known| clause(command(known), no_such));
    // Without a size: commands of cameras have the same byte.
    let console = |group: u32| argument(1).mask(!0xFF).is(group as i32);
    let console = CONSOLE.map(|known| clause(console(known), no_such));
    let others = FILE_SYSTEMS.map(|known| clause(of(known), no_such));
    let known = terminal.into_iter().chain(console);
    let clauses = known.chain(harmless).chain(harmful).chain(others);
    rules.decide(libc::SYS_ioctl, clauses, Action::Allow);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_console_takes_no_orders_and_cameras_do() {
        let mut rules = Rules::allowing_up_to(libc::SYS_ioctl);
        refuse(&mut rules);
        let action = |command| rules.evaluate(libc::SYS_ioctl, [0, command, 0, 0, 0, 0]);
        let (kdskbsent, vt_activate, vidioc_querycap) = (0x4B49, 0x5606, 0x8068_5600);
        for command in [kdskbsent, vt_activate, 1 << 32 | kdskbsent] {
            assert_eq!(action(command), Action::Errno(libc::ENOTTY));
        }
        assert_eq!(action(vidioc_querycap), Action::Allow);
    }
}
