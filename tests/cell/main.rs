//! Cells, as Pacemaker has them made: through the agents' executables, with real devices and servers,
//! in a mount table, a network and a `/run` of the test's own.

#[path = "../common/mod.rs"]
mod common;

mod attack_clients;
mod damage;
mod device;
mod full;
mod input;
mod isolation;
mod killed;
mod lifecycle;
mod mark;
mod nfs4;
mod node;
mod proof;
mod servers;
mod users;
