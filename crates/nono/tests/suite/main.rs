//! Tests on the real kernel, in every tier that this machine has.

mod common;
mod enforcement;
mod escape;
mod exec;
mod gate;
mod terminal;
mod unix_sockets;
