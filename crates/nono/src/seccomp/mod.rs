//! The system call filter: a typed builder, and what nono refuses with it.

mod cores;
mod filter;
mod identity;
mod ioctl;
mod names;
mod neighbours;
mod rules;

pub(crate) use cores::LIMIT as CORE_LIMIT;
pub(crate) use filter::{Action, Instruction, Rules};
pub(crate) use identity::lends_group;
pub(crate) use names::name;
pub(crate) use neighbours::target;
pub(crate) use rules::{
    InternetSockets, Parked, SocketAccess, Supervised, filter, own_filter, rules,
};
