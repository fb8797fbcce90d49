//! Where files lie.

/// Where berth keeps what does not outlive a reboot: sockets, locks and records; for root only. A dot in the names of
/// files keeps them from the directories of vservers.
pub const RUNTIME: &str = "/run/berth";

/// [`RUNTIME`] in a cell, where it is a directory of the cell's own: the servers' configuration is there, and what the
/// cell has of its own in place of the node's.
pub(crate) const RUNTIME_IN_CELL: &str = RUNTIME;
