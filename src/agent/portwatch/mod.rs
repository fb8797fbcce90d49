//! `ocf:berth:portwatch`: watches a node's ports and serves VIPs through those that work.
//!
//! The agent starts, asks and ends a daemon, which does the work.

mod asking;
mod daemon;
mod detour;
mod mover;
pub(super) mod peers;
mod protocol;
mod publisher;
mod records;
pub(super) mod report;
mod settings;
mod watch;

use std::ffi::OsStr;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use self::protocol::{DAEMON, Reply, Request, socket};
use self::settings::{
    BALANCE, FAIL_AFTER, INTERVAL, PORTS, RECOVER_AFTER, SUBNETS, Settings, TARGETS,
};
use self::watch::conclusion::part_of;
use super::vip::Path as Way;
use super::vip::service::RUNTIME;
use crate::cell::channel::{Channel, wait_readable};
use crate::cell::client::PROMPT;
use crate::cell::daemon::{
    Call, connect, kill, open_process, runs_this_program, start as start_daemon,
};
use crate::ocf::{Action, ActionDecl, Agent, Context, Error, Explain, State, log, step};
use crate::sys::netlink::Socket;

pub(super) use self::daemon::main as daemon_main;
pub(super) use self::protocol::DAEMON as DAEMON_NAME;

/// How long an agent waits for the daemon that follows one that has ended, and how often it looks.
const REPLACED: Duration = Duration::from_secs(3);
const REPLACED_PAUSE: Duration = Duration::from_millis(10);

/// The agent.
pub static AGENT: Agent = Agent {
    name: "portwatch",
    shortdesc: "Serves virtual IP addresses of berth through network ports that work",
    longdesc: "Runs a daemon on each node, as a clone. It follows the state of the node's ports as the kernel \
        reports it, and proves that each forwards by asking for targets on its subnet: gateways, the other \
        nodes, and further ones.\n\n\
        The addresses of a port that fails move to the others of its subnet at once, spread by load. A port \
        that works again is used after a while. Uneven loads are evened out.\n\n\
        Node attributes tell the cluster: berth-ports (number of good ports), berth-net-SUBNET (1 if the node \
        reaches it, else 0), berth-addr-SUBNET (the node's addresses on it, one of each family). A failure is \
        told at once, a recovery after recover_after. What the cluster has forgotten of that, as after an update \
        of Pacemaker in maintenance mode, is told again. Placement follows them by the constraints that berth \
        plan writes.\n\n\
        Where a node has lost a subnet, another node may route for the addresses of its virtual servers \
        there: see on_subnet_loss of ocf_berth_vip(7). The daemons agree on that by attributes that the \
        scheduler does not see: berth-cell-SERVER (this node has it), berth-router-NODE (which addresses \
        this node routes to that one, and by which way replies come back). While a node routes, it asks the \
        other one at every interval; without an answer it looks for another way, and where there is none, \
        berth-nopath-SERVER is set to 1 until there is. After the end of a detour it passes on what still \
        comes, until nothing has come for a second.\n\n\
        The attribute berth-spare tells how much room the node has to route for others: 40 if it is idle, 30, \
        20, 10, or 0 if its processors, or its ports with what addresses move through them, are busy. Of \
        several nodes that could route for another, the one with the most room does. It falls when the load \
        has been clearly higher for half a minute, and rises when it has been lower for two.\n\n\
        Addresses go on working while the daemon is not there.",
    example: &[
        ("subnets", "office=10.1.0.0/24,10.1.0.254 lab=10.2.0.0/24"),
        ("ports", "eth1=office eth2=office eth3=lab"),
    ],
    cloned: true,
    params: &[
        &PORTS,
        &SUBNETS,
        &TARGETS,
        &INTERVAL,
        &FAIL_AFTER,
        &RECOVER_AFTER,
        &BALANCE,
    ],
    actions: &[
        ActionDecl::once(Action::Start, 60, start),
        ActionDecl::once(Action::Stop, 20, stop),
        ActionDecl::monitor(20, 10, 0, monitor),
        ActionDecl::once(Action::ValidateAll, 20, validate),
        ActionDecl {
            depth: 10,
            ..ActionDecl::once(Action::ValidateAll, 20, validate_here)
        },
        ActionDecl::once(Action::ReloadAgent, 20, reload),
    ],
};

