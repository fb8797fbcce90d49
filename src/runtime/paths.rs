//! Where files lie.

/// Where berth keeps what does not outlive a reboot.
pub const RUNTIME: &str = "/run/berth";
