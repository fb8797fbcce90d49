//! What the long-lived processes have in common: how one is started and found, its socket and messages, its children.

pub mod channel;
pub mod daemon;
pub mod job;
pub mod listener;
pub mod paths;
pub mod poller;
