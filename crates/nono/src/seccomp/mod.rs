//! The system call filter: a typed builder, and what nono refuses with it.

mod filter;
mod rules;

pub(crate) use filter::Instruction;
pub(crate) use rules::{InternetSockets, SocketAccess, Supervised, filter};
