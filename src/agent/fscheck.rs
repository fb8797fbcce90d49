//! `ocf:berth:fscheck`: a file system, checked, and attached in the cell of its virtual server only.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use super::member;
use crate::cell::init::root;
use crate::cell::protocol::{Condition, Exported, Reply, Request, VolumeSpec};
use crate::cell::service::{Access, Client, NfsExport, Ports, ShareName, SmbShare, Squash, User};
use crate::log;
use crate::ocf::param::words;
use crate::ocf::{
    Action, ActionDecl, Agent, Context, Env, Error, Fault, Optional, Param, State, step,
};
use crate::plan::repair::{FsKind, Policy};
use crate::spec::fscheck as declared;
use crate::sys::device::{Device, DeviceSpec, Unresolved};
use crate::sys::mount::WrittenOptions;
use crate::sys::mountinfo::{self, Entry};
use crate::types::{Label, VserverName};

mod proof;
mod record;

use proof::Known;

/// How long a monitor waits for a device to become free if its cell may have died a moment ago.
const DYING_LIMIT: Duration = Duration::from_millis(500);

const VSERVER: Param<VserverName> = Param::new(declared::VSERVER, member::name);
const DEVICE: Param<DeviceSpec> = Param::new(declared::DEVICE, str::parse);
const DIRECTORY: Param<PathBuf> = Param::new(declared::DIRECTORY, member::directory);
const FSTYPE: Optional<FsKind> = Optional::select(declared::FSTYPE, str::parse);
const OPTIONS: Param<WrittenOptions> = Param::new(declared::OPTIONS, |value| {
    WrittenOptions::try_from(value.to_owned()).map_err(|e| e.to_string())
});
const UNIT: Optional<Label> = Optional::new(declared::UNIT, member::name);
const REPAIR: Param<Policy> = Param::select(declared::REPAIR, str::parse);
const NFS_CLIENTS: Optional<Vec<Client>> = Optional::new(declared::NFS_CLIENTS, several);
const NFS_ACCESS: Param<Access> = Param::select(declared::NFS_ACCESS, str::parse);
const NFS_SQUASH: Param<Squash> = Param::select(declared::NFS_SQUASH, str::parse);
const NFS_PORTS: Param<Ports> = Param::select(declared::NFS_PORTS, str::parse);
const SMB_SHARE: Optional<ShareName> = Optional::new(declared::SMB_SHARE, str::parse);
const SMB_USERS: Param<Vec<User>> = Param::new(declared::SMB_USERS, several);

/// How long a device is searched for if no device node of it appears.
const SEARCH_LIMIT: Duration = Duration::from_secs(10);

/// The declaration.
pub static AGENT: Agent = Agent {
    name: "fscheck",
    shortdesc: "File system of a virtual server, checked and attached in its cell",
    longdesc: "Checks a file system (ext4, XFS, btrfs), attaches it in the cell of its virtual server \
               and exports it over NFS and SMB. Nobody else on the node sees it, the node itself \
               included.\n\n\
               A file system that needs more than the replay of its journal is repaired in the \
               background, with access blocked; its monitor tells how far the repair is. When it is \
               stopped, the block device is proven to be free.",
    example: &[],
    cloned: false,
    params: &[
        &VSERVER,
        &DEVICE,
        &DIRECTORY,
        &FSTYPE,
        &OPTIONS,
        &UNIT,
        &REPAIR,
        &NFS_CLIENTS,
        &NFS_ACCESS,
        &NFS_SQUASH,
        &NFS_PORTS,
        &SMB_SHARE,
        &SMB_USERS,
    ],
    actions: &[
        ActionDecl::once(Action::Start, 60, start),
        ActionDecl::once(Action::Stop, 60, stop),
        ActionDecl::monitor(20, 10, 0, monitor),
        ActionDecl::once(Action::ReloadAgent, 20, reload),
        ActionDecl::once(Action::ValidateAll, 20, validate),
        ActionDecl::once(Action::ValidateAll, 20, validate_host).at_depth(10),
    ],
};

