//! `ocf:berth:portwatch`: watches a node's ports and serves VIPs through those that work.
//!
//! The agent starts, asks and ends a daemon, which does the work.

use std::ffi::OsStr;
use std::io;
use std::time::Instant;

use crate::log;
use crate::ocf::{Action, ActionDecl, Agent, Context, Error, Explain, State, step};
use crate::portwatch::client::{connection, converse, prompt, refused};
use crate::portwatch::protocol::{DAEMON, Reply, Request};
use crate::portwatch::settings::{
    BALANCE, FAIL_AFTER, INTERVAL, PORTS, RECOVER_AFTER, SUBNETS, Settings, TARGETS,
};
use crate::portwatch::state::part_of;
use crate::runtime::channel::Channel;
use crate::runtime::daemon::{Call, kill, open_process, runs_this_program, start as start_daemon};
use crate::sys::netlink::Socket;
use crate::sys::poll::wait_readable;

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
        ActionDecl::once(Action::ValidateAll, 20, validate_here).at_depth(10),
        ActionDecl::once(Action::ReloadAgent, 20, reload),
    ],
};

/// Pacemaker runs one instance on each node. A daemon that runs with other parameters takes these; one of another
/// version is replaced.
fn start(context: &Context<'_>) -> Result<State, Error> {
    step("asking the daemon");
    if !configure(context)? {
        start_another(context)?;
    }
    examine(context, connection()?)
}

/// Gives the running daemon these parameters, or replaces it if it is not of the installed program. Returns whether
/// there is a daemon.
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

/// Starts a daemon, which takes over from one that runs already.
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

/// Monitors the daemon. After an upgrade, the first recurring monitor has a daemon of the installed version take over.
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
        Some(Reply::State(_) | Reply::Path(_) | Reply::Noted) => {
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

/// Ends the daemon. Its attributes stay, as the state of the ports does not end with the daemon.
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
    // A daemon that does not answer is killed.
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
            let names: Vec<&str> = ports.keys().map(|port| port.as_str()).collect();
            return Err(Error::host(format!(
                "parameter ports: this node has none of {}",
                names.join(", ")
            )));
        }
    }
    Ok(State::Running)
}
