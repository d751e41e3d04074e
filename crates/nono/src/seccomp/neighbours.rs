//! Calls about processes and memory outside, where those are not in namespaces of their own, and about
//! `nono-init` where they are.

use super::filter::{Action, Rules, argument};

/// Calls that say by a number in their first argument whose limits, processors or priority they change;
/// 0 is the caller. They ask for the same user, of which nothing in the tier `flat` is different:
/// neither a file's rule nor a signal's scope in Landlock is about them.
const ON_PROCESSES: [i64; 5] = [
    libc::SYS_prlimit64,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_setattr,
    libc::SYS_sched_setparam,
    libc::SYS_sched_setscheduler,
];

/// The same with what the number is of in the first argument, and the number in the second.
const ON_GROUPS: [(i64, i32); 2] =
    [(libc::SYS_setpriority, PRIO_PROCESS), (libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS)];
const PRIO_PROCESS: i32 = 0;
const IOPRIO_WHO_PROCESS: i32 = 1;
/// All processes of a user.
const ALL_OF_USER: [(i64, i32); 2] = [(libc::SYS_setpriority, 2), (libc::SYS_ioprio_set, 3)];

/// Shared memory, semaphores and queues that are on no path (`sysvipc(7)`, `mq_overview(7)`).
const SHARED: [i64; 12] = [
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
];

/// Refuses what reaches other processes. Threads and children are others too, by number, so a
/// supervisor looks whose it is; without one nothing but the caller itself can be named.
pub(super) fn refuse(rules: &mut Rules, supervised: bool) {
    let named = if supervised { Action::Notify } else { Action::Errno(libc::EPERM) };
    for call in ON_PROCESSES {
        rules.decide(call, [(vec![argument(0).is(0)], Action::Allow)], named);
    }
    for (call, one_process) in ON_GROUPS {
        let is_one = argument(0).is(one_process);
        let clauses = [(vec![is_one, argument(1).is(0)], Action::Allow), (vec![is_one], named)];
        rules.decide(call, clauses, Action::Errno(libc::EPERM)); // of a group, or all of a user
    }
    rules.refuse(libc::ENOSYS, &SHARED);
}

/// Refuses what reaches `nono-init` where it is the first process of a pid namespace. It has the same user as
/// commands, and with no descriptors or processor time left it would serve nobody any more, not even see its
/// owner go.
pub(super) fn refuse_about_init(rules: &mut Rules) {
    const INIT: i32 = 1;
    let refused = Action::Errno(libc::EPERM);
    for call in ON_PROCESSES {
        rules.decide(call, [(vec![argument(0).is(INIT)], refused)], Action::Allow);
    }
    for ((call, one_process), (_, user)) in ON_GROUPS.into_iter().zip(ALL_OF_USER) {
        let is_init = vec![argument(0).is(one_process), argument(1).is(INIT)];
        let clauses = [(is_init, refused), (vec![argument(0).is(user)], refused)];
        rules.decide(call, clauses, Action::Allow);
    }
}

/// Whose limits, processors or priority a parked call is about; `None`: it is not such a call.
pub(crate) fn target(number: i64, arguments: [u64; 6]) -> Option<i32> {
    if ON_PROCESSES.contains(&number) {
        return Some(arguments[0] as i32);
    }
    ON_GROUPS.iter().any(|(call, _)| *call == number).then_some(arguments[1] as i32)
}
