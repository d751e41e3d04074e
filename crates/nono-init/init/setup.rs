//! Building the sandbox from its plan.

use crate::control::Fds;
use crate::failure::Failure;
use crate::payload::Payload;
use crate::protocol::{self as p, Plan, Step};
use crate::sys::{self, Result, call};
use crate::{lockdown, mounts, network};

/// Trees held open between two steps.
pub struct Registers([i32; p::MAX_REGISTERS]);

impl Registers {
    pub fn put(&mut self, register: u32, fd: usize) {
        self.0[register as usize] = fd as i32;
    }

    pub fn take(&mut self, register: u32) -> i32 {
        core::mem::replace(&mut self.0[register as usize], -1)
    }
}

/// Where the descriptors that came with the plan are: after the plan itself.
const RULESET: usize = 1;
const TREES: usize = 2;

/// Takes every step, then locks down. What must cross to the owner is left in `sockets`.
pub fn build(
    payload: &Payload,
    plan: &Plan,
    given: &mut Fds,
    sockets: &mut Fds,
) -> core::result::Result<(), Failure> {
    let ruleset = given.take(RULESET);
    let mut registers = Registers([-1; p::MAX_REGISTERS]);
    let mut index = 0;
    while index < plan.step_count {
        let offset = plan.steps as usize + index as usize * size_of::<Step>();
        let step: Step = payload.read(offset);
        match take(payload, &step, ruleset, given, &mut registers, sockets) {
            Err(errno) if step.op & p::OPTIONAL == 0 => {
                return Err(Failure { stage: index, errno });
            }
            _ => index += 1,
        }
    }
    if let Some(listener) = lockdown::lock_down(payload, plan, ruleset)?
        && !sockets.push(listener)
    {
        return Err(Failure { stage: p::STAGE_SECCOMP, errno: sys::E2BIG });
    }
    Ok(())
}

fn take(
    payload: &Payload,
    step: &Step,
    ruleset: i32,
    given: &mut Fds,
    registers: &mut Registers,
    sockets: &mut Fds,
) -> Result<()> {
    let path = payload.string(step.path);
    let source = payload.string(step.source);
    let is_resolved = step.op & p::RESOLVED != 0;
    match step.op & !(p::OPTIONAL | p::RESOLVED) {
        p::STEP_MOUNT if is_resolved => mounts::enter(path, || {
            let (kind, data) = (payload.string(step.kind), payload.string(step.data));
            call!(MOUNT, source, c".".as_ptr(), kind, step.flags, data).map(|_| ())
        }),
        p::STEP_MOUNT => {
            let (kind, data) = (payload.string(step.kind), payload.string(step.data));
            call!(MOUNT, source, path, kind, step.flags, data).map(|_| ())
        }
        p::STEP_OPEN_TREE => {
            registers.put(step.register, mounts::open_tree(path, is_resolved, step.flags)?);
            Ok(())
        }
        p::STEP_GIVEN_TREE => {
            registers.put(step.register, given.take(TREES + step.flags as usize) as usize);
            Ok(())
        }
        p::STEP_MOVE_TREE => mounts::move_tree(registers.take(step.register), path, is_resolved),
        p::STEP_MOUNT_ATTRIBUTES => mounts::set_attributes(path, is_resolved, step.flags),
        p::STEP_MKDIR => mounts::make_directory(path, step.flags),
        p::STEP_CREATE => mounts::create_file(path, step.flags),
        p::STEP_SYMLINK => call!(SYMLINKAT, source, sys::AT_FDCWD, path).map(|_| ()),
        p::STEP_WRITE => mounts::write_file(path, source, step.extra),
        p::STEP_LANDLOCK_RULE => mounts::add_rule(ruleset, path, is_resolved, step.flags),
        p::STEP_LOOPBACK_UP => network::loopback_up(),
        p::STEP_LOCAL_ROUTE => network::route_everything_here(step.flags),
        p::STEP_ADDRESS => network::add_address(step.flags as u32),
        p::STEP_LISTEN => {
            let socket = network::listen(step.kind, step.data, step.flags as u16, step.extra)?;
            if sockets.push(sys::move_high(socket)) { Ok(()) } else { Err(sys::E2BIG) }
        }
        p::STEP_OPEN_PLACE => {
            let place = call!(OPENAT, sys::AT_FDCWD, path, sys::O_PATH | sys::O_CLOEXEC, 0)?;
            if sockets.push(sys::move_high(place as i32)) { Ok(()) } else { Err(sys::E2BIG) }
        }
        p::STEP_SOCKET_DIAGNOSIS => {
            let socket = network::diagnosis()?;
            if sockets.push(sys::move_high(socket)) { Ok(()) } else { Err(sys::E2BIG) }
        }
        _ => Err(sys::EINVAL),
    }
}