/// A connection to the daemon, and its process.
fn connection() -> io::Result<Option<(Channel, i32)>> {
    connect(&socket(Path::new(RUNTIME)), DAEMON, "portwatch")
}

/// Asks the daemon; `None` if there is none, or it ended instead of answering.
fn ask(request: &Request, deadline: Instant) -> Result<Option<Reply>, Error> {
    match connection()? {
        Some((channel, _)) => converse(&channel, request, deadline),
        None => Ok(None),
    }
}

/// The same on a connection that there is.
fn converse(
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

/// Until when the daemon may take to answer what it can answer at once.
fn prompt(deadline: Instant) -> Instant {
    deadline.min(Instant::now() + PROMPT)
}

/// Has the daemon look for what others took away. The kernel tells nobody of a proxy entry that went.
pub(super) fn mend(deadline: Instant) {
    if let Err(e) = ask(&Request::Mend, prompt(deadline)) {
        log::warn(e);
    }
}

/// A question to the daemon for the way by which the node is reached that has a virtual server.
pub(super) struct WaySought {
    vserver: String,
    vip: IpAddr,
    /// `None` if there is no daemon.
    channel: Option<Channel>,
}

/// Asks for that way, for one VIP.
///
/// # Errors
/// If the daemon can't be asked.
pub(super) fn seek_way(vserver: &str, vip: IpAddr) -> Result<WaySought, Error> {
    let mut sought = WaySought {
        vserver: vserver.to_owned(),
        vip,
        channel: None,
    };
    sought.ask()?;
    Ok(sought)
}

impl WaySought {
    fn ask(&mut self) -> Result<(), Error> {
        self.channel = connection()?.map(|(channel, _)| channel);
        let request = Request::Way {
            vserver: self.vserver.clone(),
            vip: self.vip,
        };
        match self.channel.as_ref().map(|c| c.send(&request, None)) {
            None | Some(Ok(())) => Ok(()),
            // It ends in this moment.
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

    /// Waits for the answer: the way, or why there is none. A daemon that ends before it answers may be
    /// about to be replaced: then the next one is asked.
    ///
    /// # Errors
    /// If the daemon does not answer.
    pub fn wait(mut self, deadline: Instant) -> Result<Result<Way, String>, Error> {
        let mut patience = deadline.min(Instant::now() + REPLACED);
        loop {
            if let Some(channel) = &self.channel {
                match channel.wait(deadline) {
                    Ok((Reply::Way(way), _)) => return Ok(way),
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
            // One that has ended for good has taken its socket away.
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

fn refused(why: &str) -> Error {
    Error::failed(format!("portwatch's daemon refuses: {why}"))
}

/// Pacemaker runs one instance a node: one that runs with other parameters goes on with these, one of another
/// version is replaced.
fn start(context: &Context<'_>) -> Result<State, Error> {
    step("asking the daemon");
    if !configure(context)? {
        start_another(context)?;
    }
    examine(context, connection()?)
}

/// Has the daemon that is there go on with these parameters, or another one if it is not of the program that is
/// installed now. Says whether there is one.
fn configure(context: &Context<'_>) -> Result<bool, Error> {
    let settings = Settings::read(context.env)?;
    let Some((channel, process)) = connection()? else {
        return Ok(false);
    };
    if !runs_this_program(process) {
        start_another(context)?;
        return Ok(true);
    }
    let request = Request::Configure(settings);
    match converse(&channel, &request, prompt(context.deadline))? {
        Some(Reply::Refused(why)) => Err(refused(&why)),
        reply => Ok(reply.is_some()),
    }
}

/// Starts a daemon, which takes over from the one that is there.
fn start_another(context: &Context<'_>) -> Result<(), Error> {
    step("starting the daemon, which asks targets and tells the cluster");
    let call = Call {
        name: DAEMON,
        argument: "",
        instance: context.env.instance(),
        what: "portwatch's daemon",
    };
    let pass = |name: &OsStr| name.as_encoded_bytes().starts_with(b"OCF_");
    Ok(start_daemon(&call, pass, context.deadline)?)
}

/// After an upgrade the first recurring monitor has a daemon of the installed version take over.
fn monitor(context: &Context<'_>) -> Result<State, Error> {
    let mut daemon = connection()?;
    let outdated = daemon.as_ref().is_some_and(|(_, p)| !runs_this_program(*p));
    if context.action == Action::Monitor && outdated {
        log::info("the daemon is of another version than is installed: replacing it");
        start_another(context)?;
        daemon = connection()?;
    }
    examine(context, daemon)
}

fn examine(context: &Context<'_>, daemon: Option<(Channel, i32)>) -> Result<State, Error> {
    let Some((channel, _)) = daemon else {
        return Ok(State::Stopped);
    };
    let reply = converse(&channel, &Request::Status, prompt(context.deadline))?;
    let (trouble, unpublished) = match reply {
        None => return Ok(State::Stopped),
        Some(Reply::Status {
            trouble,
            unpublished,
        }) => (trouble, unpublished),
        Some(Reply::Refused(why)) => return Err(refused(&why)),
        Some(Reply::Way(_) | Reply::Noted) => {
            return Ok(State::Failed("the daemon answered another question".into()));
        }
    };
    let unpublished = unpublished.map(|why| format!("the cluster can't be told: {why}"));
    // Neither a start nor a probe knows of a state in between.
    let trouble = unpublished
        .or(trouble)
        .filter(|_| context.action == Action::Monitor);
    Ok(trouble.map_or(State::Running, State::Degraded))
}

/// The attributes stay: what is true of the ports does not end with the daemon.
fn stop(context: &Context<'_>) -> Result<State, Error> {
    let Some((channel, process)) = connection()? else {
        return Ok(State::Stopped);
    };
    step("waiting for the daemon to end");
    let handle = match open_process(process, DAEMON) {
        Ok(handle) => handle,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(State::Stopped),
        Err(e) => return Err(e.into()),
    };
    // What can't be asked is killed.
    let asked = channel.send(&Request::End, None);
    let patience = Instant::now() + context.remaining() / 2;
    if let Err(e) = asked.and_then(|()| wait_readable(&handle, patience)) {
        log::warn(format_args!("end portwatch's daemon: {e}: killing it"));
        kill(&handle);
        wait_readable(&handle, context.deadline).context("kill portwatch's daemon")?;
    }
    Ok(State::Stopped)
}

fn reload(context: &Context<'_>) -> Result<State, Error> {
    match configure(context)? {
        true => Ok(State::Running),
        false => Err(Error::failed("the daemon does not run")),
    }
}

fn validate(context: &Context<'_>) -> Result<State, Error> {
    Settings::read(context.env)?;
    Ok(State::Running)
}

/// A port that is not there may still come: only a node with none of them is wrong. One that is part of another
/// interface never gets anything.
fn validate_here(context: &Context<'_>) -> Result<State, Error> {
    let settings = Settings::read(context.env)?;
    if let Some(ports) = &settings.ports {
        let links = Socket::new()?.links()?;
        let named = links.iter().filter(|link| ports.contains_key(&link.name));
        let mut taken = named.filter_map(|link| Some((link, link.taken_by(&links)?)));
        if let Some((port, master)) = taken.next() {
            let why = part_of(&port.name, &master.name);
            return Err(Error::host(format!("parameter ports: {why}")));
        }
        if !links.iter().any(|link| ports.contains_key(&link.name)) {
            let names: Vec<&str> = ports.keys().map(String::as_str).collect();
            return Err(Error::host(format!(
                "parameter ports: this node has none of {}",
                names.join(", ")
            )));
        }
    }
    Ok(State::Running)
}
