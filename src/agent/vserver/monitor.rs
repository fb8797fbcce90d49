//! The state of the servers, by their keeper, the kernel and their own answers.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;

use super::{MAX_CONNECTIONS, NAME, SERVICES, Services};
use crate::agent::member;
use crate::cell::cgroup::Processes;
use crate::cell::probe::{self, Protocol};
use crate::cell::protocol::{Condition, Reply, Request};
use crate::ocf::{Context, Error, State, step};
use crate::sys::{namespace, sockets};

/// Whether the cell lives, and the servers are there.
///
/// # Errors
/// If it can't be found out.
pub(crate) fn monitor(cx: &Context<'_>) -> Result<State, Error> {
    let (state, _) = look(cx)?;
    if state != State::Stopped {
        return Ok(state);
    }
    // If the resource runs under another name here, "stopped" would make the cluster start it a second time.
    let name = NAME.get(cx.env)?;
    Ok(member::elsewhere(cx, &name).map_or(state, |other| {
        State::Failed(format!(
            "runs in the cell of {other}, where it was started, not of {name}"
        ))
    }))
}

/// A living cell: its PID 1, and whether its keeper knows the request what is served.
struct Living {
    init: i32,
    inspects: bool,
}

/// What keeper and kernel say, and where the cell is.
fn look(cx: &Context<'_>) -> Result<(State, Option<Living>), Error> {
    let vserver = NAME.get(cx.env)?;
    step("asking the keeper");
    Ok(match member::ask_status(cx, &vserver)? {
        Some(Reply::Member {
            condition: Condition::Running,
            init: Some(init),
            inspects,
            ..
        }) => {
            let process = namespace::open_process(init)?;
            if namespace::is_alive(process.as_fd()) {
                (State::Running, Some(Living { init, inspects }))
            } else {
                (State::Failed("the cell has ended".to_owned()), None)
            }
        }
        Some(reply) => (member::state(member::judge(reply)?), None),
        None => (State::Stopped, None),
    })
}

/// The limit that a server has reached which hangs up on berth's probe. A restart or a move would be just what an
/// attacker wants who has used up that limit.
fn full_of(
    cx: &Context<'_>,
    init: i32,
    protocol: Protocol,
    (why, processes): (&io::Error, Option<&Processes>),
) -> Result<Option<&'static str>, Error> {
    let hung_up = [
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::BrokenPipe,
        io::ErrorKind::UnexpectedEof,
    ];
    if !hung_up.contains(&why.kind()) {
        return Ok(None);
    }
    let most = MAX_CONNECTIONS.get(cx.env)?;
    if sockets::has_connections(init, protocol.port(), most)? {
        return Ok(Some("all the connections that it takes"));
    }
    // Samba has a process for each connection, and closes a connection if it can't fork one.
    let all = processes.is_some_and(|processes| processes.are_all());
    Ok(all.then_some("all the processes that its cell may have (pids_max)"))
}

/// Whether the servers answer, and serve all that they are to.
///
/// # Errors
/// As [`monitor`].
pub(crate) fn monitor_protocols(cx: &Context<'_>) -> Result<State, Error> {
    let (state, living) = look(cx)?;
    let Some(Living { init, inspects }) = living else {
        return Ok(state);
    };
    let vserver = NAME.get(cx.env)?;
    let Services { nfs, smb } = SERVICES.get(cx.env)?;
    let process = namespace::open_process(init)?;
    let processes = Processes::of(&vserver);
    for (protocol, wanted) in [(Protocol::Nfs, nfs), (Protocol::Smb, smb)] {
        if !wanted {
            continue;
        }
        step("asking a server");
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, protocol.port()));
        let answer = namespace::inside(&process, || probe::ask_at(protocol, address, cx.deadline));
        if let Err(e) = answer {
            return Ok(
                match full_of(cx, init, protocol, (&e, processes.as_ref()))? {
                    Some(what) => State::Degraded(format!("{protocol} has {what}")),
                    None => State::Failed(e.to_string()),
                },
            );
        }
    }
    if !inspects {
        return Ok(state);
    }
    step("asking for what is served");
    let request = Request::Inspect {
        resource: cx.env.instance().clone(),
        budget: member::patience(cx),
    };
    match member::ask(&vserver, &request, cx.deadline)? {
        Some(reply) => member::judge(reply).map(member::state),
        None => Ok(State::Stopped),
    }
}
