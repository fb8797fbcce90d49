//! The directories of berth's files.

/// Where berth keeps what does not outlive a reboot: sockets, locks and records; for root only. A dot in the names of
/// files keeps them from the directories of vservers.
pub const RUNTIME: &str = "/run/berth";

/// [`RUNTIME`] in a cell, which has a directory of its own there: with the servers' configuration, and the cell's own
/// versions of the node's files.
pub(crate) const RUNTIME_IN_CELL: &str = RUNTIME;
