//! A vserver's cell: the keeper in the host, the cell's PID 1, and the servers that run under it.

pub mod attachment;
pub mod cgroup;
pub mod client;
pub mod confine;
pub mod exec;
pub mod filter;
pub mod init;
pub mod keeper;
pub mod last_words;
pub mod names;
pub mod network;
pub mod owner;
pub mod probe;
pub mod protocol;
pub mod refused;
pub mod service;
pub mod state;
pub mod tree;
