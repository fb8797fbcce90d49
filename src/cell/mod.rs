//! A vserver's cell: the keeper in the host, the cell's PID 1, and the servers that run under it.

pub mod attachment;
pub(crate) mod cgroup;
pub mod client;
pub mod confine;
pub(crate) mod exec;
pub(crate) mod filter;
pub mod init;
pub mod keeper;
pub(crate) mod last_words;
pub(crate) mod names;
pub mod network;
pub(crate) mod owner;
pub mod probe;
pub mod protocol;
pub(crate) mod refused;
pub mod service;
pub mod state;
pub(crate) mod tree;
