//! How one daemon follows another, after an upgrade, or when the cluster starts one while another still runs.

use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signalfd::SignalFd;

use crate::address::report;
use crate::log;
use crate::ocf::Error;
use crate::plan::vip::{ANNOUNCED_PROTOCOL, PROTOCOL};
use crate::portwatch::client::connection;
use crate::portwatch::mover::Mover;
use crate::portwatch::protocol::{DAEMON, Reply, Request};
use crate::runtime::daemon;
use crate::sys::announce::NeighbourProber;
use crate::sys::lock::Lock;
use crate::sys::netlink::{Events, Socket};
use crate::sys::nft;

/// How long a daemon waits for its predecessor's lock.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(20);
/// How long the predecessor may take to end by itself before it is killed.
const HAND_OVER: Duration = Duration::from_secs(1);
/// The protocol numbers of berth's routes, whose removal is an event: what is removed is made again.
const PROTOCOLS: [u8; 2] = [PROTOCOL, ANNOUNCED_PROTOCOL];

/// Has a daemon that still runs hand over to this one, and takes its lock. A daemon that does not answer, or whose
/// version does not know this request, is killed, which leaves everything in place, too. Returns the lock and whether
/// there was such a daemon.
pub(crate) fn take_over(runtime: &Path) -> Result<(Lock, bool), Error> {
    let file = report::lock_file(runtime);
    let lock = |patience| daemon::lock(&file, "portwatch", Instant::now() + patience);
    let Some((channel, process)) = connection()? else {
        return Ok((lock(PREDECESSOR_LIMIT)?, false));
    };
    let handle = daemon::open_process(process, DAEMON);
    let asked = channel.send(&Request::HandOver, None);
    let answer = asked.and_then(|()| channel.wait(Instant::now() + HAND_OVER));
    let noted = matches!(answer, Ok((Reply::Noted, _)));
    let lock = match noted.then(|| lock(HAND_OVER)) {
        Some(Ok(lock)) => lock,
        None | Some(Err(_)) => {
            // If the process can't be opened it has died.
            handle.iter().for_each(daemon::kill);
            lock(PREDECESSOR_LIMIT)?
        }
    };
    log::info(format_args!("takes over from process {process}"));
    Ok((lock, true))
}

/// The sockets of a daemon but for the one that agents connect to, which belongs to the daemon with the lock.
pub(crate) struct Sockets {
    pub(crate) signals: SignalFd,
    pub(crate) events: Events,
    pub(crate) prober: NeighbourProber,
    pub(crate) socket: Socket,
    pub(crate) mover: Mover,
}

impl Sockets {
    pub(crate) fn open(runtime: &Path) -> io::Result<Self> {
        Ok(Self {
            signals: daemon::block_signals()?,
            // Opened before anything is read, so that no change is missed.
            events: Events::open(&PROTOCOLS, nft::TABLE)?,
            prober: NeighbourProber::open()?,
            socket: Socket::new()?,
            mover: Mover::open(runtime)?,
        })
    }
}
