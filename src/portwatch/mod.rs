//! The daemon of a node that watches its ports, and serves virtual IP addresses through those that work.

pub(crate) mod client;
pub(crate) mod daemon;
pub(crate) mod detour;
pub(crate) mod mover;
pub(crate) mod protocol;
pub(crate) mod publisher;
pub(crate) mod records;
pub(crate) mod settings;
pub(crate) mod state;
pub(crate) mod targets;
pub(crate) mod watch;
