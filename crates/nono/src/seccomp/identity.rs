//! Files that lend their owner's identity to whoever executes them: others on the machine, after the
//! sandbox has ended. No right of Landlock is about modes, and a sandbox's owner may be root.

use super::filter::{Action, Rules, argument};
use crate::supervisor::files::SYS_FCHMODAT2;

/// Calls that change a mode, and which argument it is.
const CHANGING: &[(i64, usize)] = &[
    (libc::SYS_fchmod, 1),
    (libc::SYS_fchmodat, 2),
    (SYS_FCHMODAT2, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, 1),
];

/// Calls that make a file, with its mode, and their flags if they need not make one.
const MAKING: &[(i64, usize, Option<usize>)] = &[
    (libc::SYS_openat, 3, Some(2)),
    (libc::SYS_mknodat, 2, None),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 2, Some(1)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, 1, None),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, 1, None),
];

/// Lends the group's identity; without the second bit, or on a directory, it means something else
/// (`inode(7)`).
const OF_GROUP: u32 = libc::S_ISGID | libc::S_IXGRP;

/// Whether a regular file of this mode lends its group's identity.
pub(crate) fn lends_group(mode: libc::mode_t) -> bool {
    mode & OF_GROUP == OF_GROUP
}

/// Refuses them. Where it depends on what has the mode, the supervisor is asked; without one directories
/// are refused, too.
pub(super) fn refuse(rules: &mut Rules, supervised: bool) {
    let refused = Action::Errno(libc::EPERM);
    for (call, mode) in CHANGING {
        let of_user = vec![argument(*mode).mask(libc::S_ISUID).is_not(0)];
        let of_group = vec![argument(*mode).mask(OF_GROUP).is(OF_GROUP as i32)];
        let asked = if supervised { Action::Notify } else { refused };
        rules.decide_first(*call, [(of_user, refused), (of_group, asked)]);
    }
    for (call, mode, flags) in MAKING {
        let of_user = argument(*mode).mask(libc::S_ISUID).is_not(0);
        let of_group = argument(*mode).mask(OF_GROUP).is(OF_GROUP as i32);
        let making = |test| match flags {
            None => vec![vec![test]],
            Some(flags) => [libc::O_CREAT, libc::O_TMPFILE & !libc::O_DIRECTORY]
                .map(|flag| vec![argument(*flags).mask(flag as u32).is_not(0), test])
                .to_vec(),
        };
        let clauses = [of_user, of_group].into_iter().flat_map(making);
        rules.decide_first(*call, clauses.map(|tests| (tests, refused)));
    }
    // Its mode is in memory, where a filter cannot look; programs fall back to openat.
    rules.refuse(libc::ENOSYS, &[libc::SYS_openat2]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_that_lend_an_identity_are_refused() {
        let mut rules = Rules::allowing_up_to(SYS_FCHMODAT2);
        refuse(&mut rules, true);
        let chmod = |mode: u64| rules.evaluate(libc::SYS_fchmod, [3, mode, 0, 0, 0, 0]);
        assert_eq!(chmod(0o4755), Action::Errno(libc::EPERM));
        assert_eq!(chmod(0o2755), Action::Notify);
        assert_eq!(chmod(0o2644), Action::Allow);
        assert_eq!(chmod(0o1777), Action::Allow);
        let open = |flags: i32, mode: u64| {
            rules.evaluate(libc::SYS_openat, [0, 0, flags as u64, mode, 0, 0])
        };
        for flags in [libc::O_CREAT | libc::O_WRONLY, libc::O_TMPFILE | libc::O_RDWR] {
            assert_eq!(open(flags, 0o4700), Action::Errno(libc::EPERM));
            assert_eq!(open(flags, 0o2710), Action::Errno(libc::EPERM));
            assert_eq!(open(flags, 0o755), Action::Allow);
        }
        // Without them the argument is whatever was in the register.
        assert_eq!(open(libc::O_RDONLY, 0o7777), Action::Allow);
    }
}
