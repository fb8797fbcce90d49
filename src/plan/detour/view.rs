//! The state of this node as far as detours depend on it: its cells, and the subnets and ports by which it reaches
//! other nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::types::{IfName, Label, Mac, NodeName, VserverName};

/// The state of this node as far as detours depend on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodeView {
    /// This node's name in the cluster; `None` while it is not known.
    pub(crate) node: Option<NodeName>,
    /// The virtual servers that have a cell on this node.
    pub(crate) cells: BTreeSet<VserverName>,
    /// The subnets by which other nodes can be reached.
    pub(crate) subnets: Vec<ReachableSubnet>,
    /// Whether no port of some subnet works.
    pub(crate) lost_subnet: bool,
    /// How often other nodes are probed.
    pub(crate) interval: Duration,
    /// How long another node may leave probes without a reply before its path counts as broken.
    pub(crate) patience: Duration,
}

impl NodeView {
    /// The port of this name, if it works.
    pub(crate) fn port(&self, name: &str) -> Option<&TransitPort> {
        let mut ports = self.subnets.iter().flat_map(|subnet| &subnet.ports);
        ports.find(|port| port.name == name)
    }
}

/// A subnet, as far as other nodes can be reached over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReachableSubnet {
    /// Its name.
    pub(crate) name: Label,
    /// Its networks.
    pub(crate) nets: Vec<IpNetwork>,
    /// This node's working ports on the subnet, those with an address first, the best of them foremost.
    pub(crate) ports: Vec<TransitPort>,
    /// This node's addresses on it.
    pub(crate) own: Vec<IpAddr>,
    /// The other nodes' addresses on it, by their names.
    pub(crate) peers: BTreeMap<NodeName, Vec<IpAddr>>,
}

impl ReachableSubnet {
    /// Whether another node can have this address on the subnet.
    pub(crate) fn fits(&self, ip: IpAddr) -> bool {
        let local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let inside = self.nets.iter().any(|net| net.contains(ip));
        (local || inside) && !self.own.contains(&ip)
    }
}

/// A port by which other nodes can be reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransitPort {
    /// Its name.
    pub(crate) name: IfName,
    /// Its index.
    pub(crate) index: u32,
    /// Its Ethernet address.
    pub(crate) mac: Mac,
    /// Its own addresses on the subnet.
    pub(crate) own: Vec<IpAddr>,
}

impl TransitPort {
    /// The port's first address of the family of `ip`: addresses that were configured come before link-local ones.
    pub(crate) fn own_like(&self, ip: IpAddr) -> Option<IpAddr> {
        let mut own = self.own.iter().copied();
        own.find(|own| own.is_ipv4() == ip.is_ipv4())
    }
}