fn several<T: FromStr<Err = String>>(value: &str) -> Result<Vec<T>, String> {
    let words = words(value)?;
    // An administrator who empties a list to lock everybody out must not open it to everybody.
    if words.is_empty() && !value.is_empty() {
        return Err("has nothing but blanks in it".to_owned());
    }
    words.iter().map(|word| word.parse()).collect()
}

fn exported(env: &Env) -> Result<Exported, Error> {
    let (access, squash) = (NFS_ACCESS.get(env)?, NFS_SQUASH.get(env)?);
    let ports = NFS_PORTS.get(env)?;
    let users = SMB_USERS.get(env)?;
    let read_only = OPTIONS.get(env)?.options().read_only;
    let clients = NFS_CLIENTS.get(env)?.filter(|clients| !clients.is_empty());
    Ok(Exported {
        nfs: clients.map(|clients| NfsExport {
            clients,
            access,
            squash,
            ports,
        }),
        smb: SMB_SHARE.get(env)?.map(|name| SmbShare {
            name,
            users,
            read_only,
        }),
    })
}

fn volume(env: &Env) -> Result<VolumeSpec, Error> {
    Ok(VolumeSpec {
        device: DEVICE.get(env)?,
        directory: DIRECTORY.get(env)?,
        fstype: FSTYPE.get(env)?,
        options: OPTIONS.get(env)?,
        repair: REPAIR.get(env)?,
        export: exported(env)?,
    })
}

fn validate(cx: &Context<'_>) -> Result<State, Error> {
    volume(cx.env).map(|_| State::Running)
}

fn validate_host(cx: &Context<'_>) -> Result<State, Error> {
    let wanted = volume(cx.env)?;
    root::check_host(cx.deadline).map_err(|e| Error::host(e.to_string()))?;
    let device = resolve(cx)?;
    if let Some(of) = device.part_of() {
        let text = format!("parameter device: {} is {of}", device.path.display());
        return Err(Error::host(text));
    }
    match (device.superblock, wanted.fstype) {
        (None, _) => Err(Error::host(format!(
            "{} has no ext4, XFS or btrfs file system on it",
            device.path.display()
        ))),
        (Some(superblock), Some(fstype)) if superblock.condition.kind != fstype => {
            Err(Error::config(format!(
                "parameter fstype: {} has {} on it, not {fstype}",
                device.path.display(),
                superblock.condition.kind
            )))
        }
        _ => Ok(State::Running),
    }
}

fn resolve(cx: &Context<'_>) -> Result<Device, Error> {
    step("looking for the device");
    // Not all of the start's time may go into a device that does not answer.
    let limit = cx.deadline.min(Instant::now() + SEARCH_LIMIT);
    DEVICE.get(cx.env)?.resolve(limit).map_err(|e| {
        let fault = match e {
            // Another node may find the device, and so may this one a moment later.
            Unresolved::Ambiguous(_) | Unresolved::Silent(_) => Fault::Failed,
            _ => Fault::Host,
        };
        Error::new(fault, format!("parameter device: {e}"))
    })
}

fn start(cx: &Context<'_>) -> Result<State, Error> {
    let vserver = VSERVER.get(cx.env)?;
    let volume = volume(cx.env)?;
    if member::ask_status(cx, &vserver)?.is_none() {
        // No cell is started for a device that this node does not have.
        resolve(cx)?;
    }
    step("attaching the file system");
    let place = format!(
        "{} at {} of {vserver}",
        volume.device,
        volume.directory.display()
    );
    let request = Request::Attach {
        member: member::member(cx),
        volume,
        budget: member::patience(cx),
    };
    let condition = member::judge(member::ask_or_start(cx, &vserver, &request)?)?;
    log::info(format_args!("{place}: {condition:?}"));
    Ok(member::state(condition))
}

