//! `ocf:berth:vserver`: the servers of a virtual server, in its cell.

use std::path::PathBuf;
use std::time::Duration;

use super::member;
use crate::cell::cgroup;
use crate::cell::cgroup::limits::MemoryMax;
use crate::cell::filter::{self, Call};
use crate::cell::init::root::{self, STATE_DIRECTORY};
use crate::cell::protocol::{Cause, Reply, Request};
use crate::cell::service::{self, Limits, ServerSpec};
use crate::log;
use crate::ocf::param::{text, words};
use crate::ocf::{Action, ActionDecl, Agent, Context, Env, Error, Optional, Param, State, step};
use crate::spec::vserver as declared;
use crate::spec::vserver::{NFS, NONE, SMB};
use crate::sys::program;
use crate::types::VserverName;
use monitor::{monitor, monitor_protocols};

mod monitor;

/// What `services` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Services {
    nfs: bool,
    smb: bool,
}

const NAME: Param<VserverName> = Param::new(declared::NAME, member::name);
const SERVICES: Param<Services> = Param::new(declared::SERVICES, services);
const COMMAND: Optional<String> = Optional::new(declared::COMMAND, text);
const HOME: Optional<PathBuf> = Optional::new(declared::HOME, member::directory);
const CONFIG_DIR: Optional<PathBuf> = Optional::new(declared::CONFIG_DIR, |value| {
    declared::config_dir(value).map(|()| PathBuf::from(value))
});
const NFS_LEASE: Param<u32> = Param::integer(declared::NFS_LEASE);
const NFS_GRACE: Param<u32> = Param::integer(declared::NFS_GRACE);
const MAX_CONNECTIONS: Param<u32> = Param::integer(declared::MAX_CONNECTIONS);
const MAX_CONNECTIONS_PER_CLIENT: Param<u32> = Param::integer(declared::MAX_CONNECTIONS_PER_CLIENT);
const ALLOW_CALLS: Param<Vec<Call>> = Param::new(declared::ALLOW_CALLS, calls);
const STOP_TIMEOUT: Param<u32> = Param::integer(declared::STOP_TIMEOUT);
const MEMORY_MAX: Param<MemoryMax> = Param::new(declared::MEMORY_MAX, str::parse);
const PIDS_MAX: Param<u32> = Param::integer(declared::PIDS_MAX);
const CPU_WEIGHT: Param<u32> = Param::integer(declared::CPU_WEIGHT);
const IO_WEIGHT: Param<u32> = Param::integer(declared::IO_WEIGHT);

/// The declaration.
pub static AGENT: Agent = Agent {
    name: "vserver",
    shortdesc: "NFS and SMB servers of a virtual server, in a cell of their own",
    longdesc: "Runs NFS-Ganesha, Samba and any further program in the cell of a virtual server: its own \
               network, mounts, processes and host name, which nothing else shares.\n\n\
               The state of the servers lies on the home file system and moves with it. The start \
               returns when the servers answer. A server that ends by itself is reported to Pacemaker \
               at once.",
    example: &[],
    cloned: false,
    params: &[
        &NAME,
        &SERVICES,
        &COMMAND,
        &HOME,
        &CONFIG_DIR,
        &NFS_LEASE,
        &NFS_GRACE,
        &MAX_CONNECTIONS,
        &MAX_CONNECTIONS_PER_CLIENT,
        &ALLOW_CALLS,
        &STOP_TIMEOUT,
        &MEMORY_MAX,
        &PIDS_MAX,
        &CPU_WEIGHT,
        &IO_WEIGHT,
    ],
    actions: &[
        ActionDecl::once(Action::Start, 60, start),
        ActionDecl::once(Action::Stop, 60, stop),
        ActionDecl::monitor(20, 10, 0, monitor),
        ActionDecl::monitor(20, 60, 10, monitor_protocols),
        ActionDecl::once(Action::ReloadAgent, 20, reload),
        ActionDecl::once(Action::ValidateAll, 20, validate),
        ActionDecl::once(Action::ValidateAll, 20, validate_host).at_depth(10),
    ],
};

fn services(value: &str) -> Result<Services, String> {
    let words = words(value)?;
    if let Some(other) = words
        .iter()
        .find(|w| ![NFS, SMB, NONE].contains(&w.as_str()))
    {
        return Err(format!("has {other:?} in it: nfs, smb, nfs smb, or none"));
    }
    let has = |word: &str| words.iter().any(|w| w == word);
    if has(NONE) && words.len() > 1 {
        return Err("says none and something else".to_owned());
    }
    Ok(Services {
        nfs: has(NFS),
        smb: has(SMB),
    })
}

fn calls(value: &str) -> Result<Vec<Call>, String> {
    let call = |word: String| {
        word.parse()
            .map_err(|why| format!("has {word:?} in it, which {why}"))
    };
    words(value)?.into_iter().map(call).collect()
}

