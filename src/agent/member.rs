//! What `fscheck` and `vserver` share: being a member of a cell.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use crate::cell::client::{self, Client, PROMPT};
use crate::cell::protocol::{Cause, Condition, Reply, Request};
use crate::cell::{cgroup, network};
use crate::cluster::complaint::Member;
use crate::log;
use crate::ocf::{Context, Error, Fault, State, step};
use crate::plan::directory;
use crate::runtime::daemon;
use crate::runtime::paths::RUNTIME;
use crate::sys::netlink::Socket;
use crate::types::name::Refusal;
use crate::types::{NodeName, VserverName};

/// How long after a keeper has ended another one is looked for.
const NEXT_PAUSE: Duration = Duration::from_millis(10);
/// How long the kernel may take to clear away a cell whose keeper has died.
const DYING_LIMIT: Duration = Duration::from_secs(2);

/// Parser of a name.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn name<N: FromStr<Err = Refusal>>(value: &str) -> Result<N, String> {
    value.parse().map_err(|why: Refusal| why.to_string())
}

/// Parser of a directory in a cell.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn directory(value: &str) -> Result<PathBuf, String> {
    directory::check(value)
        .map(|()| PathBuf::from(value))
        .map_err(|why| why.to_string())
}

/// This resource.
pub(crate) fn member(cx: &Context<'_>) -> Member {
    Member {
        resource: cx.env.instance().clone(),
        node: cx.env.on_node().and_then(node),
    }
}

/// This node, by its name in the cluster. One that berth does not take for a name is no reason not to serve.
fn node(name: &str) -> Option<NodeName> {
    let named = name.parse();
    named
        .inspect_err(|why| {
            log::warn(format_args!(
                "failures can't be reported to the cluster: the name of this node {name:?} {why}"
            ));
        })
        .ok()
}

/// What an answer means for the action.
///
/// # Errors
/// A refusal, with its fault.
pub(crate) fn judge(reply: Reply) -> Result<Condition, Error> {
    match reply {
        Reply::Member { condition, .. } => Ok(condition),
        Reply::NoCell => Ok(Condition::Absent),
        Reply::Cell { .. } | Reply::State(_) | Reply::Noted => Err(Error::failed(
            "the keeper gave an answer to another question",
        )),
        Reply::Refused { cause, message } => {
            let fault = match cause {
                Cause::Parameters => Fault::Config,
                Cause::Node => Fault::Host,
                Cause::Missing => Fault::Missing,
                Cause::Failed | Cause::Version => Fault::Failed,
            };
            Err(Error::new(fault, message))
        }
    }
}

/// How long a keeper may take to answer anything but a stop, so that its answer comes in time.
pub(crate) fn patience(cx: &Context<'_>) -> Duration {
    cx.left(cx.budget().answered())
}

/// The state of a member that is in this condition.
pub(crate) fn state(condition: Condition) -> State {
    match condition {
        Condition::Absent => State::Stopped,
        Condition::Running => State::Running,
        Condition::Degraded(why) => State::Degraded(why),
        Condition::Changing(what) => State::Failed(format!("still {what}")),
        Condition::Failed(why) => State::Failed(why),
    }
}

/// Asks the keeper of `vserver`, and starts it if need be. If the keeper is just ending, the next one is asked.
///
/// # Errors
/// If there is no answer before the deadline.
pub(crate) fn ask_or_start(
    cx: &Context<'_>,
    vserver: &VserverName,
    request: &Request,
) -> Result<Reply, Error> {
    loop {
        let client = Client::connect_or_start(vserver, cx.deadline)?;
        match client.ask(request, cx.deadline) {
            Ok((reply, _)) => return Ok(reply),
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof && !cx.remaining().is_zero() => {
                thread::sleep(NEXT_PAUSE);
            }
            Err(e) => return Err(e.into()),
        }
    }
}

/// Connects to the keeper of `vserver`; `None` if there is none. Something else that listens in its place counts as
/// none, if the kernel shows no cell.
fn connect(vserver: &VserverName) -> Result<Option<Client>, Error> {
    match Client::connect(vserver) {
        Err(e) if !network::is_connected(&mut Socket::new()?, vserver)? => {
            log::warn(e);
            Ok(None)
        }
        other => Ok(other?),
    }
}

/// A member's condition, from its keeper; `None` if there is no keeper.
///
/// # Errors
/// If the keeper does not answer.
pub(crate) fn ask_status(cx: &Context<'_>, vserver: &VserverName) -> Result<Option<Reply>, Error> {
    let request = Request::Status {
        resource: cx.env.instance().clone(),
    };
    let patience = cx.deadline.min(Instant::now() + PROMPT);
    ask(vserver, &request, patience)
}

