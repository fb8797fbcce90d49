//! The kernel: netlink, nftables, namespaces, mounts, block devices, announcements, and the one place
//! that starts a process. Knows nothing of OCF: errors are `io::Error`s that say what was tried.

pub mod announce;
pub mod cgroup;
pub mod command;
pub mod device;
pub mod ethtool;
pub mod keyring;
pub mod lock;
pub mod memory;
pub mod mount;
pub mod mounted;
pub mod mountinfo;
pub mod namespace;
pub mod netlink;
pub mod nft;
pub mod poll;
pub mod process;
pub mod processor;
pub mod program;
pub mod reserved_port;
pub mod sockets;
pub mod state;
pub mod stderr;
pub mod superblock;
pub mod sysctl;
pub mod twin;

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
