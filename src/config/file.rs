//! What `berth.toml` says, after it was read and checked.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

pub use super::reader::At;
use crate::cell::cgroup::Limits;
use crate::cell::cgroup::limits::MemoryMax;
use crate::cell::filter::Call;

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config {
    /// Networks in the order of the file.
    pub subnets: Vec<Subnet>,
    /// Nodes in the order of the file.
    pub nodes: Vec<Node>,
    /// How ports are watched.
    pub portwatch: Portwatch,
    /// Storage units in the order of the file.
    pub units: Vec<Unit>,
    /// Virtual servers in the order of the file.
    pub vservers: Vec<Vserver>,
}

/// A network that clients sit on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subnet {
    /// Its name.
    pub name: At<String>,
    /// Its IPv4 or IPv6 network, or both.
    pub nets: Vec<Net>,
    /// Hosts to probe besides the routers and the other nodes.
    pub targets: Vec<At<IpAddr>>,
}

/// One address range of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Net {
    /// The range.
    pub cidr: IpNetwork,
    /// The router in it.
    pub gateway: Option<IpAddr>,
}

/// A node of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name in Pacemaker.
    pub name: At<String>,
    /// Interface and the name of the subnet it is on.
    pub ports: Vec<(At<String>, At<String>)>,
}

/// How ports are watched; what is not given is the agent's to decide.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Portwatch {
    /// Time from one probe to the next, milliseconds.
    pub interval: Option<u32>,
    /// Silent intervals until a port has failed.
    pub fail_after: Option<u32>,
    /// How long a failed port has to be good until it is used again, seconds.
    pub recover_after: Option<u32>,
    /// Difference in load from which an address changes its port, percent of the port's speed.
    pub balance: Option<u32>,
}

/// A storage unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub name: At<String>,
    /// Devices on it.
    pub probe: Vec<At<String>>,
}

/// A server that a cell can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Service {
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
    pub priority: u32,
    /// The only node it may run on.
    pub stay_on: Option<At<String>>,
    /// Servers to run.
    pub services: Vec<Service>,
    /// A further program.
    pub command: Option<String>,
    /// The admin's snippets.
    pub config_dir: Option<String>,
    /// System calls that its servers may make besides.
    pub allow_calls: Vec<Call>,
    /// NFSv4 lease, seconds.
    pub nfs_lease: Option<u32>,
    /// NFSv4 grace period, seconds.
    pub nfs_grace: Option<u32>,
    /// Connections at once, by each protocol.
    pub max_connections: Option<u32>,
    /// Those of one client.
    pub max_connections_per_client: Option<u32>,
    /// Time for the servers to end, seconds.
    pub stop_timeout: Option<u32>,
    /// The most memory that they may have.
    pub memory_max: Option<MemoryMax>,
    /// The most processes and threads that they may have.
    pub pids_max: Option<u32>,
    /// Their share of processors.
    pub cpu_weight: Option<u32>,
    /// Their share of disks.
    pub io_weight: Option<u32>,
    /// Its addresses.
    pub vips: Vec<Vip>,
    /// Its file systems; exactly one is home.
    pub filesystems: Vec<Filesystem>,
}

impl Vserver {
    /// What its cell may use.
    pub fn limits(&self) -> Limits {
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
    pub fn home(&self) -> Option<&Filesystem> {
        self.filesystems.iter().find(|f| f.home)
    }
}

/// What happens to an address whose subnet its node has lost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum OnSubnetLoss {
    /// Another node takes the address and routes to the virtual server.
    #[default]
    Reroute,
    /// The virtual server moves to a node that has the subnet.
    Migrate,
}

/// How the way to an address is made known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Announce {
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
    pub subnet: Option<At<String>>,
    /// The router that was named for it.
    pub gateway: Option<At<IpAddr>>,
    /// The interfaces that were named for it.
    pub ports: Vec<At<String>>,
    /// What happens when the subnet is lost.
    pub on_subnet_loss: OnSubnetLoss,
    /// How the way to it is made known.
    pub announce: Announce,
}

/// A file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// Last part of its resource's id.
    pub name: At<String>,
    /// Path, `UUID=` or `LABEL=`.
    pub device: At<String>,
    /// Where it is attached in the cell.
    pub path: At<String>,
    /// Whether the servers' state is on it.
    pub home: bool,
    /// `ext4`, `xfs` or `btrfs`.
    pub fstype: Option<&'static str>,
    /// Mount options.
    pub options: Option<String>,
    /// The storage unit it is on.
    pub unit: Option<At<String>>,
    /// `never`, `preen` or `full`.
    pub repair: Option<&'static str>,
    /// NFS export.
    pub nfs: Option<Nfs>,
    /// SMB share.
    pub smb: Option<Smb>,
}

/// An NFS export.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nfs {
    /// Who may mount it.
    pub clients: Vec<String>,
    /// `rw` or `ro`.
    pub access: Option<&'static str>,
    /// `root`, `all` or `none`.
    pub squash: Option<&'static str>,
    /// `privileged` or `any`.
    pub ports: Option<&'static str>,
}

/// An SMB share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Smb {
    /// Its name.
    pub share: At<String>,
    /// Who may use it; empty means everybody the server knows.
    pub users: Vec<String>,
}