fn spec(env: &Env) -> Result<ServerSpec, Error> {
    let Services { nfs, smb } = SERVICES.get(env)?;
    let commands: Vec<String> = COMMAND.get(env)?.into_iter().collect();
    if !nfs && !smb && commands.is_empty() {
        return Err(Error::config(
            "parameter services: \"none\" without a command leaves nothing to run",
        ));
    }
    let (lease, grace) = (NFS_LEASE.get(env)?, NFS_GRACE.get(env)?);
    if nfs && grace <= lease {
        return Err(Error::config(format!(
            "parameter nfs_grace: \"{grace}\" is not longer than nfs_lease, which is {lease}"
        )));
    }
    Ok(ServerSpec {
        name: NAME.get(env)?,
        nfs,
        smb,
        commands,
        state: PathBuf::from(STATE_DIRECTORY),
        lease,
        grace,
        config_dir: CONFIG_DIR.get(env)?,
        cgroup: cgroup_limits(env)?,
        limits: Limits {
            connections: MAX_CONNECTIONS.get(env)?,
            per_client: MAX_CONNECTIONS_PER_CLIENT.get(env)?,
        },
        allow_calls: ALLOW_CALLS.get(env)?,
    })
}

fn cgroup_limits(env: &Env) -> Result<cgroup::Limits, Error> {
    Ok(cgroup::Limits {
        memory_max: MEMORY_MAX.get(env)?,
        pids_max: PIDS_MAX.get(env)?.try_into().map_err(Error::config)?,
        cpu_weight: CPU_WEIGHT.get(env)?.try_into().map_err(Error::config)?,
        io_weight: IO_WEIGHT.get(env)?.try_into().map_err(Error::config)?,
    })
}

fn validate(cx: &Context<'_>) -> Result<State, Error> {
    let spec = spec(cx.env)?;
    let connections = spec.limits.connections;
    let few = spec.cgroup.too_few_processes(connections);
    if let Some(line) = few.filter(|_| spec.smb) {
        log::warn(line);
    }
    Ok(State::Running)
}

fn validate_host(cx: &Context<'_>) -> Result<State, Error> {
    validate(cx)?;
    let spec = spec(cx.env)?;
    check_host(&spec)?;
    root::check_host(cx.deadline).map_err(|e| Error::host(e.to_string()))?;
    for line in spec.cgroup.beyond_node()? {
        log::warn(line);
    }
    // The default limits are no reason to complain: nobody has asked for them.
    let why = (!spec.cgroup.are_default()).then(cgroup::shortfall);
    if let Some(why) = why.flatten() {
        log::warn(format_args!("limits will not be in force: {why}"));
    }
    Ok(State::Running)
}

/// Whether this node has what the servers need.
fn check_host(spec: &ServerSpec) -> Result<(), Error> {
    filter::check_kernel().map_err(|e| Error::host(e.to_string()))?;
    for launch in service::launches(spec) {
        let program = launch.argv.first().map_or("", String::as_str);
        program::find(program).map_err(|e| Error::missing(format!("{}: {e}", launch.name)))?;
    }
    if let Some(directory) = spec.config_dir.as_ref().filter(|d| !d.is_dir()) {
        return Err(Error::host(format!(
            "parameter config_dir: {} is no directory on this node",
            directory.display()
        )));
    }
    Ok(())
}

fn start(cx: &Context<'_>) -> Result<State, Error> {
    let spec = spec(cx.env)?;
    check_host(&spec)?;
    let vserver = spec.name.clone();
    step("starting the servers");
    let request = Request::Serve {
        member: member::member(cx),
        spec,
        home: HOME.get(cx.env)?,
        budget: member::patience(cx),
    };
    let condition = member::judge(member::ask_or_start(cx, &vserver, &request)?)?;
    if member::is_served_by_a_former_program(&vserver) {
        log::warn(format_args!(
            "{vserver} is served by a keeper of another version: what this version protects comes when all resources \
             of {vserver} have been stopped, or with a move"
        ));
    }
    log::info(format_args!("servers of {vserver}: {condition:?}"));
    Ok(member::state(condition))
}

fn reload(cx: &Context<'_>) -> Result<State, Error> {
    let spec = spec(cx.env)?;
    step("changing the limits");
    let request = Request::Limit {
        resource: cx.env.instance().clone(),
        limits: spec.cgroup,
        budget: member::patience(cx),
    };
    let reply = match member::ask(&spec.name, &request, cx.deadline)? {
        // The servers go on as before. If the reload failed, the cluster would restart them, in the same keeper.
        Some(Reply::Refused {
            cause: Cause::Version,
            message,
        }) => {
            let name = &spec.name;
            log::warn(format_args!(
                "{message}; limits come when the cell is made anew: stop all resources of {name}, or move it"
            ));
            member::ask_status(cx, name)?
        }
        reply => reply,
    };
    match reply {
        Some(reply) => member::judge(reply).map(member::state),
        None => Ok(State::Stopped),
    }
}

fn stop(cx: &Context<'_>) -> Result<State, Error> {
    let named: Vec<VserverName> = NAME.try_get(cx.env).into_iter().collect();
    let Some((vserver, _)) = member::owner(cx, &named) else {
        return Ok(State::Stopped);
    };
    let seconds = STOP_TIMEOUT.try_get(cx.env);
    let seconds = seconds.unwrap_or(declared::STOP_TIMEOUT.content.default);
    let resource = cx.env.instance().clone();
    step("ending the servers");
    let request = |budget| Request::Unserve {
        resource: resource.clone(),
        patience: Duration::from_secs(u64::from(seconds)),
        budget,
    };
    match member::leave(cx, &vserver, request)? {
        Some(reply) => member::judge(reply).map(member::state),
        None => {
            // Without a keeper there is no cell, or it is dying.
            member::await_end(cx, &vserver)?;
            Ok(State::Stopped)
        }
    }
}
