//! The record that a node keeps of a VIP: its parameters, and what the node does for it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{Behind, Detour, NextHop, Request, cell_link};
use crate::types::{IfName, Label, Mac, NodeName, VserverName};

/// What a VIP's parameters ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipSpec {
    /// The vserver.
    pub vserver: VserverName,
    /// The VIP.
    pub vip: IpAddr,
    /// The VIP's subnet, if it is given.
    pub subnet: Option<IpNetwork>,
    /// The gateway out of the subnet.
    pub gateway: Option<IpAddr>,
    /// The ports that the VIP may be served through.
    pub ports: Option<Vec<IfName>>,
    /// Whether a routing daemon announces the VIP's route.
    pub routed: bool,
    /// Whether another node may route for the VIP.
    #[serde(default)]
    pub reroute: bool,
}

impl VipSpec {
    /// The request to the plan if the VIP's cell is on this node.
    pub(crate) fn request(&self) -> Request {
        Request {
            vip: self.vip,
            behind: Behind::Cell(cell_link(&self.vserver)),
            subnet: self.subnet,
            gateway: self.gateway,
            ports: self.ports.clone(),
            routed: self.routed,
            prefer: None,
            detour: None,
        }
    }
}

/// The path from a node that routes for a VIP to the node with its cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransitPath {
    /// The node with the cell.
    pub(crate) node: NodeName,
    /// The subnet between the two.
    pub(crate) subnet: Label,
    /// This node's port on it.
    pub(crate) port: IfName,
    /// The other node's address on it.
    pub(crate) address: IpAddr,
    /// The Ethernet addresses that reply for that address: a node with several ports on the subnet may reply by all of
    /// them.
    pub(crate) macs: Vec<Mac>,
    /// This node's own address on it.
    pub(crate) own: IpAddr,
}

/// The next hop from the node with a VIP's cell: the node that routes for the VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterHop {
    /// The node that routes.
    pub(crate) node: NodeName,
    /// The subnet between the two.
    pub(crate) net: IpNetwork,
    /// This node's ports on it.
    pub(crate) ports: Vec<IfName>,
    /// The other node's address on it.
    pub(crate) router: IpAddr,
}

/// What this node does for a VIP.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    /// It has the cell and serves the VIP.
    #[default]
    Home,
    /// It routes to the node with the cell.
    Router(TransitPath),
    /// It should route, but can't, for this reason.
    Stranded(String),
    /// It has routed, and forwards what still arrives.
    Ending(TransitPath),
    /// It has the cell, and another node routes, or is about to if none is named. portwatch keeps such a record: the
    /// resource runs on that other node.
    Detour(Option<RouterHop>),
}

/// A VIP's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The parameters that the VIP was started with.
    #[serde(rename = "wish")]
    pub(crate) spec: VipSpec,
    /// Whether the VIP has been started. Before that, and once a stop has begun, only the VIP's own agent may change
    /// it.
    pub(crate) serving: bool,
    /// Whether the VIP was reported to the cluster as degraded.
    #[serde(default)]
    pub(crate) degraded: bool,
    /// What this node does for it.
    #[serde(default)]
    pub(crate) role: Role,
    /// The Ethernet address of another claimant of the VIP, as of its start or the last look for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) claimed: Option<Mac>,
}

/// The name of the record of a VIP that another node routes for: it is no resource of this node.
pub(crate) fn detour_name(vip: IpAddr) -> String {
    format!("@{vip}")
}

/// Whether a record of this name is a resource's.
pub(crate) fn is_resource(name: &str) -> bool {
    !name.starts_with('@')
}

impl Record {
    /// The VIP's record in this role, before anything is done for it.
    pub(crate) fn new(spec: &VipSpec, role: Role) -> Self {
        Self {
            spec: spec.clone(),
            serving: false,
            degraded: false,
            role,
            claimed: None,
        }
    }

    /// The request to the plan, by what this node does for the VIP.
    pub(crate) fn request(&self) -> Request {
        let mut request = self.spec.request();
        match &self.role {
            Role::Router(path) | Role::Ending(path) => {
                request.behind = Behind::Node(NextHop {
                    link: path.port.clone(),
                    address: path.address,
                    macs: path.macs.clone(),
                });
                // Packets that come in by another subnet's port would not be forwarded.
                request.routed = false;
            }
            Role::Detour(Some(hop)) => {
                request.detour = Some(Detour {
                    ports: hop.ports.clone(),
                    subnet: hop.net,
                    router: hop.router,
                });
            }
            Role::Home | Role::Stranded(_) | Role::Detour(None) => {}
        }
        request
    }
}
