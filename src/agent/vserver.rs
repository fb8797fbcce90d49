//! `ocf:berth:vserver`: the servers of a virtual server, in its cell.

use std::path::PathBuf;
use std::time::Duration;

use super::member;
use crate::cell::cgroup;
use crate::cell::cgroup::limits::{LEAST_PIDS, MOST_PIDS, MemoryMax, WEIGHTS};
use crate::cell::filter::{self, Call};
use crate::cell::init::root::{self, STATE_DIRECTORY};
use crate::cell::protocol::{Cause, Reply, Request};
use crate::cell::service::{self, Limits, ServerSpec};
use crate::log;
use crate::ocf::param::{Content, integer, text, words};
use crate::ocf::{Action, ActionDecl, Agent, Context, Env, Error, Optional, Param, State, step};
use crate::plan::directory;
use crate::sys::program;
use monitor::{monitor, monitor_protocols};

mod monitor;

const NAME: Param<String> = Param::required(
    "name",
    "Name of the virtual server",
    "1 to 13 of a-z, 0-9 and -, a letter first. It becomes the host name in the cell, the scope of NFSv4 \
     and the name of the SMB server.",
    member::vserver,
)
.unique_group("name");

/// What `services` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Services {
    nfs: bool,
    smb: bool,
}

const SERVICES: Param<Services> = Param::with_default(
    "services",
    "nfs smb",
    "Protocols to serve",
    "nfs, smb, both separated by a blank, or none.",
    services,
);

const COMMAND: Optional<String> = Optional::new(
    "command",
    "A further program",
    "A command line for a shell, run in the cell beside the servers and under the same supervision. It \
     must stay in the foreground.",
    text,
);

const HOME: Optional<PathBuf> = Optional::new(
    "home",
    "Directory of the home file system",
    "The directory of the fscheck resource whose file system holds the state of the servers, which moves \
     with it. By default that of the only file system; with several, it must be named.",
    |value| match directory::check(value) {
        Ok(()) => Ok(PathBuf::from(value)),
        Err(why) => Err(why.to_string()),
    },
);

const CONFIG_DIR: Optional<PathBuf> = Optional::new(
    "config_dir",
    "Directory with your own server configuration",
    "What its files ganesha.conf and smb.conf say is included at the end of the configuration that berth \
     writes. NFS-Ganesha 6 takes each block but EXPORT only once: a second NFS_CORE_PARAM, NFSV4 or NFS_KRB5 \
     is passed over, with a warning in the log. Where a ganesha.conf there may make exports (EXPORT occurs in it, or it includes other files) anybody gets \
     to port 2049, and where an smb.conf may make shares to port 445: whom those are for is up to the servers. \
     The directory must lie under /etc, /opt or /usr, which the cell sees, and be readable by everybody.",
    config_dir,
);

const NFS_LEASE: Param<u32> = Param::with_default(
    "nfs_lease",
    "15",
    "Lease of NFSv4 in seconds",
    "How long a client that falls silent keeps its locks.",
    integer::<5, 300>,
)
.content(Content::Integer);

const NFS_GRACE: Param<u32> = Param::with_default(
    "nfs_grace",
    "20",
    "Grace period of NFSv4 in seconds",
    "How long after a start clients may claim their locks again, and new ones wait. Longer than the \
     lease.",
    integer::<5, 600>,
)
.content(Content::Integer);

const MAX_CONNECTIONS: Param<u32> = Param::with_default(
    "max_connections",
    "1000",
    "Connections at once",
    "How many connections clients may have at once by each protocol, all together; more are refused. It is also the \
     number of NFS clients that are kept on record.",
    integer::<1, { Limits::MOST }>,
)
.content(Content::Integer);

