//! A vserver's cell: the keeper in the host, the cell's PID 1, and the servers that run under it.

pub mod announcing;
pub mod attachment;
pub mod cgroup;
pub mod channel;
pub mod client;
pub mod daemon;
pub mod guard;
pub mod init;
pub mod job;
pub mod keeper;
pub mod last_words;
pub mod listener;
pub mod names;
pub mod network;
pub mod order;
pub mod output;
pub mod owner;
pub mod probe;
pub mod protocol;
pub mod refused;
pub mod repair;
pub mod root;
pub mod server;
pub mod service;
pub mod settle;
pub mod task;
