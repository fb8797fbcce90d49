//! What the daemon knows of its node, for people and tests, which need not read the log.
//!
//! The program that asks may be of an earlier version than the daemon: it skips fields that it does not know, and reads
//! variants that it does not know as `Unknown`.

mod bounds;
#[cfg(test)]
pub(crate) mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::plan::detour::Overview;
use crate::plan::mover::Mover;
use crate::plan::vip::record::{Record, Role, RouterHop, TransitPath};
use crate::types::{BitRate, IfName, Label, Mac, Milliseconds, NodeName, VserverName};

/// The node at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeState {
    /// The node's name in the cluster, if it is known.
    pub(crate) node: Option<NodeName>,
    /// The ports, by their names.
    pub(crate) ports: BTreeMap<IfName, PortState>,
    /// The subnets of the ports, by their names.
    pub(crate) subnets: BTreeMap<Label, SubnetState>,
    /// The VIPs on record, by their resources; a VIP that another node routes for is called `@` and its address.
    pub(crate) vips: BTreeMap<String, VipState>,
    /// What is known of detours beside the records.
    pub(crate) detours: Overview,
    /// The attributes that the node publishes, by their names.
    pub(crate) attributes: BTreeMap<String, AttributeState>,
    /// What is wrong with the ports, in one line.
    pub(crate) trouble: Option<String>,
    /// Why not everything could be published; `None` if it was.
    pub(crate) unpublished: Option<String>,
    /// How many entries were left out of the lists above because they would not fit into a message.
    pub(crate) omitted: usize,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortState {
    /// The name of the port's subnet.
    pub(crate) subnet: Label,
    /// The port's condition.
    pub(crate) condition: Condition,
    /// Whether the port counts as good in what is published.
    pub(crate) good: bool,
    /// The port's speed, if it is known.
    pub(crate) speed_bits_per_second: Option<BitRate>,
    /// The traffic of all VIPs at the port, as last measured.
    pub(crate) load_bits_per_second: BitRate,
    /// The addresses that are probed through the port.
    pub(crate) targets: Vec<TargetState>,
}

/// The condition of a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum Condition {
    /// The port works.
    Good,
    /// The port works, but has failed often of late.
    Flapping,
    /// A reply is overdue.
    Suspect,
    /// The port works again, and must go on working for a while before it counts as good.
    Held {
        /// For how much longer.
        left_ms: Milliseconds,
    },
    /// The port doesn't work.
    Failed {
        /// Why.
        why: Failure,
    },
    /// The node has no such interface.
    Missing,
    /// The port is part of a bond or a bridge, which takes all packets that come in by it.
    PartOf {
        /// The name of the bond or bridge.
        interface: IfName,
    },
    /// Something of which only a later version knows.
    #[serde(other)]
    Unknown,
}

/// Why a port has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Failure {
    /// The port has no carrier.
    Carrier,
    /// The port has carrier, but no target replies through it.
    Silent,
    /// Something of which only a later version knows.
    #[serde(other)]
    Unknown,
}

/// An address that is probed through a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TargetState {
    /// The address.
    pub(crate) address: IpAddr,
    /// How long ago its last reply came; `None` if none has come yet.
    pub(crate) answered_ms_ago: Option<Milliseconds>,
}

/// A subnet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SubnetState {
    /// The subnet's networks.
    pub(crate) nets: Vec<IpNetwork>,
    /// How long ago this node's last port on the subnet failed; `None` if one works.
    pub(crate) lost_ms_ago: Option<Milliseconds>,
    /// Whether targets reply.
    pub(crate) hearing: Hearing,
}

/// Whether targets of a subnet reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Hearing {
    /// Targets reply to this node.
    Answers,
    /// No target replies to this node, and it is not known yet whether any replies to another one.
    InDoubt,
    /// No target replies to this node, but one replies to another node.
    OnlyElsewhere,
    /// No target replies to any node.
    Nowhere,
    /// Something of which only a later version knows.
    #[serde(other)]
    Unknown,
}

/// A VIP on record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct VipState {
    /// The VIP.
    pub(crate) address: IpAddr,
    /// The name of its virtual server.
    pub(crate) vserver: VserverName,
    /// What this node does for the VIP.
    pub(crate) role: RoleState,
    /// Whether the VIP has been started, and no stop of it has begun.
    pub(crate) serving: bool,
    /// Whether the VIP's agent has reported it to the cluster as degraded.
    pub(crate) degraded: bool,
    /// The port that answers for the VIP, as last seen.
    pub(crate) port: Option<IfName>,
    /// The VIP's traffic, as last measured.
    pub(crate) load_bits_per_second: BitRate,
    /// The Ethernet address of a stranger that claimed the VIP, too.
    pub(crate) claimed_by: Option<Mac>,
}

/// What a node does for a VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub(crate) enum RoleState {
    /// It has the cell and serves the VIP.
    Home,
    /// It answers for the VIP and routes to the node with the cell.
    Router {
        /// The path to that node.
        path: PathState,
    },
    /// It has the cell, and another node answers for the VIP and routes.
    Detour {
        /// The node that routes; `None` if it is not known yet.
        router: Option<HopState>,
    },
    /// It should route, but has no path.
    Stranded {
        /// Why.
        why: String,
    },
    /// It has routed, and forwards what still arrives.
    Ending {
        /// The path that this takes.
        path: PathState,
    },
    /// Something of which only a later version knows.
    #[serde(other)]
    Unknown,
}