/// Asks the keeper of `vserver`; `None` if there is none.
///
/// # Errors
/// If the keeper does not answer.
pub(crate) fn ask(
    vserver: &VserverName,
    request: &Request,
    deadline: Instant,
) -> Result<Option<Reply>, Error> {
    let Some(client) = connect(vserver)? else {
        return Ok(None);
    };
    match client.ask(request, deadline) {
        Ok((reply, _)) => Ok(Some(reply)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether the keeper of `vserver` runs a program that has been replaced since, as by an upgrade.
pub(crate) fn is_served_by_a_former_program(vserver: &VserverName) -> bool {
    // A keeper that does not answer is reported by an action that needs it.
    let keeper = Client::connect(vserver).ok().flatten();
    keeper.is_some_and(|keeper| daemon::was_replaced(keeper.keeper()))
}

/// The virtual server whose keeper has this resource, and that keeper's reply, if it answers. This is the first of
/// `likely` whose keeper knows the resource; else any on this node, as the parameter may have been changed since the
/// start. If none knows it, the first of `likely` whose keeper does not answer, else the first. A keeper that does not
/// answer a stop is killed, so one that was only named later must not be taken while another one has the resource.
pub(crate) fn owner(
    cx: &Context<'_>,
    likely: &[VserverName],
) -> Option<(VserverName, Option<Reply>)> {
    let (mut silent, mut first) = (None, None);
    for vserver in likely {
        let reply = ask_status(cx, vserver);
        match &reply {
            Ok(Some(reply)) if is_member(reply) => {
                return Some((vserver.clone(), Some(reply.clone())));
            }
            Ok(_) => {}
            Err(e) => {
                log::warn(e);
                silent.get_or_insert_with(|| (vserver.clone(), None));
            }
        }
        first.get_or_insert_with(|| (vserver.clone(), reply.unwrap_or_default()));
    }
    recall(cx, likely).or(silent).or(first)
}

/// The other cell than that of `vserver` in which this resource runs on this node, if its parameter was changed while
/// it ran.
pub(crate) fn elsewhere(cx: &Context<'_>, vserver: &VserverName) -> Option<VserverName> {
    let (other, reply) = recall(cx, std::slice::from_ref(vserver))?;
    matches!(reply, Some(Reply::Member { .. })).then_some(other)
}

/// The keeper on this node, other than those asked before, that has this resource. All are asked at the same time, so
/// that several that hang cost no more time than one.
fn recall(cx: &Context<'_>, asked: &[VserverName]) -> Option<(VserverName, Option<Reply>)> {
    let request = Request::Status {
        resource: cx.env.instance().clone(),
    };
    let names = fs::read_dir(RUNTIME).ok()?;
    let keepers: Vec<(VserverName, Client)> = names
        .flatten()
        // berth keeps other things in this directory, too.
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|vserver| !asked.contains(vserver))
        .filter_map(|vserver| {
            let client = connect(&vserver).ok()??;
            client.send(&request, None).ok()?;
            Some((vserver, client))
        })
        .collect();
    let deadline = cx.deadline.min(Instant::now() + PROMPT);
    keepers.into_iter().find_map(|(vserver, client)| {
        let (reply, _) = client.answer(deadline).ok()?;
        is_member(&reply).then_some((vserver, Some(reply)))
    })
}

/// Whether a keeper says that the resource is a member of its cell.
fn is_member(reply: &Reply) -> bool {
    !matches!(judge(reply.clone()), Ok(Condition::Absent))
}

/// Asks a keeper to release a member, and kills a keeper that does not answer: without it the kernel clears everything
/// away.
///
/// # Errors
/// If what listens there is no keeper.
pub(crate) fn leave(
    cx: &Context<'_>,
    vserver: &VserverName,
    request: impl Fn(Duration) -> Request,
) -> Result<Option<Reply>, Error> {
    let Some(client) = connect(vserver)? else {
        return Ok(None);
    };
    let budget = cx.budget();
    let request = request(cx.left(budget.stopped()));
    let patience = Instant::now() + cx.left(budget.keeper_killed());
    let why = match client.ask(&request, patience) {
        Ok((
            Reply::Refused {
                cause: Cause::Version,
                message,
            },
            _,
        )) => message,
        Ok((reply, _)) => return Ok(Some(reply)),
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(e) => e.to_string(),
    };
    // If the stop failed, the whole node would be fenced.
    log::error(format_args!("{why}: killing it, and its cell with it"));
    client.kill();
    Ok(None)
}

/// How long the lock of a keeper that has been killed may be held: the kernel closes its files after it has taken
/// away its name and its memory.
const LOCK_LIMIT: Duration = Duration::from_millis(500);

/// Clears something away that a dead keeper has left, unless another keeper is there, or comes. The dead keeper's lock
/// is waited for up to `deadline`, and tried once in any case.
fn unless_kept(vserver: &VserverName, deadline: Instant, clear: impl FnOnce()) {
    // A keeper takes this lock before anything else, and holds it as long as it lives.
    if let Ok(_lock) = client::lock_keeper(vserver, deadline.min(Instant::now() + LOCK_LIMIT)) {
        clear();
    }
}

/// Waits until the kernel has cleared away what a killed keeper has left, or another keeper is there. This takes at
/// most half of what is left of the action's time: the rest is for the proof that devices are free.
///
/// # Errors
/// If the kernel can't be asked.
pub(crate) fn await_end(cx: &Context<'_>, vserver: &VserverName) -> Result<(), Error> {
    step("waiting for the end of the cell");
    let limit = DYING_LIMIT.min(cx.remaining() / 2);
    let (name, deadline) = (network::outside(vserver), Instant::now() + limit);
    unless_kept(vserver, deadline, || cgroup::clear(vserver));
    let mut socket = Socket::new()?;
    while network::is_connected(&mut socket, vserver)? && Client::connect(vserver)?.is_none() {
        if Instant::now() >= deadline {
            // A process that has joined from outside is still in the cell. Nothing of berth's is: the stop goes on.
            log::warn(format_args!("{name} is left of a cell that has ended"));
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    // What does not go with the cell's interface: its rules. They open nothing, so they are no reason for a stop to
    // fail.
    unless_kept(vserver, deadline, || {
        network::disconnect(vserver).unwrap_or_else(log::warn);
    });
    Ok(())
}
