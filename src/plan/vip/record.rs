//! What a node has on record of a VIP: what it was asked for, and what the node does for it.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use super::{Behind, Detour, NextHop, Request, cell_link};
use crate::types::Mac;

/// What a VIP's parameters ask for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VipSpec {
    /// The vserver.
    pub vserver: String,
    /// The VIP.
    pub vip: IpAddr,
    /// Its subnet.
    pub subnet: Option<IpNetwork>,
    /// The gateway out of it.
    pub gateway: Option<IpAddr>,
    /// The ports it may be served through.
    pub ports: Option<Vec<String>>,
    /// Whether a routing daemon announces its route.
    pub routed: bool,
    /// Whether another node may route for it.
    #[serde(default)]
    pub reroute: bool,
}

impl VipSpec {
    /// What the plan is asked for where the VIP's cell is on this node.
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
    pub(crate) node: String,
    /// The subnet between the two.
    pub(crate) subnet: String,
    /// This node's port on it.
    pub(crate) port: String,
    /// The other node's address on it.
    pub(crate) address: IpAddr,
    /// The Ethernet addresses that answer for it: a node with several ports on the subnet may answer by
    /// all of them.
    pub(crate) macs: Vec<Mac>,
    /// This node's own address on it.
    pub(crate) own: IpAddr,
}

/// The next hop from the node with a VIP's cell: the node that routes for the VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouterHop {
    /// The node that routes.
    pub(crate) node: String,
    /// The subnet between the two.
    pub(crate) net: IpNetwork,
    /// This node's ports on it.
    pub(crate) ports: Vec<String>,
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
    /// It should, but can't, for this reason.
    Stranded(String),
    /// It routed up to now, and passes on what is still coming.
    Ending(TransitPath),
    /// It has the cell, and another node routes, or is about to if none is named. Such a record is
    /// portwatch's: the resource runs on that node.
    Detour(Option<RouterHop>),
}

/// A VIP's record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What it was started with.
    #[serde(rename = "wish")]
    pub(crate) spec: VipSpec,
    /// Whether it has been started: up to then, and from a stop on, its ports are not to be touched
    /// but by its own agent.
    pub(crate) serving: bool,
    /// Whether the cluster was told that it is degraded.
    #[serde(default)]
    pub(crate) degraded: bool,
    /// What this node does for it.
    #[serde(default)]
    pub(crate) role: Role,
    /// The Ethernet address of somebody who claimed it too when it was started, or was looked at last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) claimed: Option<Mac>,
}

/// What the record of a VIP that another node routes for is called, in place of a resource.
pub(crate) fn detour_name(vip: IpAddr) -> String {
    format!("@{vip}")
}

/// Whether a record of this name is a resource's.
pub(crate) fn is_resource(name: &str) -> bool {
    !name.starts_with('@')
}

impl Record {
    /// The VIP's record in this role, before anything was done for it.
    pub(crate) fn new(spec: &VipSpec, role: Role) -> Self {
        Self {
            spec: spec.clone(),
            serving: false,
            degraded: false,
            role,
            claimed: None,
        }
    }

    /// What the plan is asked for.
    pub(crate) fn request(&self) -> Request {
        let mut request = self.spec.request();
        match &self.role {
            Role::Router(path) | Role::Ending(path) => {
                request.behind = Behind::Node(NextHop {
                    link: path.port.clone(),
                    address: path.address,
                    macs: path.macs.clone(),
                });
                // What came in by another subnet's port would not be passed on.
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
