//! The protocol between agents and the keeper of a cell: each request on a connection has one reply.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cgroup::Limits;
use super::service::{NfsExport, ServerSpec, SmbShare};
use super::state::CellState;
use crate::cluster::complaint::Member;
use crate::plan::repair::{FsKind, Policy};
use crate::runtime::paths::RUNTIME;
use crate::sys::device::DeviceSpec;
use crate::sys::mount::WrittenOptions;
use crate::types::{IfName, ResourceId, VserverName};

pub(crate) use super::state::{Cause, Condition};

/// The name of every keeper's process.
pub(crate) const KEEPER: &str = "berth-keeper";

/// The directory of `vserver`'s keeper.
pub fn directory(vserver: &VserverName) -> PathBuf {
    Path::new(RUNTIME).join(vserver.as_str())
}

/// The socket that `vserver`'s keeper listens on.
pub fn socket(vserver: &VserverName) -> PathBuf {
    directory(vserver).join("keeper.sock")
}

/// A file system, as its resource's parameters describe it; they have been checked by the agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeSpec {
    /// The block device that it is on.
    pub(crate) device: DeviceSpec,
    /// Where it is attached in the cell.
    pub(crate) directory: PathBuf,
    /// Its type; `None`: whatever the superblock says.
    pub(crate) fstype: Option<FsKind>,
    /// Mount options, as text that is checked when it is read.
    pub(crate) options: WrittenOptions,
    /// How far it may be repaired without a person.
    pub(crate) repair: Policy,
    /// How it is exported.
    pub(crate) export: Exported,
}

/// How a file system is exported.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    /// Over NFS.
    pub(crate) nfs: Option<NfsExport>,
    /// Over SMB.
    pub(crate) smb: Option<SmbShare>,
}

/// A request of an agent to the keeper.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Request {
    /// Attach a file system. Answered when it is attached, or its repair has begun.
    Attach {
        /// Its resource.
        member: Member,
        /// The file system.
        volume: VolumeSpec,
        /// How long the answer may take.
        budget: Duration,
    },
    /// Detach the file system of a resource. Answered when that is done. The cell ends with its last member.
    Detach {
        /// The resource.
        resource: ResourceId,
        /// How long the answer may take.
        budget: Duration,
    },
    /// Change how an attached file system is exported.
    Export {
        /// Its resource.
        resource: ResourceId,
        /// From now on.
        export: Exported,
        /// How long the answer may take.
        budget: Duration,
    },
    /// Start the servers. Answered when they all answer, or wait for their home to be repaired.
    Serve {
        /// Their resource.
        member: Member,
        /// The servers.
        spec: ServerSpec,
        /// Where the file system is attached that holds their state; `None`: the only one there is.
        home: Option<PathBuf>,
        /// How long the answer may take.
        budget: Duration,
    },
    /// Change the limits of the servers' cell. Answered when they are in force.
    Limit {
        /// Their resource.
        resource: ResourceId,
        /// From now on.
        limits: Limits,
        /// How long the answer may take.
        budget: Duration,
    },
    /// End the servers.
    Unserve {
        /// Their resource.
        resource: ResourceId,
        /// Time between asking them to end and killing them, at the most.
        patience: Duration,
        /// How long the answer may take.
        budget: Duration,
    },
    /// What is the condition of a member?
    Status {
        /// Its resource.
        resource: ResourceId,
    },
    /// What is the state of the cell and of all members? Unlike [`Request::Status`], this has nothing tried again, and
    /// notes no report to the cluster. Keepers of older versions refuse it by [`Cause::Version`], and know `Status`
    /// only.
    State,
    /// Do the servers serve all their exports? Answered when they have been asked.
    Inspect {
        /// Their resource.
        resource: ResourceId,
        /// How long the answer may take.
        budget: Duration,
    },
    /// Find the cell. Answered when it is built, with its network namespace.
    Find,
    /// Repeat the announcement of a VIP that has just been announced on a port. The packet socket that was used comes
    /// along.
    Announce {
        /// The VIP.
        vip: IpAddr,
        /// The port.
        port: IfName,
    },
    /// A resource is no longer degraded: have the cluster forget that it was.
    CleanUp {
        /// The resource.
        member: Member,
    },
}

/// The keeper's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// A member, or a resource that was one.
    Member {
        /// Its condition.
        condition: Condition,
        /// The block device of its file system, as it was found, once it is mounted, or not sound; `None` while that
        /// is waited for, or if it has none (any more). Older keepers tell it once it is mounted.
        device: Option<PathBuf>,
        /// The cell's PID 1, as the host numbers it; `None` if there is no cell.
        init: Option<i32>,
        /// Whether the keeper knows [`Request::Inspect`]: older ones hang up on it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        inspects: bool,
    },
    /// The state of the cell and of all members.
    State(Box<CellState>),
    /// There is no cell.
    NoCell,
    /// The request is accepted, and will be carried out.
    Noted,
    /// The cell; the network namespace's descriptor comes along.
    Cell {
        /// The cell's PID 1, as the host numbers it.
        init: i32,
        /// Where its file systems are attached.
        directories: Vec<PathBuf>,
    },
    /// The request is refused.
    Refused {
        /// Whose fault that is.
        cause: Cause,
        /// Why, in one line.
        message: String,
    },
}

