//! Going into a machine: its namespaces, through a handle of its PID 1.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, chdir, fork};

use crate::error::{Context, Error, Result};

/// The namespaces that a machine consists of.
pub const NAMESPACES: CloneFlags = CloneFlags::CLONE_NEWNS
    .union(CloneFlags::CLONE_NEWNET)
    .union(CloneFlags::CLONE_NEWPID)
    .union(CloneFlags::CLONE_NEWUTS)
    .union(CloneFlags::CLONE_NEWIPC);

/// Lets `command` run inside the machine whose PID 1 is `machine`, as a process of that machine:
/// it dies with it, and with whoever started it. Its exit code is passed on; 128 and the signal's
/// number stand for a death by signal.
pub fn enter(command: &mut Command, machine: OwnedFd) {
    let step = move || {
        setns(&machine, NAMESPACES)?;
        chdir("/")?;
        // A PID namespace is entered by children only.
        // SAFETY: the parent makes nothing but system calls from here on; the child goes on to
        // exec, as it would have without the fork.
        match unsafe { fork() }? {
            ForkResult::Child => {
                nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
                Ok(())
            }
            ForkResult::Parent { child } => stand_in(child),
        }
    };
    // SAFETY: only system calls between fork and exec, no allocation.
    unsafe {
        command.pre_exec(step);
    }
}

/// Waits for the process in the machine and ends as it did.
fn stand_in(child: Pid) -> ! {
    // What is typed at a terminal is meant for the program inside.
    for s in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGTSTP] {
        // SAFETY: ignoring a signal installs no handler.
        let _ = unsafe { signal(s, SigHandler::SigIgn) };
    }
    // Descriptors that others wait on to be closed must not stay open here.
    // SAFETY: nothing in this process uses a descriptor any more.
    unsafe { libc::close_range(0, u32::MAX, 0) };
    let code = loop {
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, code)) => break code,
            Ok(WaitStatus::Signaled(_, signal, _)) => break 128 + signal as i32,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => break 127,
        }
    };
    // SAFETY: ends the process at once, without anything of the parent's being run.
    unsafe { libc::_exit(code) }
}

/// Runs `work` on a thread of its own whose network is that of the machine, and returns what it
/// returned. Sockets that it opens stay in that network.
///
/// # Errors
/// If the machine is gone.
pub fn on_network_of<T: Send>(
    machine: BorrowedFd<'_>,
    work: impl FnOnce() -> T + Send,
) -> Result<T> {
    thread::scope(|scope| {
        let run = || match setns(machine, CloneFlags::CLONE_NEWNET) {
            Ok(()) => Ok(work()),
            Err(e) => Err(Error::new(format!("enter the machine's network: {e}"))),
        };
        scope.spawn(run).join()
    })
    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A handle of the process `pid`, which stays valid when the number is used again.
///
/// # Errors
/// If there is no such process.
pub fn handle(pid: i32) -> Result<OwnedFd> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let pid = rustix::process::Pid::from_raw(pid).ok_or_else(invalid);
    pid.and_then(|pid| {
        Ok(rustix::process::pidfd_open(
            pid,
            rustix::process::PidfdFlags::empty(),
        )?)
    })
    .context("open a process handle")
}

/// Whether the process behind the handle has ended.
pub fn has_ended(process: &OwnedFd) -> bool {
    let mut fds = [libc::pollfd {
        fd: process.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    }];
    // SAFETY: one valid pollfd, no waiting.
    unsafe { libc::poll(fds.as_mut_ptr(), 1, 0) == 1 }
}