fn reload(cx: &Context<'_>) -> Result<State, Error> {
    let vserver = VSERVER.get(cx.env)?;
    step("changing the exports");
    let request = Request::Export {
        resource: cx.env.instance().clone(),
        export: exported(cx.env)?,
        budget: member::patience(cx),
    };
    match member::ask(&vserver, &request, cx.deadline)? {
        Some(reply) => member::judge(reply).map(member::state),
        None => Ok(State::Stopped),
    }
}

fn stop(cx: &Context<'_>) -> Result<State, Error> {
    let mut known = Known::new(cx, VSERVER.try_get(cx.env));
    if let Some((vserver, reply)) = member::owner(cx, known.vservers()) {
        // The device that the keeper has found, before it forgets it: the name in the parameter may lead nowhere by
        // now.
        if let Some(reply) = &reply {
            known.consider(&vserver, reply);
        }
        step("detaching the file system");
        let resource = cx.env.instance().clone();
        let request = |budget| Request::Detach {
            resource: resource.clone(),
            budget,
        };
        // Whatever the keeper, or something in its place, answers: the state of the device decides.
        match member::leave(cx, &vserver, request).map(|reply| reply.map(member::judge)) {
            Ok(Some(Ok(Condition::Absent))) => {}
            Ok(None) => member::await_end(cx, &vserver)?,
            Ok(Some(Ok(other))) => {
                log::warn(format_args!("after its stop the keeper says: {other:?}"))
            }
            Ok(Some(Err(e))) | Err(e) => log::warn(format_args!("stop by the keeper: {e}")),
        }
    }
    known.prove(cx, cx.remaining(), true)
}

fn monitor(cx: &Context<'_>) -> Result<State, Error> {
    let vserver = VSERVER.get(cx.env)?;
    step("asking the keeper");
    let reply = member::ask_status(cx, &vserver)?;
    match &reply {
        Some(Reply::Member {
            condition: Condition::Running,
            init: Some(init),
            device,
            ..
        }) => {
            let entry = mounted(*init, &DIRECTORY.get(cx.env)?)?;
            if let (Some(path), Ok(entry)) = (device, &entry) {
                record::make_up(cx, &vserver, path, Some(entry.device));
            }
            return Ok(entry.map_or_else(State::Failed, |entry| verify(&entry)));
        }
        Some(reply) => match member::judge(reply.clone())? {
            Condition::Absent => {}
            condition => {
                // What is repaired or blocked has its device just as what is mounted: nobody else may use it.
                if let (
                    Condition::Changing(_) | Condition::Degraded(_),
                    Reply::Member {
                        device: Some(path), ..
                    },
                ) = (&condition, reply)
                {
                    record::make_up(cx, &vserver, path, None);
                }
                return Ok(member::state(condition));
            }
        },
        None => {}
    }
    // Without a cell the file system is stopped, unless its device is in use.
    let mut known = Known::new(cx, Some(vserver.clone()));
    if let Some(reply) = &reply {
        known.consider(&vserver, reply);
    }
    known.prove(cx, DYING_LIMIT, false)
}

/// The mount at the directory in the cell with this PID 1, or the reason why there is none.
fn mounted(init: i32, directory: &Path) -> Result<Result<Entry, String>, Error> {
    let table = mountinfo::read_table(Path::new(&format!("/proc/{init}/mountinfo")))?;
    let mut entries = table.into_iter().rev();
    let entry = entries.find(|entry| entry.target == directory);
    Ok(entry.ok_or_else(|| format!("{} is not attached any more", directory.display())))
}

/// The state of a file system that is in service by the keeper's word, according to the kernel.
fn verify(entry: &Entry) -> State {
    let wanted = entry.options.split(',').any(|option| option == "ro");
    if entry.is_read_only() && !wanted {
        return State::Failed(format!(
            "{} has turned read-only after an error",
            entry.target.display()
        ));
    }
    State::Running
}
