//! The sentinel: a small process beside the keeper that reports the keeper's own death to Pacemaker.

use std::io;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::cluster::complaint::{Member, report};
use crate::log;
use crate::runtime::channel::{Channel, Received};
use crate::runtime::job;
use crate::sys::poll::wait_readable;

#[derive(Debug, Serialize, Deserialize)]
enum Notice {
    /// These members are to be reported if the keeper dies.
    Watch(Vec<Member>),
    /// The keeper ends in good order.
    Goodbye,
}

/// The keeper's handle on its sentinel.
#[derive(Debug)]
pub(crate) struct Sentinel {
    /// Closed if the sentinel has died.
    pub(crate) channel: Channel,
    /// The process.
    pub(crate) pid: Pid,
}

impl Sentinel {
    /// Starts a sentinel.
    ///
    /// # Errors
    /// Whatever the kernel refuses.
    pub(crate) fn spawn() -> io::Result<Self> {
        let (here, there) = Channel::pair()?;
        let pid = job::fork(c"berth-sentinel", &[&there], || watch(&there))?;
        Ok(Self { channel: here, pid })
    }

    /// Sets the members to report from now on.
    pub(crate) fn watch(&self, members: Vec<Member>) {
        self.tell(&Notice::Watch(members));
    }

    /// Ends the sentinel.
    pub(crate) fn dismiss(&self) {
        self.tell(&Notice::Goodbye);
    }

    fn tell(&self, notice: &Notice) {
        let Err(e) = self.channel.send(notice, None) else {
            return;
        };
        // If the sentinel has died, that is noticed by its channel.
        let has_died = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        if !has_died.contains(&e.kind()) {
            log::warn(format_args!("tell the sentinel whom to report: {e}"));
        }
    }
}

fn watch(channel: &Channel) -> i32 {
    // The sentinel outlives the keeper, and must not get signals to the keeper's session.
    let _ = nix::sys::prctl::set_pdeathsig(None);
    let _ = rustix::process::setsid();
    let mut watched = Vec::new();
    loop {
        match channel.receive() {
            Ok(Received::Message(Notice::Watch(members), _)) => watched = members,
            Ok(Received::Message(Notice::Goodbye, _)) => return 0,
            Ok(Received::Nothing) => {
                let _ = wait_readable(channel, Instant::now() + Duration::from_secs(3600));
            }
            Ok(Received::Closed) | Err(_) => break,
        }
    }
    for member in &watched {
        report(member, "its cell's keeper has died");
    }
    0
}
