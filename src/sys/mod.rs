//! The kernel: netlink, nftables, namespaces, mounts, block devices, announcements, and the one place
//! that starts a process. Knows nothing of OCF: errors are `io::Error`s that say what was tried.

pub(crate) mod announce;
pub mod cgroup;
pub mod command;
pub mod device;
pub(crate) mod ethtool;
pub(crate) mod keyring;
pub(crate) mod lock;
pub(crate) mod memory;
pub mod mount;
pub mod mounted;
pub(crate) mod mountinfo;
pub mod namespace;
pub mod netlink;
pub mod nft;
pub(crate) mod poll;
pub(crate) mod process;
pub(crate) mod processor;
pub mod program;
pub(crate) mod reserved_port;
pub(crate) mod sockets;
pub(crate) mod state;
pub(crate) mod stderr;
pub mod superblock;
pub mod sysctl;
pub(crate) mod twin;

/// What was tried, and why it failed.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
struct Attempt {
    what: String,
    source: std::io::Error,
}

/// The same error with the words of what was tried before its own; its source stays at hand.
pub(crate) fn message(source: std::io::Error, what: impl std::fmt::Display) -> std::io::Error {
    let what = what.to_string();
    std::io::Error::new(source.kind(), Attempt { what, source })
}