const MAX_CONNECTIONS_PER_CLIENT: Param<u32> = Param::with_default(
    "max_connections_per_client",
    "100",
    "Connections at once of one client",
    "How many of them may come from one IPv4 address, or from one IPv6 network of 64 bits. Clients behind an address \
     translation are one.",
    integer::<1, { Limits::MOST }>,
)
.content(Content::Integer);
const ALLOW_CALLS: Param<Vec<Call>> = Param::with_default(
    "allow_calls",
    "",
    "Further system calls for the servers",
    "Names of system calls, separated by blanks, that the servers and the command may make although berth refuses \
     them to programs in a cell. The log names each call that was refused: \"nfs: refused bpf (process 17, allow_calls \
     would allow it)\". What makes namespaces or mounts, reads the kernel's keyrings or is about the whole node can't \
     be allowed. Each one that is allowed is one more way to attack the kernel; io_uring_setup, io_uring_enter and \
     io_uring_register together also have sockets made that berth would refuse.",
    calls,
);

const STOP_TIMEOUT: Param<u32> = Param::with_default(
    "stop_timeout",
    "10",
    "Seconds until servers are killed",
    "How long the servers are given to end when they are asked to.",
    integer::<1, 600>,
)
.content(Content::Integer);

const MEMORY_MAX: Param<MemoryMax> = Param::with_default(
    "memory_max",
    "80%",
    "Most memory",
    "The most memory that all servers together may have, cached files included: an amount such as 4G or 512M, at \
     least 128M, or a part of what the node has, such as 50%. When they want more, cached files make way, then the \
     process that has most is ended, which for SMB costs one client.",
    str::parse,
)
.reloadable();

const PIDS_MAX: Param<u32> = Param::with_default(
    "pids_max",
    "4096",
    "Most processes and threads",
    "The most processes and threads that all servers together may have. Samba has a process for each client, \
     NFS-Ganesha some 300 threads.",
    integer::<LEAST_PIDS, MOST_PIDS>,
)
.content(Content::Integer)
.reloadable();

const CPU_WEIGHT: Param<u32> = Param::with_default(
    "cpu_weight",
    "100",
    "Share of the processors",
    "Where virtual servers compete for processors, one with twice the weight gets twice as much.",
    integer::<{ *WEIGHTS.start() }, { *WEIGHTS.end() }>,
)
.content(Content::Integer)
.reloadable();

const IO_WEIGHT: Param<u32> = Param::with_default(
    "io_weight",
    "100",
    "Share of disks",
    "Where virtual servers compete for a disk, one with twice the weight gets twice as much, if the disk's scheduler \
     is BFQ or the kernel's io.cost is set up for it.",
    integer::<{ *WEIGHTS.start() }, { *WEIGHTS.end() }>,
)
.content(Content::Integer)
.reloadable();

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
        ActionDecl {
            depth: 10,
            ..ActionDecl::once(Action::ValidateAll, 20, validate_host)
        },
    ],
};

fn services(value: &str) -> Result<Services, String> {
    let words = words(value)?;
    if let Some(other) = words
        .iter()
        .find(|w| !["nfs", "smb", "none"].contains(&w.as_str()))
    {
        return Err(format!("has {other:?} in it: nfs, smb, nfs smb, or none"));
    }
    let has = |word: &str| words.iter().any(|w| w == word);
    if has("none") && words.len() > 1 {
        return Err("says none and something else".to_owned());
    }
    Ok(Services {
        nfs: has("nfs"),
        smb: has("smb"),
    })
}

fn config_dir(value: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text(value)?);
    let seen = ["/etc", "/opt", "/usr"]
        .iter()
        .any(|top| path.starts_with(top));
    let plain = !path
        .components()
        .any(|c| c == std::path::Component::ParentDir);
    if seen && plain {
        Ok(path)
    } else {
        Err("is not an absolute path under /etc, /opt or /usr".to_owned())
    }
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
    // Nobody has asked for the usual ones.
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
        resource: cx.env.instance().to_owned(),
        limits: spec.cgroup,
        budget: member::patience(cx),
    };
    let reply = match member::ask(&spec.name, &request, cx.deadline)? {
        // It serves as before. A reload that fails would have it restarted, by the same keeper.
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
    let named: Vec<String> = NAME.try_get(cx.env).into_iter().collect();
    let Some((vserver, _)) = member::owner(cx, &named) else {
        return Ok(State::Stopped);
    };
    let seconds = STOP_TIMEOUT.try_get(cx.env).unwrap_or(10);
    let resource = cx.env.instance().to_owned();
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
