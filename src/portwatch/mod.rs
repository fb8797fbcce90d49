//! The daemon of a node that watches its ports, and serves virtual IP addresses through those that work.

pub mod client;
pub mod daemon;
pub mod detour;
pub mod mover;
pub mod protocol;
pub mod publisher;
pub mod records;
pub mod settings;
pub mod state;
pub mod targets;
pub mod watch;
