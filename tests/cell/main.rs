//! Cells, as Pacemaker has them made: through the agents' executables, with real devices and servers,
//! in a mount table, a network and a `/run` of the test's own.

#[path = "../common/mod.rs"]
mod common;

mod attack;
mod attack_clients;
mod attack_forged;
mod attack_host;
mod attack_local;
mod attack_memory;
mod attack_network;
mod attack_state;
mod changed;
mod damage;
mod device;
mod disk;
mod exec;
mod full;
mod groups;
mod input;
mod isolation;
mod killed;
mod lifecycle;
mod limits;
mod mark;
mod node;
mod processes;
mod proof;
mod repair;
mod running;
mod scope;
mod servers;
mod thread;
mod users;
