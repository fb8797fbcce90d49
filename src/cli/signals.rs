//! Signals that ask this command to end, where something has to be put in order first.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use crate::sys::poll::poll;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// What ends a command: ^C, a terminal that goes away, a polite kill.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

/// While it lives, these signals are held back; what is held back when it ends has its effect then.
pub(crate) struct Signals {
    fd: SignalFd,
    before: SigSet,
}

impl Signals {
    /// Begins to hold them back.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn hold() -> io::Result<Self> {
        let mut set = SigSet::empty();
        let heard = ENDING.iter().filter(|signal| !is_ignored(**signal));
        heard.for_each(|signal| set.add(*signal));
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        let before = SigSet::thread_get_mask()?;
        set.thread_block()?;
        Ok(Self { fd, before })
    }

    /// Waits at most that long for one; its name.
    ///
    /// # Errors
    /// The kernel's.
    pub(crate) fn wait(&self, patience: Duration) -> io::Result<Option<&'static str>> {
        let mut fds = [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, Some(Instant::now() + patience))?;
        let Some(info) = self.fd.read_signal()? else {
            return Ok(None);
        };
        let number = info.ssi_signo;
        let known = ENDING.iter().find(|s| **s as u32 == number);
        Ok(known.map(|signal| signal.as_str()))
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // This was the thread's own mask, so it can't be refused.
        let _ = self.before.thread_set_mask();
    }
}

/// Whether whoever started this command has it ignore the signal, as nohup does: while it is held back, it
/// would be told all the same.
fn is_ignored(signal: Signal) -> bool {
    let mut now = std::mem::MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: nothing is changed, as there is no new action, and the kernel fills in the present one.
    let asked = unsafe { libc::sigaction(signal as i32, std::ptr::null(), now.as_mut_ptr()) };
    // SAFETY: it is filled in if the call did not fail.
    asked == 0 && unsafe { now.assume_init() }.sa_sigaction == libc::SIG_IGN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_held_back_and_told() {
        let signals = Signals::hold().unwrap();
        assert_eq!(signals.wait(Duration::ZERO).unwrap(), None);
        // To this thread: the others of the test program have not asked for it.
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        assert_eq!(
            signals.wait(Duration::from_secs(5)).unwrap(),
            Some("SIGTERM")
        );
        assert_eq!(signals.wait(Duration::ZERO).unwrap(), None);
    }
}
