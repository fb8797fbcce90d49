//! The sentinel: a small process beside the keeper that reports the keeper's own death to Pacemaker.

use std::io;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::cluster::complaint::{Member, report};
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

    /// Sets the members to report from now on. If the sentinel has died, that is noticed by its channel.
    pub(crate) fn watch(&self, members: Vec<Member>) {
        let _ = self.channel.send(&Notice::Watch(members), None);
    }

    /// Ends the sentinel.
    pub(crate) fn dismiss(&self) {
        let _ = self.channel.send(&Notice::Goodbye, None);
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
