//! How one daemon follows another: after an upgrade, or where one was killed and lives on.

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

/// How long one waits for the one before it to end.
const PREDECESSOR_LIMIT: Duration = Duration::from_secs(20);
/// How long that one may take to leave its work to the next one in good order.
const HAND_OVER: Duration = Duration::from_secs(1);
/// The makers of berth's routes: what is lost of them is mended.
const PROTOCOLS: [u8; 2] = [PROTOCOL, ANNOUNCED_PROTOCOL];

/// Has a daemon that is still there leave everything to this one, and takes its lock. It may be of a version
/// that does not know of that: then it is killed, after which all is as well. Says whether there was one.
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
            // If it can't be opened it has died.
            handle.iter().for_each(daemon::kill);
            lock(PREDECESSOR_LIMIT)?
        }
    };
    log::info(format_args!("takes over from process {process}"));
    Ok((lock, true))
}

/// What a daemon listens to, but for the agents' socket: that is the one's that has the lock.
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
            // Before anything is looked at, so that no change is missed.
            events: Events::open(&PROTOCOLS, nft::TABLE)?,
            prober: NeighbourProber::open()?,
            socket: Socket::new()?,
            mover: Mover::open(runtime)?,
        })
    }
}
