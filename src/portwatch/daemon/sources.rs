//! The sources of events that the daemon waits for, and how it takes the kernel's.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsFd;
use std::time::Instant;

use super::endurance::PAUSE;
use super::{Daemon, MEND_AFTER, MEND_PAUSE, TABLE_PAUSE};
use crate::plan::detour::Event;
use crate::runtime::channel::Channel;
use crate::runtime::poller::Poller;
use crate::sys::netlink::Change;

/// A source of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Netlink: changes to interfaces, addresses, routes, settings and nftables.
    Events,
    /// Neighbours' replies.
    Replies,
    /// The records of VIPs, which agents write when they start or stop one.
    Records,
    /// Signals.
    Signals,
    /// Agents' connections and requests.
    Agents,
    /// Children that have ended or written something.
    Children,
}

impl Daemon {
    /// Reads the kernel's events and neighbours' replies.
    pub(crate) fn handle_kernel(&mut self, ready: &[Source], now: Instant) -> io::Result<()> {
        if ready.contains(&Source::Events) {
            let handled = self
                .events
                .read()
                .and_then(|changes| self.on_changes(&changes, now));
            if self.endurance.note(handled, now)? {
                // Events were lost while they could not be read: anything may have changed.
                let everything = [Change::Link, Change::Address, Change::Loss, Change::Table];
                let everything = everything.into();
                let handled = self.on_changes(&everything, now);
                self.endurance.note(handled, now)?;
            }
        }
        if ready.contains(&Source::Replies) {
            let replies = self.prober.replies();
            let replies = replies.map(|replies| {
                for reply in replies {
                    self.watch.on_reply(&reply, now);
                    self.feed_detours(Event::Reply(reply), now);
                }
            });
            self.deafness.note(replies, now)?;
        }
        Ok(())
    }

    fn on_changes(&mut self, changes: &BTreeSet<Change>, now: Instant) -> io::Result<()> {
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

    /// Waits until a source has something to read, or something is due. Returns the sources that are ready.
    pub(crate) fn wait(&self) -> io::Result<Vec<Source>> {
        let now = Instant::now();
        let mut poller = Poller::default();
        poller.read(Source::Records, [self.mover.fd()]);
        poller.read(Source::Signals, [self.signals.as_fd()]);
        // After a failure to act on events there may be none left to read: the daemon wakes up by time instead.
        let missed = self.endurance.is_over(now);
        if self.endurance.permits(now) {
            poller.read(Source::Events, self.events.fds());
        }
        if self.deafness.permits(now) {
            poller.read(Source::Replies, self.prober.fds());
        }
        poller.read(Source::Agents, self.listener.fd(self.clients.len(), now));
        poller.read(Source::Agents, self.clients.iter().map(Channel::as_fd));
        poller.read(Source::Children, self.publisher.fds());
        poller.read(Source::Children, self.detours.fds());
        let news = self.mover.has_news();
        poller.until(self.next(now));
        poller.until((missed || news).then_some(now));
        let mut ready = match poller.wait() {
            // There may be memory again the next moment.
            Err(e)
                if e.kind() == io::ErrorKind::OutOfMemory
                    || e.kind() == io::ErrorKind::WouldBlock =>
            {
                std::thread::sleep(PAUSE);
                return Ok(Vec::new());
            }
            ready => ready?,
        };
        ready.extend(missed.then_some(Source::Events));
        ready.extend(news.then_some(Source::Records));
        Ok(ready)
    }

    /// When anything is due by time alone.
    fn next(&self, now: Instant) -> Option<Instant> {
        let next = [
            self.detours.next(),
            Some(self.measure_at),
            Some(self.query_addresses_at),
            self.mend_at,
            self.clean_up_at,
            self.answer_by,
            self.watch.next(),
            self.mover.next(),
            self.publisher.next(),
            self.listener.next(now),
            self.endurance.next(now),
            self.deafness.next(now),
        ];
        next.into_iter().flatten().min()
    }
}
