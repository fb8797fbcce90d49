//! Takes rights away from programs that run in a cell, and from processes that join it.

use std::ffi::CStr;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

use super::filter::{Call, Filter, Sender};
use crate::sys::cgroup;
use crate::sys::program;

/// Open files of a server: a Samba process and Ganesha hold one for each that a client has open.
const FILES: u64 = 1 << 20;

/// The rank of a server for the kernel's out-of-memory killer: that of any program.
const OOM_SCORE: &CStr = c"0";

/// A command that runs with these capabilities and system calls and no others, in a session of its own. It begins
/// with the name of a program, which [`program::find`] knows the place of.
///
/// # Errors
/// `InvalidInput` if there is no such name; `NotFound` if the program is not installed.
pub(crate) fn restricted(
    argv: &[String],
    rights: CapabilitySet,
    calls: &[Call],
) -> io::Result<Command> {
    prepared(argv, rights, Filter::new(calls)?, None)
}

/// As [`restricted`]; the calls that the program is refused are reported to the other end of `refusals_to`, if given.
///
/// # Errors
/// As [`restricted`].
pub(crate) fn prepared(
    argv: &[String],
    rights: CapabilitySet,
    filter: Filter,
    refusals_to: Option<Sender>,
) -> io::Result<Command> {
    let mut command = program::command(argv.first().map_or("", String::as_str))?;
    command.args(argv.iter().skip(1));
    // SAFETY: as pre_exec wants it, the child only makes system calls on memory and descriptors that the closure owns.
    unsafe {
        command.pre_exec(move || {
            rustix::process::setsid()?;
            // Set while this process still has the rights for it: PID 1 and the keeper have a lower value. It only
            // protects others, so a failure is no reason not to serve.
            let _ = cgroup::set_oom_score(OOM_SCORE);
            let files = Rlimit {
                current: Some(FILES),
                maximum: Some(FILES),
            };
            // The host's own limit (fs.nr_open) may be lower, and applies to the server then.
            let _ = rustix::process::setrlimit(Resource::Nofile, files);
            restrict(rights)?;
            // Last: a refused call would wait for an answer from the parent, which waits for the exec.
            confine(&filter, refusals_to.as_ref())
        });
    }
    Ok(command)
}

/// Puts the filter on this process, and hands over the filter's descriptor, if there is one and it is wanted.
///
/// Makes system calls only, so it may be called between fork and exec.
///
/// # Errors
/// Whatever the kernel refuses.
pub(crate) fn confine(filter: &Filter, refusals_to: Option<&Sender>) -> io::Result<()> {
    let Some(sender) = refusals_to else {
        return filter.install();
    };
    match filter.install_told()? {
        Some(refusals) => sender.send(refusals.as_fd()),
        None => Ok(()),
    }
}

/// Gives up all capabilities but `rights`, for this process and whatever it executes.
///
/// # Errors
/// Whatever the kernel refuses.
pub fn restrict(rights: CapabilitySet) -> io::Result<()> {
    // berth itself may run with fewer capabilities, as in a container.
    let rights = rights & rustix::thread::capabilities(None)?.permitted;
    // Bit by bit as capabilities(7) numbers them; the kernel answers EINVAL beyond its last one.
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        if rights.contains(one) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(one) {
            Ok(()) => {}
            Err(rustix::io::Errno::INVAL) => break,
            Err(e) => return Err(e.into()),
        }
    }
    rustix::thread::set_no_new_privs(true)?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: rights,
            permitted: rights,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}
