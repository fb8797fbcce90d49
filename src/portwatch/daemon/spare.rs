//! The node's room to route for others, which is published: what its processors or its ports have to spare, whichever
//! is less.

use std::io;
use std::time::Instant;

use super::Daemon;
use crate::log;
use crate::plan::attribute::Attribute;
use crate::plan::port::{Port, Share, Spare};
use crate::sys::processor::{self, Times};
use crate::types::BitRate;

/// The room, and what it is measured by.
pub(crate) struct Room {
    spare: Spare,
    /// The processors' times as last read.
    before: Option<Times>,
}

impl Room {
    /// The first value can't wait for a measurement. The load average of the last minute stands in for it, so a daemon
    /// that takes over begins where the one before it was.
    pub(crate) fn new(now: Instant) -> Self {
        let load = processor::load().unwrap_or_else(|e| {
            log::warn(e);
            0
        });
        Self {
            spare: Spare::new(Share::of(load, 1000), now),
            before: None,
        }
    }

    fn measure(&mut self, load: BitRate, ports: &[Port], now: Instant) -> io::Result<bool> {
        let times = processor::times()?;
        let Some(before) = self.before.replace(times) else {
            return Ok(false);
        };
        let busy = times.busy.saturating_sub(before.busy);
        let idle = times.idle.saturating_sub(before.idle);
        let busy = Share::of(busy, busy.saturating_add(idle));
        let used = busy.max(Share::of_ports(load, ports));
        Ok(self.spare.observe(used, now))
    }
}

impl Daemon {
    /// Measures the room, and publishes it if it has changed.
    pub(crate) fn measure_room(&mut self, now: Instant) {
        let load = self.mover.port_loads().values().copied().sum();
        match self.room.measure(load, &self.watch.view().ports, now) {
            Ok(true) => self.tell_room(),
            Ok(false) => {}
            Err(e) => log::debug(e),
        }
    }

    /// Publishes the room.
    pub(crate) fn tell_room(&mut self) {
        let value = self.room.spare.value().to_string();
        self.publisher.publish(Attribute::Spare, Some(value));
    }
}
