//! How the daemon ends when no other one follows it.

use std::io;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags};

use super::{Daemon, LAST_WORDS};
use crate::cluster::complaint::{self, Member};
use crate::log;
use crate::plan::detour::Event;
use crate::sys::poll::poll;

impl Daemon {
    /// Ends what this daemon does for other nodes, and publishes what they have to know when nobody watches here any
    /// more.
    pub(crate) fn publish_final(&mut self) -> io::Result<()> {
        let (begun, limit) = (Instant::now(), LAST_WORDS);
        let records = self.mover.records().clone();
        self.feed_detours(Event::Shutdown { records }, begun);
        if self.known {
            for (name, value) in self.watch.final_values() {
                self.publisher.publish(name, value);
            }
        }
        self.publisher.advance(begun);
        while !self.publisher.is_done() && begun.elapsed() < limit {
            let Some(fd) = self.publisher.fd() else { break };
            let mut fds = [PollFd::new(fd, PollFlags::POLLIN)];
            poll(&mut fds, Some(begun + limit))?;
            self.publisher.advance(Instant::now());
        }
        Ok(())
    }

    /// Has the cluster forget the trouble that a monitor has reported: nobody would do that later.
    pub(crate) fn leave_no_complaint(&self) {
        if self.told.is_none() && self.clean_up_at.is_none() {
            return;
        }
        let member = Member {
            resource: self.settings.resource.clone(),
            node: self.settings.node.clone(),
        };
        if let Err(e) = complaint::clean_up_later(member) {
            log::warn(format_args!("clean up: {e}"));
        }
    }
}
