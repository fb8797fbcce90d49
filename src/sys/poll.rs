//! Waiting for descriptors with poll(2), up to a moment rather than for a time.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};

/// Waits until one of `fds` is ready or `until` has come, `None` being never; says how many are ready. A signal that
/// is handled ends it early, with none.
///
/// # Errors
/// Whatever the kernel refuses.
pub(crate) fn poll(fds: &mut [PollFd<'_>], until: Option<Instant>) -> io::Result<usize> {
    match nix::poll::poll(fds, timeout(until)) {
        Ok(ready) => Ok(ready.unsigned_abs() as usize),
        Err(Errno::EINTR) => Ok(0),
        Err(e) => Err(e.into()),
    }
}

/// The time until then, rounded up to what poll(2) counts in: so the end is not spun towards.
fn timeout(until: Option<Instant>) -> PollTimeout {
    let Some(until) = until else {
        return PollTimeout::NONE;
    };
    let left = until.saturating_duration_since(Instant::now());
    PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
}

/// Waits until one of `fds` is ready.
///
/// # Errors
/// `TimedOut` at `deadline`; whatever else the kernel refuses.
pub(crate) fn wait(fds: &mut [PollFd<'_>], deadline: Instant) -> io::Result<()> {
    while poll(fds, Some(deadline))? == 0 {
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

/// Waits until `fd` can be read.
///
/// # Errors
/// As [`wait`].
pub(crate) fn wait_readable(fd: &impl AsFd, deadline: Instant) -> io::Result<()> {
    wait(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLIN)], deadline)
}

/// Whether something can be done at once, or has failed.
pub(crate) fn is_ready(fd: BorrowedFd<'_>, what: PollFlags) -> bool {
    let mut fds = [PollFd::new(fd, what)];
    matches!(nix::poll::poll(&mut fds, PollTimeout::ZERO), Ok(1..))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_there_is_ready_whatever_the_deadline_and_what_is_not_is_waited_for() {
        let (reader, writer) = std::os::unix::net::UnixStream::pair().unwrap();
        let now = Instant::now();
        assert!(!is_ready(reader.as_fd(), PollFlags::POLLIN));
        let in_vain = wait_readable(&reader, now + Duration::from_millis(5));
        assert_eq!(in_vain.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(now.elapsed() >= Duration::from_millis(5));
        drop(writer);
        assert!(is_ready(reader.as_fd(), PollFlags::POLLIN));
        wait_readable(&reader, now).unwrap();
    }

    #[test]
    fn a_time_is_rounded_up_and_one_that_is_over_does_not_wait() {
        assert_eq!(timeout(None), PollTimeout::NONE);
        assert_eq!(timeout(Some(Instant::now())), PollTimeout::ZERO);
        let soon = timeout(Some(Instant::now() + Duration::from_micros(300)));
        assert!(soon <= PollTimeout::from(1_u8));
        let far = Instant::now() + Duration::from_secs(u64::from(u32::MAX));
        assert_eq!(timeout(Some(far)), PollTimeout::MAX);
    }
}
