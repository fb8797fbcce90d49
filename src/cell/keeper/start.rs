//! The start of a keeper: a process of its own, one per cell, behind a socket.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use crate::cell::keeper::sentinel::Sentinel;
use crate::cell::keeper::{Cgroup, Core, Keeper};
use crate::cell::{client, protocol};
use crate::log;
use crate::runtime::daemon;
use crate::runtime::listener::Listener;
use crate::sys::announce::repeat::Announcing;
use crate::sys::lock::Lock;
use crate::types::VserverName;

/// How long a keeper waits for its predecessor's lock.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(20);

/// How many agents may be connected at a time: a virtual server has a few hundred resources at the most, each
/// with one action at a time.
const CLIENTS: usize = 512;

/// The whole life of the process `berth-keeper VSERVER`; returns its exit code.
///
/// Its standard output is a pipe from the agent that has started it: `ok` is written when agents may connect, or else
/// the reason why they can't.
pub(crate) fn main(name: &str) -> i32 {
    let (mut keeper, _lock) = match begin(name) {
        Ok(both) => both,
        Err(e) => {
            log::error(&e);
            daemon::answer(&e.to_string());
            return 1;
        }
    };
    daemon::answer("ok");
    let served = keeper.serve();
    keeper.cgroup.leave();
    match served {
        Ok(()) => 0,
        Err(e) => {
            log::critical(format_args!("keeper of {name}: {e}"));
            1
        }
    }
}

fn begin(name: &str) -> io::Result<(Keeper, Lock)> {
    let vserver: VserverName = name
        .parse()
        .map_err(|why| io::Error::other(format!("the virtual server's name {name:?} {why}")))?;
    // SAFETY: this process has just been executed, and nothing before this line opens anything for good.
    unsafe { daemon::detach(c"berth-keeper")? };
    daemon::protect();
    let lock = client::lock_keeper(&vserver, Instant::now() + PREDECESSOR_LIMIT)?;
    let signals = daemon::block_signals()?;
    let sentinel = Sentinel::spawn()?;
    let listener = daemon::listen(&protocol::socket(&vserver))?;
    let keeper = Keeper {
        listener: Some(Listener::new(listener, CLIENTS)),
        core: Core::new(vserver.clone(), Instant::now()),
        signals,
        sentinel: Some(sentinel),
        clients: BTreeMap::new(),
        last_client: 0,
        mounting: BTreeMap::new(),
        mounts: BTreeMap::new(),
        mounters: Vec::new(),
        repairs: BTreeMap::new(),
        cell: None,
        cgroup: Cgroup::begin(vserver.clone()),
        admission: None,
        names: super::Names::default(),
        announcing: Announcing::default(),
        reports: Vec::new(),
        leftover: Vec::new(),
        vserver,
    };
    Ok((keeper, lock))
}

/// Removes the socket's name.
pub(crate) fn forget_socket(vserver: &VserverName) {
    if let Err(e) = daemon::forget_socket(&protocol::socket(vserver)) {
        log::warn(e);
    }
}
