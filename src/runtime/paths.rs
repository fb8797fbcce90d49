//! Where files lie.

/// Where berth keeps what does not outlive a reboot: sockets, locks and records; for root only. A dot in the names of
/// files keeps them from the directories of vservers.
pub const RUNTIME: &str = "/run/berth";
