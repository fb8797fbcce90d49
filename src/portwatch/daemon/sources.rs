//! What the daemon waits for, and what the kernel tells it.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::endurance::PAUSE;
use super::{Daemon, MEND_AFTER, MEND_PAUSE, TABLE_PAUSE};
use crate::plan::detour::Event;
use crate::portwatch::detour;
use crate::runtime::channel::Channel;
use crate::sys::netlink::Change;

/// What can be read.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ready {
    pub events: bool,
    pub answers: bool,
    pub records: bool,
    pub signals: bool,
    pub agents: bool,
}

impl Daemon {
    /// Takes what the kernel tells: of changes, and of answers.
    pub(super) fn hear_kernel(&mut self, ready: Ready, now: Instant) -> io::Result<()> {
        if ready.events {
            let heeded = self
                .events
                .read()
                .and_then(|changes| self.heed(&changes, now));
            if self.endurance.note(heeded, now)? {
                // Nothing is known of what came meanwhile.
                let everything = [Change::Link, Change::Address, Change::Loss, Change::Table];
                let everything = everything.into();
                let heeded = self.heed(&everything, now);
                self.endurance.note(heeded, now)?;
            }
        }
        if ready.answers {
            let answers = self.ear.answers();
            let answers = answers.map(|answers| {
                for answer in answers {
                    self.watch.hear(&answer, now);
                    self.feed_detours(Event::Reply(detour::reply(&answer)), now);
                }
            });
            self.deafness.note(answers, now)?;
        }
        Ok(())
    }

    fn heed(&mut self, changes: &BTreeSet<Change>, now: Instant) -> io::Result<()> {
        let mut concerned = false;
        if changes.contains(&Change::Link) || changes.contains(&Change::Address) {
            concerned |= self.look(now)?;
        }
        // Interfaces come and go on some nodes all day long.
        concerned |= changes.iter().any(|change| match change {
            Change::Loss | Change::Setting(None) => true,
            Change::Setting(Some(index)) => self.watch.concerns(*index),
            Change::Link | Change::Address | Change::Table => false,
        });
        let later = (now + MEND_AFTER).max(self.mended + MEND_PAUSE);
        let soon = now.max(self.mended + TABLE_PAUSE);
        let dues = [
            concerned.then_some(later),
            changes.contains(&Change::Table).then_some(soon),
        ];
        self.mend_at = dues.into_iter().chain([self.mend_at]).flatten().min();
        Ok(())
    }

    /// Waits until something happens or is due.
    pub(super) fn wait(&self) -> io::Result<Ready> {
        let now = Instant::now();
        let mut fds: Vec<BorrowedFd<'_>> = vec![self.mover.fd(), self.signals.as_fd()];
        let begin = fds.len();
        // A failure to look at what has changed has nothing more to read: it is repeated in time.
        let missed = self.endurance.is_over(now);
        if self.endurance.permits(now) {
            fds.extend(self.events.fds());
        }
        let events = fds.len();
        if self.deafness.permits(now) {
            fds.extend(self.ear.fds());
        }
        let answers = fds.len();
        fds.extend(self.listener.fd(self.clients.len()));
        fds.extend(self.clients.iter().map(Channel::as_fd));
        let agents = fds.len();
        fds.extend(self.publisher.fds());
        fds.extend(self.detours.fds());
        let mut fds: Vec<PollFd<'_>> = fds
            .into_iter()
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        let timeout = match missed {
            true => PollTimeout::ZERO,
            false => self.timeout(),
        };
        match poll(&mut fds, timeout) {
            Ok(_) => {}
            Err(nix::errno::Errno::EINTR) => return Ok(Ready::default()),
            // For want of memory, which may be there again the next moment.
            Err(nix::errno::Errno::ENOMEM | nix::errno::Errno::EAGAIN) => {
                std::thread::sleep(PAUSE);
                return Ok(Ready::default());
            }
            Err(e) => return Err(e.into()),
        }
        let any = |range: &[PollFd<'_>]| range.iter().any(|fd| fd.any().unwrap_or(true));
        Ok(Ready {
            events: missed || any(&fds[begin..events]),
            answers: any(&fds[events..answers]),
            records: any(&fds[..1]),
            signals: any(&fds[1..begin]),
            agents: any(&fds[answers..agents]),
        })
    }

    pub(super) fn timeout(&self) -> PollTimeout {
        let next = [
            self.detours.next(),
            Some(self.measure_at),
            Some(self.ask_peers_at),
            self.mend_at,
            self.clean_up_at,
            self.answer_by,
            self.watch.next(),
            self.mover.next(),
            self.publisher.next(),
            self.listener.next(),
            self.endurance.next(),
            self.deafness.next(),
        ];
        let Some(next) = next.into_iter().flatten().min() else {
            return PollTimeout::NONE;
        };
        let left = next.saturating_duration_since(Instant::now());
        PollTimeout::try_from(left.as_micros().div_ceil(1000)).unwrap_or(PollTimeout::MAX)
    }
}
