//! The agents' side of the conversation with the node's daemon.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use super::protocol::{DAEMON, Reply, Request, socket};
use crate::cell::client::PROMPT;
use crate::log;
use crate::ocf::Error;
use crate::plan::vip::record::TransitPath;
use crate::runtime::channel::Channel;
use crate::runtime::daemon::connect;
use crate::runtime::paths::RUNTIME;
use crate::types::VserverName;

/// How long an agent waits for the daemon that follows one that has ended, and how often it tries to connect.
const REPLACED: Duration = Duration::from_secs(3);
const REPLACED_PAUSE: Duration = Duration::from_millis(10);

/// A connection to the daemon, and the daemon's process id; `None` if there is no daemon.
pub(crate) fn connection() -> io::Result<Option<(Channel, i32)>> {
    connect(&socket(Path::new(RUNTIME)), DAEMON, "portwatch")
}

/// Sends the daemon a request and returns its reply; `None` if there is no daemon, or it ended instead of answering.
pub(crate) fn ask(request: &Request, deadline: Instant) -> Result<Option<Reply>, Error> {
    match connection()? {
        Some((channel, _)) => converse(&channel, request, deadline),
        None => Ok(None),
    }
}

/// As [`ask`], on a connection that exists already.
pub(crate) fn converse(
    channel: &Channel,
    request: &Request,
    deadline: Instant,
) -> Result<Option<Reply>, Error> {
    let asked = channel.send(request, None);
    match asked.and_then(|()| channel.wait(deadline)) {
        Ok((reply, _)) => Ok(Some(reply)),
        Err(e) => match e.kind() {
            io::ErrorKind::UnexpectedEof
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::ConnectionReset => Ok(None),
            _ => Err(Error::from(e).context("ask portwatch's daemon")),
        },
    }
}

/// The deadline for a reply that the daemon can give at once.
pub(crate) fn prompt(deadline: Instant) -> Instant {
    deadline.min(Instant::now() + PROMPT)
}

/// Has the daemon look for what others have removed of its VIPs. The kernel reports no removal of a proxy entry.
pub(crate) fn mend(deadline: Instant) {
    if let Err(e) = ask(&Request::Mend, prompt(deadline)) {
        log::warn(e);
    }
}

/// A request to the daemon, not yet answered, for the path to the node with a virtual server.
pub(crate) struct WaySought {
    vserver: VserverName,
    vip: IpAddr,
    /// `None` if there is no daemon.
    channel: Option<Channel>,
}

/// Asks the daemon for the path to the node with a virtual server, by which one of its VIPs is to be routed.
///
/// # Errors
/// If the daemon can't be asked.
pub(crate) fn seek_way(vserver: &VserverName, vip: IpAddr) -> Result<WaySought, Error> {
    let mut sought = WaySought {
        vserver: vserver.clone(),
        vip,
        channel: None,
    };
    sought.ask()?;
    Ok(sought)
}

impl WaySought {
    fn ask(&mut self) -> Result<(), Error> {
        self.channel = connection()?.map(|(channel, _)| channel);
        let request = Request::FindPath {
            vserver: self.vserver.clone(),
            vip: self.vip,
        };
        match self.channel.as_ref().map(|c| c.send(&request, None)) {
            None | Some(Ok(())) => Ok(()),
            // The daemon is ending at this moment.
            Some(Err(e))
                if matches!(
                    e.kind(),
                    io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
                ) =>
            {
                self.channel = None;
                Ok(())
            }
            Some(Err(e)) => Err(Error::from(e).context("ask portwatch's daemon")),
        }
    }

    /// Waits for the answer: the path, or why there is none. If the daemon ends before it answers, the one that may
    /// follow it is asked.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub(crate) fn wait(mut self, deadline: Instant) -> Result<Result<TransitPath, String>, Error> {
        let mut patience = deadline.min(Instant::now() + REPLACED);
        loop {
            if let Some(channel) = &self.channel {
                match channel.wait(deadline) {
                    Ok((Reply::Path(way), _)) => return Ok(way),
                    Ok((Reply::Refused(why), _)) => return Err(refused(&why)),
                    Ok(_) => {
                        return Err(Error::failed(
                            "portwatch's daemon answered another question",
                        ));
                    }
                    Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => {
                        return Err(Error::from(e).context("ask portwatch's daemon"));
                    }
                    Err(_) => patience = deadline.min(Instant::now() + REPLACED),
                }
            }
            // A daemon that no other one follows removes its socket when it ends.
            if Instant::now() >= patience || !socket(Path::new(RUNTIME)).exists() {
                let vserver = &self.vserver;
                return Ok(Err(format!(
                    "no way to {vserver}: portwatch does not run on this node"
                )));
            }
            thread::sleep(REPLACED_PAUSE);
            self.ask()?;
        }
    }
}

/// The error of an agent whose request the daemon refuses.
pub(crate) fn refused(why: &str) -> Error {
    Error::failed(format!("portwatch's daemon refuses: {why}"))
}
