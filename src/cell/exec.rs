//! A program of the administrator's in a cell, beside the servers.
//!
//! It reads what servers could write, such as Samba's databases, so it has no more rights than they have unless it is
//! to, and gets nothing of its caller's but the standard streams: no other descriptor, no key, no terminal.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ExitStatus, Stdio};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::Pid;

use super::cgroup;
use super::client;
use super::confine::{confine, restrict};
use super::filter::{Filter, Refusals, handover};
use super::service;
use crate::sys::cgroup::{Entrance, set_oom_score};
use crate::sys::command::command;
use crate::sys::poll::poll;
use crate::sys::{keyring, message, namespace, process};
use crate::types::VserverName;
use streams::Streams;
use terminal::Terminal;

mod streams;
mod terminal;

/// What a program in a cell may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rights {
    /// What servers may.
    Server,
    /// What this process may.
    Full,
}

/// Ends a program: a terminal's keys and its going away, a polite kill.
const ENDING: [Signal; 4] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGQUIT,
];

/// Runs `argv` in the cell of `vserver`, with this process's standard streams; those that are a terminal are
/// replaced by one of the cell's own, and those that are files by pipes. `refused` is told the name of each system call that it is refused.
///
/// # Errors
/// `NotFound` if there is no such cell; what came between the program and a file of the caller's; whatever the kernel
/// refuses.
pub(crate) fn exec(
    vserver: &VserverName,
    argv: &[String],
    rights: Rights,
    mut refused: impl FnMut(&str),
) -> io::Result<ExitStatus> {
    let init = open_init(vserver)?;
    // Before the cell is entered, which has no terminals.
    let mut terminal = Terminal::open()?;
    let signals = hold_signals()?;
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWPID;
    // The cell's limits are those of whoever works in it; without them nobody could help there.
    let group = cgroup::entrance(vserver);
    setns(&init, all)
        .map_err(|e| message(e.into(), format_args!("enter the cell of {vserver}")))?;
    let (sender, receiver) = handover()?;
    let filter = Filter::new(&[])?;
    let mut program = command("/usr/bin/env");
    program.args(argv).stdin(Stdio::inherit());
    let streams = Streams::open(&mut program)?;
    if let Some(terminal) = &mut terminal {
        terminal.lend(&mut program)?;
    }
    // Between fork and exec the child is seen in the cell, and has all that this process has open.
    nix::sys::prctl::set_dumpable(false)?;
    let has_terminal = terminal.is_some();
    let prepare = move || {
        prepare(has_terminal)?;
        group.as_ref().map_or(Ok(()), Entrance::enter)?;
        match rights {
            Rights::Full => Ok(()),
            Rights::Server => {
                restrict(service::CAPABILITIES)?;
                confine(&filter, Some(&sender))
            }
        }
    };
    // SAFETY: as pre_exec wants it, the child only makes system calls on memory and descriptors that `prepare` owns.
    unsafe { program.pre_exec(prepare) };
    let child = program.spawn()?;
    // It has the program's ends of all streams, without which they don't end.
    drop(program);
    let mut running = Running {
        child,
        signals,
        terminal,
        streams,
        refusals: receiver.receive().map(Refusals::new),
        asked_to_end: false,
    };
    running.attend(&mut refused)
}

/// A pidfd of the PID 1 of `vserver`'s cell. Its keeper, which alone can reap it, names the same one before it is
/// opened and after: so its number has not come to mean another process.
fn open_init(vserver: &VserverName) -> io::Result<OwnedFd> {
    let none = || {
        let text = format!("{vserver} has no cell on this node");
        io::Error::new(io::ErrorKind::NotFound, text)
    };
    let cell = client::find(vserver)?.ok_or_else(none)?;
    let init = namespace::open_process(cell.init_pid)?;
    let again = client::find(vserver)?.ok_or_else(none)?;
    if (again.keeper_pid, again.init_pid) != (cell.keeper_pid, cell.init_pid) {
        let text = format!("the cell of {vserver} was replaced in this moment");
        return Err(io::Error::other(text));
    }
    Ok(init)
}

/// Takes from the program what it is not to have of its caller. Makes system calls only.
fn prepare(has_terminal: bool) -> io::Result<()> {
    rustix::process::setsid()?;
    if has_terminal {
        terminal::make_controlling()?;
    }
    keyring::leave()?;
    // Whoever calls may be spared by the killer of processes when memory is short; its program is not. There may
    // be no /proc.
    let _ = set_oom_score(c"0");
    process::close_on_exec()
}

fn hold_signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in ENDING
        .into_iter()
        .chain([Signal::SIGCHLD, Signal::SIGWINCH])
    {
        set.add(signal);
    }
    set.thread_block()?;
    let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
    Ok(SignalFd::with_flags(&set, flags)?)
}

/// The program while it runs.
struct Running {
    child: Child,
    signals: SignalFd,
    terminal: Option<Terminal>,
    streams: Streams,
    refusals: Option<Refusals>,
    asked_to_end: bool,
}

impl Running {
    /// Attends to it until it ends.
    fn attend(&mut self, refused: &mut impl FnMut(&str)) -> io::Result<ExitStatus> {
        loop {
            if let Some(status) = self.child.try_wait()? {
                if let Some(terminal) = &mut self.terminal {
                    terminal.finish();
                }
                self.streams.finish()?;
                return Ok(status);
            }
            self.wait()?;
            let now = Instant::now();
            let in_use = self
                .refusals
                .as_mut()
                .is_some_and(|refusals| refusals.answer(now, |refusal| refused(refusal.call)));
            if !in_use {
                self.refusals = None;
            }
            if let Some(terminal) = &mut self.terminal {
                terminal.relay();
            }
            self.streams.relay();
            while let Some(signal) = self.signals.read_signal()? {
                self.take(signal.ssi_signo as i32);
            }
        }
    }

    fn take(&mut self, signal: i32) {
        match Signal::try_from(signal) {
            Ok(Signal::SIGWINCH) => {
                if let Some(terminal) = &self.terminal {
                    terminal.resize();
                }
            }
            Ok(signal) if ENDING.contains(&signal) => {
                // Asked twice, it is not asked any more. Pids are far below 2^31.
                let signal = match std::mem::replace(&mut self.asked_to_end, true) {
                    false => signal,
                    true => Signal::SIGKILL,
                };
                let _ = kill(Pid::from_raw(self.child.id() as i32), signal);
            }
            // The child's end is seen in the loop.
            _ => {}
        }
    }

    fn wait(&self) -> io::Result<()> {
        let now = Instant::now();
        let mut fds = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        let refusals = self.refusals.as_ref();
        let asking = refusals.and_then(|refusals| refusals.fd(now));
        fds.extend(asking.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
        fds.extend(self.terminal.iter().flat_map(Terminal::fds));
        fds.extend(self.streams.fds());
        let until = refusals.and_then(|refusals| refusals.waits_until(now));
        poll(&mut fds, until).map(drop)
    }
}
