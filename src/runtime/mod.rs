//! What the long-lived processes have in common: how one is started and found, its socket and messages, and its
//! children.

pub(crate) mod channel;
pub(crate) mod daemon;
pub(crate) mod job;
pub(crate) mod listener;
pub mod paths;
pub(crate) mod poller;
