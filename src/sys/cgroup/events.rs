//! The events of a control group, which the kernel counts in a file that can be polled.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use nix::poll::PollFlags;

use super::Group;
use crate::sys::message;
use crate::sys::poll::is_ready;

/// How long after a look the next one comes at the earliest: a group that lives at its limit has events all the
/// time, up to a hundred a second.
const PAUSE: Duration = Duration::from_secs(1);

/// Longer than memory.events is.
const LENGTH: usize = 1024;

/// One count in one file of events, such as `oom_kill` in memory.events.
#[derive(Debug)]
pub(crate) struct Events {
    file: File,
    key: &'static str,
    seen: u64,
    next: Instant,
}

impl Events {
    /// Begins to watch a count; what was before is not told.
    ///
    /// # Errors
    /// `NotFound` if the group has no such file, mostly for want of its controller.
    pub(crate) fn watch(group: &Group, file: &str, key: &'static str) -> io::Result<Self> {
        let path = group.path().join(file);
        let file = File::open(&path).map_err(|e| message(e, path.display()))?;
        let mut events = Self {
            file,
            key,
            seen: 0,
            next: Instant::now(),
        };
        events.seen = events.count()?;
        Ok(events)
    }

    /// To be polled for POLLPRI: the file has changed since it was read. `None` while it is too early for that.
    pub(crate) fn fd(&self, now: Instant) -> Option<BorrowedFd<'_>> {
        (now >= self.next).then(|| self.file.as_fd())
    }

    /// When it is to be polled again, if not now.
    pub(crate) fn due(&self, now: Instant) -> Option<Instant> {
        (now < self.next).then_some(self.next)
    }

    /// The count of the event, if it has changed since the last call.
    pub(crate) fn news(&mut self, now: Instant) -> Option<u64> {
        if !is_ready(self.fd(now)?, PollFlags::POLLPRI) {
            return None;
        }
        self.next = now + PAUSE;
        // A file of a group that has just been removed says nothing any more.
        let count = self.count().ok()?;
        (std::mem::replace(&mut self.seen, count) != count).then_some(count)
    }

    /// Each reading from the file's beginning also has poll(2) wait for the next change.
    fn count(&self) -> io::Result<u64> {
        let mut bytes = [0; LENGTH];
        let length = self.file.read_at(&mut bytes, 0)?;
        let text = String::from_utf8_lossy(&bytes[..length]);
        let mut lines = text.lines().filter_map(|line| line.split_once(' '));
        let value = lines.find(|(key, _)| *key == self.key);
        Ok(value.and_then(|(_, v)| v.parse().ok()).unwrap_or(0))
    }
}
