//! What a loop waits for: descriptors, each with the source that it is of, and moments. A loop says anew in each turn
//! what it has; no descriptor is told by its place among the others.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags};

use crate::sys::poll::poll;

/// What is waited for; `S` tells the sources apart.
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

    /// Waits for these to have an exceptional condition, as files of control groups do when they have changed.
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

    /// Waits no longer than to the first of these moments.
    pub(crate) fn until(&mut self, moments: impl IntoIterator<Item = Instant>) {
        self.until = moments.into_iter().chain(self.until).min();
    }

    /// Waits, and gives the source of each descriptor that is ready. There are none if a moment has come, or a signal.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn wait(mut self) -> io::Result<Vec<S>> {
        poll(&mut self.fds, self.until)?;
        let all = self.fds.iter().zip(self.sources);
        // What it says besides is not known to this program, and so a reason to look.
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
