//! Names for the stages that `nono-init` reports by number.

use nono_init::protocol as p;

/// Where building a sandbox failed.
pub(crate) fn of_setup(stage: u32) -> &'static str {
    match stage {
        p::STAGE_PLAN => "reading the plan",
        p::STAGE_GUARD => "starting the guard",
        p::STAGE_LIMITS => "setting resource limits",
        p::STAGE_CAPABILITIES => "dropping capabilities",
        p::STAGE_NO_NEW_PRIVS => "giving up new privileges",
        p::STAGE_LANDLOCK => "entering the Landlock domain",
        p::STAGE_SECCOMP => "installing the system call filter",
        _ => "taking a step of the plan",
    }
}

/// Where starting a command failed.
pub(crate) fn of_start(stage: u32) -> &'static str {
    match stage {
        p::STAGE_CWD => "entering the working directory",
        p::STAGE_TERMINAL => "taking over the terminal",
        p::STAGE_STDIO => "putting descriptors in place",
        p::STAGE_CLONE => "making a process",
        p::STAGE_OPEN_FILES => "limiting its open files",
        p::STAGE_EXEC => "executing the program",
        p::STAGE_STOPPED => "going on when something in the sandbox stopped it",
        _ => "taking the request",
    }
}