/// The path to the node with a VIP's cell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PathState {
    /// The node with the cell.
    pub(crate) node: NodeName,
    /// The subnet between the two.
    pub(crate) subnet: Label,
    /// This node's port on it.
    pub(crate) port: IfName,
    /// The other node's address on it.
    pub(crate) address: IpAddr,
}

/// The node that routes for a VIP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HopState {
    /// The node's name.
    pub(crate) node: NodeName,
    /// The node's address on the subnet between the two.
    pub(crate) address: IpAddr,
    /// This node's ports on the subnet between the two.
    pub(crate) ports: Vec<IfName>,
}

/// An attribute that the node publishes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AttributeState {
    /// The value; `None` if it is to be deleted.
    pub(crate) value: Option<String>,
    /// Whether that was published.
    pub(crate) told: bool,
}

impl From<&TransitPath> for PathState {
    fn from(path: &TransitPath) -> Self {
        Self {
            node: path.node.clone(),
            subnet: path.subnet.clone(),
            port: path.port.clone(),
            address: path.address,
        }
    }
}

impl From<&RouterHop> for HopState {
    fn from(hop: &RouterHop) -> Self {
        Self {
            node: hop.node.clone(),
            address: hop.router,
            ports: hop.ports.clone(),
        }
    }
}

impl From<&Role> for RoleState {
    fn from(role: &Role) -> Self {
        match role {
            Role::Home => Self::Home,
            Role::Router(path) => Self::Router { path: path.into() },
            Role::Stranded(why) => Self::Stranded { why: why.clone() },
            Role::Ending(path) => Self::Ending { path: path.into() },
            Role::Detour(hop) => Self::Detour {
                router: hop.as_ref().map(HopState::from),
            },
        }
    }
}

/// The VIPs on record, with the port, load and claimant of each.
pub(crate) fn vips(
    records: &BTreeMap<String, Record>,
    mover: &Mover,
) -> BTreeMap<String, VipState> {
    let vip = |record: &Record| VipState {
        address: record.spec.vip,
        vserver: record.spec.vserver.clone(),
        role: (&record.role).into(),
        serving: record.serving,
        degraded: record.degraded,
        port: mover.placed().get(&record.spec.vip).cloned().flatten(),
        load_bits_per_second: mover.load(record.spec.vip),
        claimed_by: record.claimed,
    };
    let records = records.iter();
    records
        .map(|(name, record)| (name.clone(), vip(record)))
        .collect()
}

impl NodeState {
    /// The state with `trouble` filled in from the other fields. To be called before [`Self::bounded`] leaves anything
    /// out.
    pub(crate) fn with_trouble(self) -> Self {
        Self {
            trouble: trouble(&self),
            ..self
        }
    }

    /// How many VIPs the port answers for.
    fn vips_at(&self, port: &str) -> usize {
        let here = self.vips.values();
        let here = here.filter(|vip| vip.port.as_deref() == Some(port));
        // A VIP that is being handed over has two records.
        here.map(|vip| vip.address).collect::<BTreeSet<_>>().len()
    }
}

/// What is wrong with the ports, in one line, which `crm_mon` shows: `eth1 down, 2 VIPs on eth2`.
fn trouble(state: &NodeState) -> Option<String> {
    let (mut words, mut subnets) = (Vec::new(), BTreeSet::new());
    for (name, port) in &state.ports {
        let word = match &port.condition {
            Condition::PartOf { interface } => part_of(name, interface),
            Condition::Missing => format!("{name} missing"),
            Condition::Failed {
                why: Failure::Carrier,
            } => format!("{name} down"),
            Condition::Failed {
                why: Failure::Silent,
            } => format!("{name} silent"),
            Condition::Held { .. } => format!("{name} recovering"),
            Condition::Flapping => format!("{name} flapping"),
            Condition::Good
            | Condition::Suspect
            | Condition::Unknown
            | Condition::Failed {
                why: Failure::Unknown,
            } => continue,
        };
        words.push(word);
        subnets.insert(&port.subnet);
    }
    for (name, subnet) in &state.subnets {
        let mut ports = state.ports.values().filter(|port| port.subnet == *name);
        if subnet.hearing == Hearing::Nowhere && ports.any(|port| !port.targets.is_empty()) {
            words.push(format!("no target of {name} answers at any node"));
        }
    }
    if words.is_empty() {
        return None;
    }
    for (name, port) in &state.ports {
        let vips = state.vips_at(name);
        if vips > 0 && subnets.contains(&port.subnet) {
            let plural = if vips == 1 { "" } else { "s" };
            words.push(format!("{vips} VIP{plural} on {name}"));
        }
    }
    Some(words.join(", "))
}

/// Why a port that is part of a bond or a bridge can't serve addresses.
pub(crate) fn part_of(port: &str, master: &str) -> String {
    format!("{port} is part of {master}: name {master}")
}
