//! Virtual addresses against the kernel, in network namespaces of the tests' own: netlink, nftables, settings, and all
//! of it together with clients that call.
//!
//! The tests share one process, and each changes namespaces, mounts and names of its own threads only.

#![allow(clippy::unwrap_used)] // a panic is how a test fails

mod flushed;
mod killed;
mod namespace;
mod netlink;
mod network;
mod nft;
mod service;
mod sysctl;
