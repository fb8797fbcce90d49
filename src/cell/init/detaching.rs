//! Detaching file systems when no child can be forked: servers may have used up all processes that the cell's control
//! group, which PID 1 is in, may have. PID 1 then tries again. To give up would mean the end of the cell, since the
//! keeper has no other way to free the device. The keeper does that when the time is up.

use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use nix::unistd::Pid;

use super::{Event, Init, Task};
use crate::cell::init::task;
use crate::runtime::job::Job;

/// The time between two tries.
const PAUSE: Duration = Duration::from_millis(100);

/// A file system to be detached.
pub(crate) struct Detaching {
    number: u64,
    directory: PathBuf,
    patience: Duration,
    since: Instant,
    /// When a child was last tried to fork.
    tried: Option<Instant>,
}

impl Detaching {
    /// The work of an order that has come now.
    pub(crate) fn new(number: u64, directory: PathBuf, patience: Duration) -> Self {
        Self {
            number,
            directory,
            patience,
            since: Instant::now(),
            tried: None,
        }
    }

    /// When the next try is due.
    pub(crate) fn due(&self) -> Instant {
        self.tried.map_or(self.since, |tried| tried + PAUSE)
    }
}

impl Init<'_> {
    /// Begins to detach a file system in a child.
    pub(crate) fn detach(&mut self, mut detaching: Detaching) -> io::Result<()> {
        let servers: Vec<Pid> = self.servers.iter().map(|s| s.pid).collect();
        let (number, directory) = (detaching.number, detaching.directory.clone());
        // The time until now counts as part of the patience.
        let patience = detaching.patience.saturating_sub(detaching.since.elapsed());
        let begun = Job::spawn(c"berth-task", move || {
            let detached = task::detach(&directory, patience, &servers);
            (detached.map(|()| (Vec::new(), None)), None)
        });
        match begun {
            Ok(job) => {
                self.detaching.insert(number, detaching.directory);
                self.tasks.push(Task { number, job });
                Ok(())
            }
            // EAGAIN: see fork(2).
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                let is_first = detaching.tried.is_none();
                detaching.tried = Some(Instant::now());
                let line = format!(
                    "detach {}: no process can be born for it, trying again: {e}",
                    detaching.directory.display()
                );
                self.unborn.push(detaching);
                if !is_first {
                    return Ok(());
                }
                self.report(&Event::Said {
                    server: "PID 1".to_owned(),
                    line,
                })
            }
            Err(e) => self.done(number, Err(e.to_string())),
        }
    }

    /// Tries again to detach what no child could be forked for.
    pub(crate) fn detach_unborn(&mut self) -> io::Result<()> {
        let now = Instant::now();
        let all = std::mem::take(&mut self.unborn);
        let (due, later): (Vec<_>, Vec<_>) = all.into_iter().partition(|d| d.due() <= now);
        self.unborn = later;
        due.into_iter().try_for_each(|d| self.detach(d))
    }
}
