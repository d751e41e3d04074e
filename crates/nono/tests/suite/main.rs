//! Tests on the real kernel, in every tier that this machine has.

mod agreement;
mod approval;
mod attacks_by_chance;
mod attacks_on_init;
mod attacks_on_owner;
mod attacks_on_user;

mod common;
mod container;
mod deny;
mod differential;
mod enforcement;
mod escape;
mod escape_network;
mod escape_subvolume;
mod events;
mod exec;
mod gate;
mod gate_programs;
mod granted_programs;
mod identity;
mod limits;
mod loopback;
mod masks;
mod overlay;
mod own_process;
mod places;
mod protected;
mod restrict;
mod shared_folder;
mod stress;
mod terminal;
mod test_gate;
mod traced;
mod unix_sockets;
mod watch;
