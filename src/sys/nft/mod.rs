//! The nftables tables that let VIP traffic through a node and nothing else.
//!
//! The rules are fixed, and made once by `nft`. They refer to sets, whose elements are added, deleted and listed over
//! nfnetlink directly.

mod cell;
mod elements;
mod expression;
mod foreign;
mod generation;
mod protocol;
mod seal;
mod table;

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub(crate) use cell::CELL_TABLES;
pub use cell::CellFilter;
pub use elements::Element;
pub(crate) use elements::TABLE;
pub(crate) use foreign::Barrier;
pub use foreign::Passage;
use nix::sys::wait::waitpid;

use crate::sys::message;
use crate::sys::namespace;
use crate::sys::netlink::transport::{Refusal, Request, Transport};
use crate::sys::process;

/// The state of berth's tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// There are none.
    Absent,
    /// They are there, but not with all their rules.
    Damaged,
    /// They are there with all the rules of another version of berth.
    Outdated,
    /// They are as this version makes them.
    Whole,
}

/// An nftables socket; it belongs to one network namespace for good.
pub struct Socket {
    transport: Transport,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace.
    ///
    /// # Errors
    /// If the kernel has no nftables.
    pub fn new() -> io::Result<Self> {
        let transport = Transport::open(netlink_sys::protocols::NETLINK_NETFILTER)?;
        Ok(Self { transport })
    }

    /// Opens a socket in the network namespace of `namespace`: a descriptor of it, or a pidfd.
    ///
    /// # Errors
    /// As [`Socket::new`], and `PermissionDenied` without CAP_SYS_ADMIN.
    pub fn in_netns(namespace: impl AsFd) -> io::Result<Self> {
        namespace::inside(namespace, Self::new)
    }

    /// Closes the socket after something was deleted. The kernel makes the process that closes it last wait until all
    /// processors have let go of what was deleted, some 20 ms. So another process closes it last: nobody waits for it,
    /// and it is not a child that the caller, which may live for long, would have to reap.
    pub fn close_aside(self) {
        let release = hold_aside(self.transport.as_fd());
        // The other process still has the socket: it waits until the pipe is closed after this.
        drop(self);
        drop(release);
    }

    /// Has the kernel do all of `requests` or none.
    fn transaction(&mut self, requests: &[Request]) -> io::Result<Result<(), (usize, Refusal)>> {
        let (begin, end) = elements::frame();
        self.transport
            .batch(&begin, requests, &end)
            .map_err(|e| message(e, "change nftables table berth"))
    }
}

/// Starts a process that keeps `socket` open until the returned descriptor is closed; `None` if none can be started.
fn hold_aside(socket: BorrowedFd<'_>) -> Option<OwnedFd> {
    let (wait, release) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).ok()?;
    // This child only forks the process that holds the socket, which the system's PID 1 then reaps.
    let begin = || {
        // SAFETY: as below; that child ends after it has held the socket.
        i32::from(unsafe { process::fork(|| hold(socket, wait.as_fd())) }.is_err())
    };
    // SAFETY: both children make system calls on memory that is there, whatever threads this process has, and end.
    let child = unsafe { process::fork(begin) }.ok()?;
    let _ = waitpid(child, None);
    Some(release)
}

/// Keeps only `socket` open, until the other end of the pipe behind `wait` is closed.
///
/// # Safety
/// As of [`process::close_all_but`]: this is a child that ends afterwards.
unsafe fn hold(socket: BorrowedFd<'_>, wait: BorrowedFd<'_>) -> i32 {
    // This process must keep neither the pipes that the caller's parent reads to their end, nor locks.
    // SAFETY: the caller's promise.
    unsafe { process::close_all_but(&mut [socket.as_raw_fd(), wait.as_raw_fd()]) };
    while rustix::io::read(wait, &mut [0]) == Err(rustix::io::Errno::INTR) {}
    0
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::path::Path;
    use std::time::{Duration, Instant};

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    /// The other processes that have this file open, by their directories in /proc.
    fn holders(file: &Path) -> Vec<std::path::PathBuf> {
        let processes = fs::read_dir("/proc").unwrap().flatten().map(|p| p.path());
        let own = format!("/proc/{}", std::process::id());
        let others = processes.filter(|p| *p != Path::new(&own));
        let has = |process: &std::path::PathBuf| {
            let fds = fs::read_dir(process.join("fd")).into_iter().flatten();
            let mut files = fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
            files.any(|open| open == file)
        };
        others.filter(has).collect()
    }

    /// Whether a process waits for something.
    fn sleeps(process: &Path) -> bool {
        let status = fs::read_to_string(process.join("status")).unwrap_or_default();
        status.contains("State:\tS")
    }

    #[test]
    fn whoever_closes_aside_does_so_last() {
        // What is held is a pipe's writing end: the other one tells when nobody has that any more.
        let (told, held) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let ended = |limit: Duration| {
            let mut fds = [PollFd::new(&told, PollFlags::IN)];
            let limit = Timespec::try_from(limit).unwrap();
            poll(&mut fds, Some(&limit)).unwrap() == 1
        };
        let name = fs::read_link(format!("/proc/self/fd/{}", held.as_raw_fd())).unwrap();
        let release: OwnedFd = hold_aside(held.as_fd()).unwrap();
        drop(held);
        // It has got as far as where it waits, with the socket still open.
        let limit = Instant::now() + Duration::from_secs(20);
        while !holders(&name).iter().any(|process| sleeps(process)) {
            assert!(
                !ended(Duration::ZERO),
                "it was closed before the parent let go"
            );
            assert!(Instant::now() < limit, "it does not wait");
        }
        assert!(!ended(Duration::ZERO));
        drop(release);
        assert!(ended(Duration::from_secs(20)), "it is still held");
    }
}
