//! The content of `berth.toml`, read and checked.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

pub(crate) use super::reader::At;
use crate::cell::cgroup::Limits;
use crate::cell::cgroup::limits::MemoryMax;
use crate::cell::filter::Call;

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Networks in the order of the file.
    pub(crate) subnets: Vec<Subnet>,
    /// Nodes in the order of the file.
    pub(crate) nodes: Vec<Node>,
    /// How ports are watched.
    pub(crate) portwatch: Portwatch,
    /// Storage units in the order of the file.
    pub(crate) units: Vec<Unit>,
    /// Virtual servers in the order of the file.
    pub vservers: Vec<Vserver>,
}

/// A network that clients sit on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Subnet {
    /// Its name.
    pub(crate) name: At<String>,
    /// Its IPv4 or IPv6 network, or both.
    pub(crate) nets: Vec<Net>,
    /// Hosts to probe besides the routers and the other nodes.
    pub(crate) targets: Vec<At<IpAddr>>,
}

/// One address range of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Net {
    /// The range.
    pub(crate) cidr: IpNetwork,
    /// The router in it.
    pub(crate) gateway: Option<IpAddr>,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// Its name in Pacemaker.
    pub(crate) name: At<String>,
    /// Interface and the name of the subnet it is on.
    pub(crate) ports: Vec<(At<String>, At<String>)>,
}

/// How ports are watched; what is not given is the agent's to decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Portwatch {
    /// Time from one probe to the next, milliseconds.
    pub(crate) interval: Option<u32>,
    /// Silent intervals until a port has failed.
    pub(crate) fail_after: Option<u32>,
    /// How long a failed port has to be good until it is used again, seconds.
    pub(crate) recover_after: Option<u32>,
    /// Difference in load from which an address changes its port, percent of the port's speed.
    pub(crate) balance: Option<u32>,
}

/// A storage unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Its name.
    pub(crate) name: At<String>,
    /// Devices on it.
    pub(crate) probe: Vec<At<String>>,
}

/// A server that a cell can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    /// NFS-Ganesha.
    Nfs,
    /// Samba.
    Smb,
}

/// A virtual server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vserver {
    /// Its name.
    pub name: At<String>,
    /// Higher fails over first.
    pub(crate) priority: u32,
    /// The only node it may run on.
    pub(crate) stay_on: Option<At<String>>,
    /// Servers to run.
    pub(crate) services: Vec<Service>,
    /// A further program.
    pub(crate) command: Option<String>,
    /// The admin's snippets.
    pub(crate) config_dir: Option<String>,
    /// System calls that its servers may make besides.
    pub(crate) allow_calls: Vec<Call>,
    /// NFSv4 lease, seconds.
    pub(crate) nfs_lease: Option<u32>,
    /// NFSv4 grace period, seconds.
    pub(crate) nfs_grace: Option<u32>,
    /// Connections at once, by each protocol.
    pub(crate) max_connections: Option<u32>,
    /// Those of one client.
    pub(crate) max_connections_per_client: Option<u32>,
    /// Time for the servers to end, seconds.
    pub(crate) stop_timeout: Option<u32>,
    /// The most memory that they may have.
    pub(crate) memory_max: Option<MemoryMax>,
    /// The most processes and threads that they may have.
    pub(crate) pids_max: Option<u32>,
    /// Their share of processors.
    pub(crate) cpu_weight: Option<u32>,
    /// Their share of disks.
    pub(crate) io_weight: Option<u32>,
    /// Its addresses.
    pub vips: Vec<Vip>,
    /// Its file systems; exactly one is home.
    pub filesystems: Vec<Filesystem>,
}

impl Vserver {
    /// The limits of its cell.
    pub(crate) fn limits(&self) -> Limits {
        let checked = |value: Option<u32>| value.and_then(|v| v.try_into().ok());
        Limits {
            memory_max: self.memory_max.unwrap_or_default(),
            pids_max: self
                .pids_max
                .and_then(|v| v.try_into().ok())
                .unwrap_or_default(),
            cpu_weight: checked(self.cpu_weight).unwrap_or_default(),
            io_weight: checked(self.io_weight).unwrap_or_default(),
        }
    }

    /// The file system that the servers' state is on.
    pub(crate) fn home(&self) -> Option<&Filesystem> {
        self.filesystems.iter().find(|f| f.home)
    }
}

/// What happens to an address whose subnet its node has lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum OnSubnetLoss {
    /// Another node takes the address and routes to the virtual server.
    #[default]
    Reroute,
    /// The virtual server moves to a node that has the subnet.
    Migrate,
}

/// How the way to an address is made known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Announce {
    /// On its own subnet only.
    #[default]
    Arp,
    /// To a routing daemon too.
    Route,
}

/// A virtual address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vip {
    /// The address.
    pub ip: At<IpAddr>,
    /// The subnet that was named for it.
    pub(crate) subnet: Option<At<String>>,
    /// The router that was named for it.
    pub(crate) gateway: Option<At<IpAddr>>,
    /// The interfaces that were named for it.
    pub(crate) ports: Vec<At<String>>,
    /// What happens when the subnet is lost.
    pub(crate) on_subnet_loss: OnSubnetLoss,
    /// How the way to it is made known.
    pub(crate) announce: Announce,
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// Last part of its resource's id.
    pub(crate) name: At<String>,
    /// Path, `UUID=` or `LABEL=`.
    pub(crate) device: At<String>,
    /// Where it is attached in the cell.
    pub(crate) path: At<String>,
    /// Whether the servers' state is on it.
    pub(crate) home: bool,
    /// `ext4`, `xfs` or `btrfs`.
    pub(crate) fstype: Option<&'static str>,
    /// Mount options.
    pub(crate) options: Option<String>,
    /// The storage unit it is on.
    pub(crate) unit: Option<At<String>>,
    /// `never`, `preen` or `full`.
    pub(crate) repair: Option<&'static str>,
    /// NFS export.
    pub(crate) nfs: Option<Nfs>,
    /// SMB share.
    pub(crate) smb: Option<Smb>,
}

/// An NFS export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Nfs {
    /// Who may mount it.
    pub(crate) clients: Vec<String>,
    /// `rw` or `ro`.
    pub(crate) access: Option<&'static str>,
    /// `root`, `all` or `none`.
    pub(crate) squash: Option<&'static str>,
    /// `privileged` or `any`.
    pub(crate) ports: Option<&'static str>,
}

/// An SMB share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Smb {
    /// Its name.
    pub(crate) share: At<String>,
    /// Who may use it; empty means everybody the server knows.
    pub(crate) users: Vec<String>,
}
