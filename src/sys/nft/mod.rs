//! The nftables tables that let VIP traffic through a node and nothing else.
//!
//! The rules are fixed and made once, by `nft`; what they apply to are elements of sets, which are
//! added, deleted and listed over nfnetlink directly.

mod elements;
mod foreign;
mod seal;
mod table;

use std::io;
use std::os::fd::AsFd;

pub use elements::{Element, TABLE};
pub use foreign::{Barrier, Passage};
use nix::unistd::{ForkResult, fork};

use crate::sys::message;
use crate::sys::namespace;
use crate::sys::netlink::wire::{Refusal, Request, Wire};

/// How the tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Not there.
    Absent,
    /// There, but not with all their rules.
    Damaged,
    /// There, with all the rules of another version of berth.
    Outdated,
    /// As they should be.
    Whole,
}

/// An nftables socket; it belongs to one network namespace for good.
pub struct Socket {
    wire: Wire,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// If the kernel has no nftables.
    pub fn new() -> io::Result<Self> {
        let wire = Wire::open(netlink_sys::protocols::NETLINK_NETFILTER)?;
        Ok(Self { wire })
    }

    /// Opens a socket in the network namespace of `namespace`: a descriptor of it, or a pidfd.
    ///
    /// # Errors
    /// As [`Socket::new`], and `PermissionDenied` without CAP_SYS_ADMIN.
    pub fn in_netns(namespace: impl AsFd) -> io::Result<Self> {
        namespace::inside(namespace, Self::new)
    }

    /// Closes the socket after something was deleted. The kernel makes whoever closes it wait until all
    /// processors have let go of that, some 20 ms: a child does it, which nobody waits for.
    pub fn close_aside(self) {
        // SAFETY: the child makes a few system calls and ends; no lock matters to it.
        let Ok(ForkResult::Child) = (unsafe { fork() }) else {
            return;
        };
        // Whoever started this process waits for the end of what it says.
        for stream in 0..3 {
            // SAFETY: nothing in this process uses them any more.
            unsafe { libc::close(stream) };
        }
        // SAFETY: ends the process at once.
        unsafe { libc::_exit(0) }
    }

    /// Has the kernel do all of `requests` or none.
    fn transaction(&mut self, requests: &[Request]) -> io::Result<Result<(), (usize, Refusal)>> {
        let (begin, end) = elements::frame();
        self.wire
            .batch(&begin, requests, &end)
            .map_err(|e| message(e, "change nftables table berth"))
    }
}
