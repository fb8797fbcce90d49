//! Network namespaces: opened without a race, entered for one closure, always left again.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags};
use nix::sched::{CloneFlags, setns};

use crate::sys::message;
use crate::sys::poll::poll;

/// Runs `work` in the network namespace that `namespace` stands for: a descriptor of the namespace
/// itself or a pidfd of a process in it. The calling thread is back where it was when this returns,
/// also after a panic in `work`.
///
/// Sockets opened by `work` stay in that namespace for good, which is mostly what this is for.
///
/// # Errors
/// The errors of `work`, and of entering the namespace.
///
/// # Panics
/// The process is aborted if the thread's own namespace cannot be entered again: whatever it did
/// next would be done to the wrong network.
pub fn inside<T>(namespace: impl AsFd, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let _home = Home(File::open("/proc/thread-self/ns/net")?.into());
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .map_err(|e| message(e.into(), "enter the network namespace"))?;
    work()
}

/// The namespace to return to.
struct Home(OwnedFd);

impl Drop for Home {
    fn drop(&mut self) {
        if setns(&self.0, CloneFlags::CLONE_NEWNET).is_err() {
            std::process::abort();
        }
    }
}

/// A descriptor of process `pid` that never comes to mean another process.
///
/// # Errors
/// `NotFound` if there is no such process.
pub fn open_process(pid: i32) -> io::Result<OwnedFd> {
    let open = |pid| rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty());
    let opened = match rustix::process::Pid::from_raw(pid) {
        None => Err(io::ErrorKind::NotFound.into()),
        Some(pid) => open(pid).map_err(|e| match e {
            rustix::io::Errno::SRCH => io::ErrorKind::NotFound.into(),
            e => e.into(),
        }),
    };
    opened.map_err(|e: io::Error| message(e, format_args!("open process {pid}")))
}

/// Whether the process of a pidfd has not ended yet. One that only waits to be reaped has.
pub(crate) fn is_alive(process: BorrowedFd<'_>) -> bool {
    // A pidfd becomes readable when its process ends. A signal 0 would still reach a zombie.
    let mut fds = [PollFd::new(process, PollFlags::POLLIN)];
    // A process that can't be examined counts as dead: its process id may be another one's by now.
    matches!(poll(&mut fds, Some(Instant::now())), Ok(0))
}

/// Kills the process of a pidfd.
///
/// # Errors
/// If it has ended, or may not be killed.
pub(crate) fn kill(process: BorrowedFd<'_>) -> io::Result<()> {
    rustix::process::pidfd_send_signal(process, rustix::process::Signal::KILL)
        .map_err(|e| message(e.into(), "kill a process"))
}

/// The network namespace of process `pid`, which `process` is a pidfd of: proof that the number still
/// meant that process when its namespace was opened.
///
/// # Errors
/// `NotFound` if the process has ended.
pub(crate) fn open_network_of(pid: i32, process: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let what = || format!("open the network namespace of process {pid}");
    let namespace = File::open(format!("/proc/{pid}/ns/net")).map_err(|e| message(e, what()))?;
    if !is_alive(process) {
        return Err(message(io::ErrorKind::NotFound.into(), what()));
    }
    Ok(namespace.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_there_is_not_found() {
        let error = open_process(i32::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().starts_with("open process 2147483647: "));
    }

    #[test]
    fn own_namespace_is_opened_and_named_by_its_process() {
        let me = i32::try_from(std::process::id()).unwrap();
        let process = open_process(me).unwrap();
        assert!(is_alive(process.as_fd()));
        open_network_of(me, process.as_fd()).unwrap();
    }
}
