//! The start of a server in a cell: with fewer rights, a session of its own, and its output on a pipe.

use std::io;
use std::os::fd::OwnedFd;
use std::process::Child;

use rustix::pipe::PipeFlags;

use crate::cell::confine::prepared;
use crate::cell::filter::{Filter, Refusals, handover};
use crate::cell::service::Launch;

/// A server that was started.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its process.
    pub(crate) child: Child,
    /// Its standard output and error, which never block.
    pub(crate) output: OwnedFd,
    /// The system calls that it is refused, if the kernel can report them.
    pub(crate) refusals: Option<Refusals>,
}

/// Starts a server with its standard output and error on a pipe and `input` as its standard input.
///
/// # Errors
/// `NotFound` if the program is not installed; or whatever the kernel refuses. Names the program.
pub(crate) fn spawn(launch: &Launch, input: OwnedFd) -> io::Result<Started> {
    let (output, written) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
    let flags = rustix::fs::fcntl_getfl(&output)?;
    rustix::fs::fcntl_setfl(&output, flags | rustix::fs::OFlags::NONBLOCK)?;
    let (sender, receiver) = handover()?;
    let filter = Filter::new(&launch.calls)?;
    let mut command = prepared(&launch.argv, launch.capabilities, filter, Some(sender))?;
    command
        .envs(launch.environment.iter().map(|(k, v)| (k, v)))
        .current_dir("/")
        .stdin(input)
        .stdout(written.try_clone()?)
        .stderr(written);
    let child = command
        .spawn()
        .map_err(|e| crate::sys::message(e, format_args!("start {}", launch.argv[0])))?;
    Ok(Started {
        child,
        output,
        refusals: receiver.receive().map(Refusals::new),
    })
}