impl Reply {
    /// A refusal.
    pub(crate) fn refused(cause: Cause, message: impl Into<String>) -> Self {
        Self::Refused {
            cause,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cell::service::{Access, Ports, Squash};
    use crate::formats;

    /// All that a file system can be told by.
    const WORDS: [&str; 16] = [
        "any type",
        "ext4",
        "xfs",
        "btrfs",
        "never repaired",
        "preened",
        "repaired in full",
        "exported",
        "shared",
        "read-only to NFS",
        "written by NFS",
        "root squashed",
        "all squashed",
        "none squashed",
        "any port",
        "privileged ports",
    ];

    fn words(volume: &VolumeSpec) -> Vec<&'static str> {
        let mut words = vec![
            match volume.fstype {
                None => "any type",
                Some(FsKind::Ext4) => "ext4",
                Some(FsKind::Xfs) => "xfs",
                Some(FsKind::Btrfs) => "btrfs",
            },
            match volume.repair {
                Policy::Never => "never repaired",
                Policy::Preen => "preened",
                Policy::Full => "repaired in full",
            },
        ];
        let Exported { nfs, smb } = &volume.export;
        words.extend(smb.iter().map(|_| "shared"));
        if let Some(export) = nfs {
            words.push("exported");
            words.push(match export.access {
                Access::Ro => "read-only to NFS",
                Access::Rw => "written by NFS",
            });
            words.push(match export.squash {
                Squash::Root => "root squashed",
                Squash::All => "all squashed",
                Squash::None => "none squashed",
            });
            words.push(match export.ports {
                Ports::Any => "any port",
                Ports::Privileged => "privileged ports",
            });
        }
        words
    }

    #[test]
    fn a_file_system_that_makes_no_sense_is_not_taken_from_another_process() {
        let read = |device: &str, options: &str, repair: &str| {
            let text = format!(
                r#"{{"device":"{device}","directory":"/data","fstype":"xfs","options":"{options}","repair":"{repair}","export":{{"nfs":null,"smb":null}}}}"#
            );
            serde_json::from_str::<VolumeSpec>(&text).map(|volume| {
                let again = serde_json::to_string(&volume).unwrap();
                assert_eq!(again, text, "it is passed on as it was written");
            })
        };
        for device in ["/dev/x", "LABEL=data"] {
            read(device, "rw, defaults,noatime", "preen").unwrap();
        }
        for (device, options, repair) in [
            ("/dev/x", "suid", "preen"),
            ("/dev/x", "norecovery", "preen"),
            ("/dev/x", "", "perhaps"),
            ("UUID=2d5a", "", "preen"),
            ("data", "", "preen"),
        ] {
            let read = read(device, options, repair);
            assert!(read.is_err(), "{device} {options} {repair}");
        }
    }

    #[test]
    fn keepers_and_agents_of_all_versions_understand_each_other() {
        let kinds = [
            "attach", "detach", "export", "serve", "limit", "unserve", "status", "inspect", "find",
            "announce", "clean up", "state",
        ];
        let kinds = [&kinds[..], &WORDS].concat();
        formats::check_each("keeper-request.jsonl", &kinds, |request| match request {
            Request::Attach { volume, .. } => [vec!["attach"], words(volume)].concat(),
            Request::Detach { .. } => vec!["detach"],
            Request::Export { .. } => vec!["export"],
            Request::Serve { .. } => vec!["serve"],
            Request::Limit { .. } => vec!["limit"],
            Request::Unserve { .. } => vec!["unserve"],
            Request::Status { .. } => vec!["status"],
            Request::Inspect { .. } => vec!["inspect"],
            Request::Find => vec!["find"],
            Request::Announce { .. } => vec!["announce"],
            Request::CleanUp { .. } => vec!["clean up"],
            Request::State => vec!["state"],
        });
        let kinds = [
            "absent",
            "changing",
            "running",
            "degraded",
            "failed",
            "state",
            "no cell",
            "noted",
            "cell",
            "parameters",
            "node",
            "missing",
            "not done",
            "not understood",
        ];
        formats::check("keeper-reply.jsonl", &kinds, |reply| match reply {
            Reply::Member { condition, .. } => match condition {
                Condition::Absent => "absent",
                Condition::Changing(_) => "changing",
                Condition::Running => "running",
                Condition::Degraded(_) => "degraded",
                Condition::Failed(_) => "failed",
            },
            Reply::State(_) => "state",
            Reply::NoCell => "no cell",
            Reply::Noted => "noted",
            Reply::Cell { .. } => "cell",
            Reply::Refused { cause, .. } => match cause {
                Cause::Parameters => "parameters",
                Cause::Node => "node",
                Cause::Missing => "missing",
                Cause::Failed => "not done",
                Cause::Version => "not understood",
            },
        });
    }
}
