//! Tests on the real kernel, in every tier that this machine has.

mod common;
mod container;
mod enforcement;
mod escape;
mod exec;
mod gate;
mod gate_programs;
mod limits;
mod loopback;
mod terminal;
mod test_gate;
mod unix_sockets;
