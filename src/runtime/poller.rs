//! What a loop waits for: descriptors, each with its source, and points in time. A loop registers anew in each turn
//! what it has, so no descriptor is known by its position among the others.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags};

use crate::sys::poll::poll;

/// The descriptors and points in time that are waited for; `S` tells the sources apart.
#[derive(Debug)]
pub(crate) struct Poller<'fd, S> {
    fds: Vec<PollFd<'fd>>,
    sources: Vec<S>,
    until: Option<Instant>,
}

impl<S> Default for Poller<'_, S> {
    fn default() -> Self {
        Self {
            fds: Vec::new(),
            sources: Vec::new(),
            until: None,
        }
    }
}

impl<'fd, S: Copy> Poller<'fd, S> {
    /// Waits for these descriptors to be readable.
    pub(crate) fn read(&mut self, source: S, fds: impl IntoIterator<Item = BorrowedFd<'fd>>) {
        self.add(source, fds, PollFlags::POLLIN);
    }

    /// Waits for an exceptional condition of these descriptors, as files of control groups have when they change.
    pub(crate) fn exceptional(
        &mut self,
        source: S,
        fds: impl IntoIterator<Item = BorrowedFd<'fd>>,
    ) {
        self.add(source, fds, PollFlags::POLLPRI);
    }

    fn add(&mut self, source: S, fds: impl IntoIterator<Item = BorrowedFd<'fd>>, what: PollFlags) {
        for fd in fds {
            self.fds.push(PollFd::new(fd, what));
            self.sources.push(source);
        }
    }

    /// Waits no longer than until the first of these points in time.
    pub(crate) fn until(&mut self, moments: impl IntoIterator<Item = Instant>) {
        self.until = moments.into_iter().chain(self.until).min();
    }

    /// Waits, and returns the source of each descriptor that is ready; none if the time has come, or a signal.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn wait(mut self) -> io::Result<Vec<S>> {
        poll(&mut self.fds, self.until)?;
        let all = self.fds.iter().zip(self.sources);
        // A condition that this program does not know is a reason to look, too.
        let ready = all.filter(|(fd, _)| fd.any().unwrap_or(true));
        Ok(ready.map(|(_, source)| source).collect())
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::time::Duration;

    use super::*;

    #[test]
    fn who_is_ready_is_told_by_name_however_many_descriptors_come_before() {
        let (quiet, _held) = UnixStream::pair().unwrap();
        let (ended, _) = UnixStream::pair().unwrap();
        let mut poller = Poller::default();
        poller.read("quiet", [quiet.as_fd(), quiet.as_fd()]);
        poller.read("nothing", None);
        poller.read("ended", [ended.as_fd()]);
        poller.exceptional("exceptional", [quiet.as_fd()]);
        assert_eq!(poller.wait().unwrap(), ["ended"]);
    }

    #[test]
    fn the_first_moment_counts() {
        let now = Instant::now();
        let mut poller = Poller::<()>::default();
        poller.until([now + Duration::from_secs(3600), now]);
        poller.until(Some(now + Duration::from_secs(7200)));
        assert!(poller.wait().unwrap().is_empty());
    }
}
